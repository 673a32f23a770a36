"""The leaves of a log beside an export: every hash up to the checkpoint, one line of 64 hex digits each.

With them a filtered export shows which records it leaves out, and a changed line is named for certain.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from gateway.audit.query import LogReader
from gateway.errors import NotFoundError

LINE_BYTES = 65
PAGE_ROWS = 16_384
_PAGE = "SELECT seq, leaf FROM record WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?"


def read_leaves(folder: Path, size: int) -> Iterator[bytes]:
    """Give the lines of the leaves 1 to `size`, many at a time.

    Raises:
        LogUnavailableError: the log cannot be read.
        NotFoundError: the first of them were dropped.

    """
    after = 0
    with LogReader(folder).whole() as whole:
        if whole.first > 1:
            raise NotFoundError(f"the leaves 1 to {whole.first - 1} are gone: their records were dropped")
        for part in whole.parts:
            while rows := part.connection.execute(_PAGE, (after, size, PAGE_ROWS)).fetchall():
                after = rows[-1][0]
                yield b"".join(b"%b\n" % leaf.hex().encode() for _, leaf in rows)


class Sidecar:
    """A file of leaves being read along with an export; each is handed to `grow` as it goes by."""

    def __init__(self, file: BinaryIO, grow: Callable[[bytes], None]) -> None:
        self._file, self._grow = file, grow
        self.size = 0  # how many were read
        self.broken: int | None = None  # the first line that is none

    def leaf(self, seq: int) -> bytes | None:
        """Read on to the leaf of a record; None if it went by already, or is not there."""
        found = None
        while self.size < seq and (found := self._next()) is not None:
            pass
        return found if self.size == seq else None

    def finish(self, size: int) -> None:
        """Read on to the end, one line further than the log is long."""
        while self.size <= size and self._next() is not None:
            pass

    def _next(self) -> bytes | None:
        line = self._file.readline(LINE_BYTES)
        if not line or self.broken is not None:
            return None
        try:
            leaf = bytes.fromhex(line[:-1].decode("ascii"))
        except ValueError:
            leaf = b""
        self.size += 1
        if b"%b\n" % leaf.hex().encode() != line or len(line) != LINE_BYTES:
            self.broken = self.size
            return None
        self._grow(leaf)
        return leaf
