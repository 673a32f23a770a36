"""A file that records are appended to, and that makes room for the next when it is full."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.audit.sinks.delivery import Batch, UndeliveredError
from gateway.audit.sinks.sink import LogFile

# SECURITY: neither through a link, nor waiting for who may read from a pipe.
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class FileTarget:
    """Appends batches to one file: FILE, and when it is full FILE.1 and so on, the oldest deleted."""

    def __init__(self, target: LogFile) -> None:
        self._target = target

    def send(self, batch: Batch) -> None:
        """Append a batch; returns once it would survive a power cut.

        Raises:
            UndeliveredError: the disk did not take it.

        """
        try:
            self._append(b"".join(batch.messages))
        except OSError as error:
            raise UndeliveredError(f"the file cannot be written: {error.strerror}") from None

    def _append(self, data: bytes) -> None:
        with self._opened() as descriptor:
            before = os.fstat(descriptor).st_size
            is_full = before and before + len(data) > self._target.max_bytes
            if not is_full:
                _write(descriptor, data, before)
        if is_full:
            self._rotate()
            with self._opened() as descriptor:
                _write(descriptor, data, os.fstat(descriptor).st_size)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        # SECURITY: records name people; the file is readable by its owner alone.
        descriptor = os.open(self._target.path, _FLAGS, 0o600)
        try:
            there = os.fstat(descriptor)
            # SECURITY: what another put there first would be theirs to read.
            if not stat.S_ISREG(there.st_mode) or there.st_uid not in {os.geteuid(), 0}:
                raise OSError(errno.EPERM, "it is no plain file of who runs the gateway")
            yield descriptor
        finally:
            os.close(descriptor)

    def _rotate(self) -> None:
        path, keep = self._target.path, self._target.keep
        for number in range(keep, 0, -1):
            older = path if number == 1 else _numbered(path, number - 1)
            if older.exists():
                older.replace(_numbered(path, number))

    def close(self) -> None:
        """Do nothing: the file is open only while it is written."""


def _write(descriptor: int, data: bytes, before: int) -> None:
    if os.write(descriptor, data) != len(data):
        os.ftruncate(descriptor, before)
        raise OSError(0, "the disk took only a part")
    os.fsync(descriptor)


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")
