"""The end of the log, to which the next record is joined."""

import sqlite3

from gateway.audit.merkle import TILE, Frontier, read_frontier
from gateway.audit.segment import frontier_before, read_segments
from gateway.audit.tree import chained_node, stored_node
from gateway.audit.whole import ENDLESS


class Head:
    """The end of the log: the tree's frontier, and the times seen since the last full tile."""

    def __init__(self, frontier: Frontier, first_ts_us: int | None = None, last_ts_us: int | None = None) -> None:
        self.frontier = frontier
        self.first_ts_us = first_ts_us
        self.last_ts_us = last_ts_us

    def copy(self) -> "Head":
        """Give one that can go its own way."""
        return Head(self.frontier.copy(), self.first_ts_us, self.last_ts_us)

    @property
    def size(self) -> int:
        """How many records there are; also the number of the last one."""
        return self.frontier.size

    def push(self, leaf: bytes, ts_us: int) -> list[tuple[int, int, bytes, int | None, int | None]]:
        """Append a leaf; give the rows of the tiles it completes."""
        self.first_ts_us = ts_us if self.first_ts_us is None else min(ts_us, self.first_ts_us)
        self.last_ts_us = ts_us if self.last_ts_us is None else max(ts_us, self.last_ts_us)
        tiles = self.frontier.push(leaf)
        if not tiles:
            return []
        rows: list[tuple[int, int, bytes, int | None, int | None]] = []
        for level, tile in tiles:
            times = (self.first_ts_us, self.last_ts_us) if level == 1 else (None, None)
            rows.append((level, self.size // TILE**level - 1, tile, *times))
        self.first_ts_us = self.last_ts_us = None
        return rows


def read_head(connection: sqlite3.Connection) -> Head:
    """Read where the log ends.

    Raises:
        LookupError: a part of the tree is missing.

    """
    before = frontier_before(read_segments(connection))
    newest: int | None = connection.execute("SELECT max(seq) FROM record").fetchone()[0]
    size = before.size if newest is None else newest
    node = stored_node(connection)
    if before.size:
        node = chained_node([(before.size + 1, ENDLESS, node)], before)
    tail_begins = size - size % TILE
    seen = connection.execute("SELECT min(ts_us), max(ts_us) FROM record WHERE seq > ?", (tail_begins,)).fetchone()
    return Head(read_frontier(size, node), *seen)
