"""What the files of a folder said when they were read last, so that one that cannot have changed is not read again."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

# WHY: longer than any file system's smallest step of time; two edits in one step bear the same times.
STEP_S = 2.0


@dataclass(frozen=True, slots=True)
class Mark:
    """What tells one state of a file from another."""

    device: int
    inode: int
    size: int
    changed_ns: int
    altered_ns: int


def mark_of(state: os.stat_result) -> Mark:
    """Give the mark of a file."""
    return Mark(state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)


Found = Mapping[str, tuple[Path, Mark]]


class _Kept(NamedTuple):
    found: tuple[Path, Mark]
    first_s: float  # when the mark was seen first
    settled: bool
    data: bytes


class KeptFiles:
    """The files of one folder as they were read; for one reader at a time.

    A file is believed to be what it was only if its mark is the same and it was read once more when the mark was
    older than a step of time: whatever was written since then has another mark. The age is told by a clock of our own,
    for that of a server may go wrong. Who writes through a mapping of memory may leave the mark as it is for a while:
    that is an edit which nobody is told of, and only a reading of the whole folder meets it.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self.now_s = now_s
        self._kept: dict[str, _Kept] = {}

    def settled(self, found: Found) -> dict[str, bytes]:
        """Give the content of the files that cannot have changed."""
        kept = ((name, self._kept.get(name), each) for name, each in found.items())
        return {name: known.data for name, known, each in kept if known and known.settled and known.found == each}

    def keep(self, found: Found, files: Mapping[str, bytes], *, begun_s: float, listed_s: float) -> dict[str, bytes]:
        """Remember what was read and give it again, in the bytes known already where they are equal."""
        self._kept = {
            name: self._judged(self._kept.get(name), each, files[name], begun_s, listed_s)
            for name, each in found.items()
        }
        return {name: each.data for name, each in self._kept.items()}

    @staticmethod
    def _judged(known: _Kept | None, found: tuple[Path, Mark], data: bytes, begun_s: float, listed_s: float) -> _Kept:
        if known is None:
            return _Kept(found, listed_s, settled=False, data=data)
        # WHY: the same bytes, not only equal ones, so that comparing two texts need not read them through.
        same = known.data if known.data == data else data
        if known.found != found:
            return _Kept(found, listed_s, settled=False, data=same)
        return _Kept(found, known.first_s, settled=known.settled or begun_s - known.first_s >= STEP_S, data=same)
