"""Following: the index's writer as a process of its own, kept alive.

WHY a process: on the gateway's own core and behind its interpreter's lock, each record that is indexed would take from
the next decision. It ends when the gateway's end of a pipe is closed, however the gateway ended.
"""

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from gateway.audit.index.follower import Follower, IndexState
from gateway.audit.index.lookup import Lookup
from gateway.audit.index.schema import remove_index
from gateway.audit.query import LogReader

FIRST_S = 0.5  # so that a home that is opened for one question starts nothing
_RESTART_S = (0.25, 30.0)
_STEADY_S = 60.0
_END_S = 5.0
_log = logging.getLogger("hearthgate")


class Following:
    """Keeps a process alive that keeps the index of a folder's log up to date, between `start` and `stop`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._reader = LogReader(folder)
        self._process: subprocess.Popen[bytes] | None = None
        self._starting = threading.Lock()  # held while another process, or none, is to write the index
        self._stopping = threading.Event()
        self._why: str | None = None
        self._thread = threading.Thread(target=self._run, name="audit-index", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """End after the batch under way."""
        self._stopping.set()
        with self._starting:
            self._end()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def pid(self) -> int | None:
        """The process that follows, None while there is none."""
        process = self._process
        return None if process is None else process.pid

    @property
    def state(self) -> IndexState:
        """How far it is."""
        index = Lookup.open(self._folder)
        try:
            indexed = 0 if index is None else index.size
        finally:
            if index is not None:
                index.close()
        return IndexState(indexed=indexed, records=self._reader.extent()[1], why=self._why)

    def rebuild(self) -> None:
        """Delete the index and begin anew; returns as soon as it is deleted."""
        with self._nobody_writing():
            remove_index(self._folder)

    def forget(self, user: str | None, seqs: Sequence[int]) -> None:
        """Take a person out of the index, once the log no longer has their values in the records `seqs`.

        Returns only when nothing of what was erased is left in the index's files.

        Raises:
            OSError: the files can neither be mended nor deleted.

        """
        with self._nobody_writing():
            # INVARIANT: what the process had read before the log forgot is in the index by now, or nowhere.
            here = Follower(self._folder)
            try:
                here.forget(user, seqs)
            finally:
                here.stop()

    @contextmanager
    def _nobody_writing(self) -> Iterator[None]:
        with self._starting:
            self._end()
            yield

    def _run(self) -> None:
        self._stopping.wait(FIRST_S)
        wait_s, longest_s = _RESTART_S
        while True:
            began = time.monotonic()
            with self._starting:
                if self._stopping.is_set():
                    return
                process = self._begin()
            self._listen(process)
            if self._ended(process, _END_S) == 0:
                continue  # WHY: it was told to end, by somebody who held it off meanwhile
            wait_s = _RESTART_S[0] if time.monotonic() - began > _STEADY_S else min(wait_s * 2, longest_s)
            self._why = f"the process that fills it ended with {process.returncode}"
            _log.error("%s: it is started again", self._why)
            self._stopping.wait(wait_s)

    def _begin(self) -> subprocess.Popen[bytes]:
        # SECURITY: `-P`, for a folder that the gateway was started in is no place to take code from.
        command = [sys.executable, "-P", "-m", "gateway.audit.index", str(self._folder)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603 (own words)
        return self._process

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        """Hear why it cannot go on, or that it does, until it ends."""
        if process.stdout is None:
            return
        with process.stdout as told:
            for line in told:
                self._why = json.loads(line)["why"]
                if self._why is not None:
                    _log.warning("the index over the decision log does not follow: %s", self._why)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            self._ended(process, _END_S)

    @staticmethod
    def _ended(process: subprocess.Popen[bytes], within_s: float) -> int:
        """Have a process end, and give what it ended with."""
        if process.stdin is not None:
            with suppress(OSError):
                process.stdin.close()
        try:
            return process.wait(within_s)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()
