"""The traffic log: transfers under way, and those that are over, written in batches beside the calls.

It is not the decision log: every decision is durable there before a byte moves. What is here tells how much
moved, may lack the last second after a crash, and slows no call down.
"""

import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from gateway.errors import UnavailableError
from gateway.traffic.store import delete_ended_before, delete_surplus, delete_user, insert, microseconds, open_store
from gateway.traffic.transfer import Passage, Start, Transfer

MAX_WAITING = 20_000
_log = logging.getLogger("hearthgate.traffic")


class TrafficLog:
    """Takes transfers from the event loop and writes them when told to; a full queue drops and counts.

    `flush` and `forget` may be called from any thread.
    """

    def __init__(self, path: Path, *, keep_days: int, max_entries: int, paths: bool = False) -> None:
        self.keep_days, self.max_entries, self.paths = keep_days, max_entries, paths
        self.dropped = 0
        self.problem: str | None = None  # why it cannot be written
        self._connection = open_store(path)
        self._writing = threading.Lock()
        self._waiting: deque[Transfer] = deque()
        self._active: dict[int, Passage] = {}

    @property
    def waiting(self) -> int:
        """How many transfers are over and not written yet."""
        return len(self._waiting)

    @property
    def active(self) -> tuple[Passage, ...]:
        """The transfers under way, the oldest first."""
        return tuple(self._active.values())

    def begin(self, start: Start) -> Passage:
        """Begin a transfer; it is under way until its `end` is called."""
        passage = Passage(start=start, closed=self._close)
        self._active[id(passage)] = passage
        return passage

    def _close(self, passage: Passage, transfer: Transfer) -> None:
        if self._active.pop(id(passage), None) is None:
            return
        if len(self._waiting) >= MAX_WAITING:
            self.dropped += 1
            return
        self._waiting.append(transfer)

    def flush(self, at: datetime) -> None:
        """Write what waits, and delete what is kept no longer at that moment; a failure is told and tried again."""
        with self._writing:
            taken = [self._waiting.popleft() for _ in range(len(self._waiting))]
            try:
                insert(self._connection, taken)
                delete_ended_before(self._connection, microseconds(at - timedelta(days=self.keep_days)))
                delete_surplus(self._connection, self.max_entries)
            except sqlite3.Error as error:
                self._waiting.extendleft(reversed(taken))
                self._tell(str(error))
            else:
                self._tell(None)

    def forget(self, user: str, names: Callable[[str], bool]) -> int:
        """Delete every transfer on behalf of a user, and their bytes from the files; gives how many.

        Transfers on behalf of others lose a path or host of which `names` says that it names the user.

        Raises:
            UnavailableError: the database does not take it.
        """
        with self._writing:
            # INVARIANT: what is under way for that user is not written either when it ends.
            for key, passage in tuple(self._active.items()):
                if passage.start.user == user:
                    self._active.pop(key, None)
                else:
                    passage.start = _without(passage.start, names)
            taken = [self._waiting.popleft() for _ in range(len(self._waiting))]
            kept = [replace(each, start=_without(each.start, names)) for each in taken if each.start.user != user]
            self._waiting.extendleft(reversed(kept))
            try:
                return len(taken) - len(kept) + delete_user(self._connection, user, names)
            except sqlite3.Error as error:
                raise UnavailableError(f"the traffic log cannot be written: {error}") from error

    def close(self, at: datetime) -> None:
        """Write what waits and let go of the file."""
        self.flush(at)
        if self._waiting:
            _log.error("%d transfers could not be written and are lost: %s", len(self._waiting), self.problem)
        self._connection.close()

    def _tell(self, problem: str | None) -> None:
        if problem is not None and self.problem is None:
            _log.error("the traffic log cannot be written, calls go on: %s", problem)
        if problem is None and self.problem is not None:
            _log.warning("the traffic log is written again; %d transfers were dropped since the start", self.dropped)
        self.problem = problem


def _without(start: Start, names: Callable[[str], bool]) -> Start:
    """Give the beginning of a transfer without a path or host that names somebody."""
    path = None if start.path is not None and names(start.path) else start.path
    host = None if start.host is not None and names(start.host) else start.host
    return start if (path, host) == (start.path, start.host) else replace(start, path=path, host=host)
