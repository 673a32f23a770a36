"""The log as one, however many files it lies in: the live one, and the closed ones before it."""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import cached_property
from pathlib import Path

from gateway.audit.merkle import Frontier, Node
from gateway.audit.segment import DROPPED, FOLDER, Segment, connect_closed, frontier_before, read_segments
from gateway.audit.tree import chained_node, stored_node
from gateway.errors import VerificationError

_TOLD = """
    SELECT json_extract(committed, '$.details.first', '$.details.last') FROM record WHERE seq = ? AND event_type = ?
"""
ENDLESS = 2**63 - 1  # the live file's last record, for it grows


class Part:
    """One file of the log, with the records `first` to `last`; opened when it is asked."""

    def __init__(self, whole: "WholeLog", segment: Segment | None) -> None:
        self._whole, self.segment = whole, segment
        self.last = ENDLESS if segment is None else segment.last

    @property
    def first(self) -> int:
        """Its first record."""
        return frontier_before(self._whole.segments).size + 1 if self.segment is None else self.segment.first

    @cached_property
    def connection(self) -> sqlite3.Connection:
        """The open file.

        Raises (when asked):
            LogUnavailableError: it is not there.
            sqlite3.Error: it cannot be opened.

        """
        return self._whole.live if self.segment is None else self._whole.connect(self.segment)

    def reaches(self, first_ts_us: int | None, end_ts_us: int | None) -> bool:
        """Tell whether it may have records from one time up to, not including, another."""
        segment = self.segment
        if segment is None:
            return True
        late_enough = first_ts_us is None or segment.last_ts_us >= first_ts_us
        return late_enough and (end_ts_us is None or segment.first_ts_us < end_ts_us)

    def node(self, level: int, index: int) -> bytes:
        """Give a node of the tree that lies in this file."""
        return self._stored(level, index)

    @cached_property
    def _stored(self) -> Node:
        return stored_node(self.connection)


class WholeLog:
    """Every kept file of the log, oldest first, as they were when the live one was opened.

    A rotation meanwhile changes nothing for who reads: the live file is read on under its new name.
    """

    def __init__(self, folder: Path, live: sqlite3.Connection, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self.live = live
        self._live_part = Part(self, None)

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """The closed files before the live one, oldest first, dropped ones included."""
        return read_segments(self.live)

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The kept files, the live one last."""
        return (*(Part(self, each) for each in self.segments if each.kept), self._live_part)

    def newest_first(self) -> Iterator[Part]:
        """Give the kept files, the live one first; whether there are others is not looked up before it is asked."""
        yield self._live_part
        yield from reversed(self.parts[:-1])

    @property
    def before(self) -> Frontier:
        """The tree as it was before the first kept record."""
        return frontier_before([each for each in self.segments if not each.kept])

    @property
    def first(self) -> int:
        """The first record that is kept."""
        return self.before.size + 1

    @property
    def size(self) -> int:
        """How many records there are, dropped ones included; also the number of the last."""
        newest: int | None = self.live.execute("SELECT max(seq) FROM record").fetchone()[0]
        return frontier_before(self.segments).size if newest is None else newest

    @property
    def node(self) -> Node:
        """A reader of the tree's nodes, in whichever file they lie."""
        if not self.segments:
            return stored_node(self.live)
        return chained_node([(each.first, each.last, each.node) for each in self.parts], self.before)

    def between(self, first_ts_us: int | None, end_ts_us: int | None) -> Iterator[Part]:
        """Give the parts, oldest first, that may have records from one time up to, not including, another."""
        return (part for part in self.parts if part.reaches(first_ts_us, end_ts_us))

    def holder(self, seq: int) -> Part:
        """Give the part in which a kept record lies, or will lie."""
        return next(part for part in self.parts if part.last >= seq)

    def check_drops(self) -> None:
        """Check that the log tells of each dropped segment, if what it told is still kept.

        Raises:
            VerificationError: a segment counts as dropped and no record says so.

        """
        for segment in self.segments:
            if segment.dropped is None or segment.dropped < self.first:
                continue
            row = self.holder(segment.dropped).connection.execute(_TOLD, (segment.dropped, DROPPED)).fetchone()
            if row is None or row[0] != f"[{segment.first},{segment.last}]":
                raise VerificationError(
                    f"{FOLDER}/{segment.file} is gone, and no record says that it was dropped",
                    way_out="put it back, from a backup, with the audit.db that knows it",
                )

    def connect(self, segment: Segment) -> sqlite3.Connection:
        """Open the file of a segment until the whole is closed."""
        return self._stack.enter_context(closing(connect_closed(self._folder, segment)))
