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

    def __init__(self, whole: "WholeLog", segment: Segment | None, first: int) -> None:
        self._whole, self.segment = whole, segment
        self.first = first
        self.last = ENDLESS if segment is None else segment.last

    @cached_property
    def connection(self) -> sqlite3.Connection:
        """The open file.

        Raises (when asked):
            LogUnavailableError: it is not there.
            sqlite3.Error: it cannot be opened.

        """
        return self._whole.live if self.segment is None else self._whole.connect(self.segment)

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
        self.segments = read_segments(live)

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The kept files, the live one last."""
        closed = [Part(self, each, each.first) for each in self.segments if each.kept]
        return (*closed, Part(self, None, self.segments[-1].last + 1 if self.segments else 1))

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
        for part in self.parts:
            segment = part.segment
            if segment is not None:
                if first_ts_us is not None and segment.last_ts_us < first_ts_us:
                    continue
                if end_ts_us is not None and segment.first_ts_us >= end_ts_us:
                    continue
            yield part

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
