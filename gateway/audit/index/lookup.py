"""Asking the index: which records may match a filter, block by block, without reading one of them."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import reduce
from operator import and_, or_
from pathlib import Path
from typing import Self

from gateway.audit.index.blocks import BLOCK, FULL, Times, place_of, seqs_of, unpack
from gateway.audit.index.entry import Facet, risks_from
from gateway.audit.index.schema import FILE, FORMAT
from gateway.audit.index.store import bits_id
from gateway.audit.index.words import match_expression
from gateway.audit.leaf import microseconds
from gateway.audit.wanted import Filter

_BLOCKS_AT_ONCE = 32
_ALWAYS = (-(2**63), 2**63 - 1)
_NAMES = ("plugin", "user", "event_type", "category", "effect", "rule")


class Lookup:
    """What the index knew at one moment; `size` records are in it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        connection.execute("BEGIN")
        if connection.execute("PRAGMA user_version").fetchone()[0] != FORMAT:
            raise sqlite3.DatabaseError("the index has another format")
        self.size, self.last = connection.execute("SELECT size, last FROM head").fetchone()

    @classmethod
    def open(cls, folder: Path) -> Self | None:
        """Open the index for reading, None if there is none that can be read."""
        connection = None
        try:
            uri = f"{(folder / FILE).resolve().as_uri()}?mode=ro"
            connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA query_only = ON")
            connection.execute("PRAGMA trusted_schema = OFF")
            return cls(connection)
        except (sqlite3.Error, TypeError):
            if connection is not None:
                connection.close()
            return None

    def close(self) -> None:
        """Let go of the file."""
        with suppress(sqlite3.Error):
            self._connection.close()

    def facet_counts(self, name: str) -> dict[str, int]:
        """Give how many records have each value of a facet."""
        sql = "SELECT value, places FROM facet JOIN bits ON bits.id & 4294967295 = facet.id WHERE name = ?"
        counts: dict[str, int] = {}
        for value, packed in self._connection.execute(sql, (name,)):
            counts[value] = counts.get(value, 0) + unpack(packed).bit_count()
        return counts

    def give_up(self, late: Callable[[], bool], steps: int) -> None:
        """Interrupt what is read once `late` says so, which is asked every `steps` steps of the database."""
        self._connection.set_progress_handler(late, steps)

    def candidates(self, wanted: Filter, *, below: int, newest_first: bool = True, above: int = 0) -> Iterator[int]:
        """Give the numbers of the records between `above` and `below` that may match, in order.

        Every one that matches is among them; some may lie a little outside the time that is wanted.

        Raises (while it is read):
            sqlite3.Error: the index is damaged.
            MalformedError: the text to look for cannot be understood.

        """
        expression = None if wanted.q is None else match_expression(wanted.q)
        facets = self._facets(wanted)
        if facets is None:
            return
        plain = not facets and wanted.since is None and wanted.until is None
        if expression is not None and plain:
            yield from self._said(expression, above + 1, min(below - 1, self.size), newest_first=newest_first)
            return
        for block, bits in self._blocks(wanted, facets, (above, below), newest_first=newest_first):
            if expression is None:
                yield from seqs_of(block, bits, newest_first=newest_first)
            else:
                first = block * BLOCK + 1
                for seq in self._said(expression, first, first + BLOCK - 1, newest_first=newest_first):
                    if bits >> (seq - first) & 1:
                        yield seq

    def _said(self, expression: str, first: int, last: int, *, newest_first: bool) -> Iterator[int]:
        order = "DESC" if newest_first else "ASC"
        sql = f"SELECT rowid FROM said WHERE said MATCH ? AND rowid BETWEEN ? AND ? ORDER BY rowid {order}"  # noqa: S608 # one of two words
        with closing(self._connection.execute(sql, (expression, first, last))) as cursor:
            for row in cursor:
                yield row[0]

    def _facets(self, wanted: Filter) -> list[list[int]] | None:
        """Give the numbers of the facets that are wanted, one of each list; None if nothing can match."""
        named: list[list[Facet]] = [[(name, value)] for name in _NAMES if (value := getattr(wanted, name)) is not None]
        if wanted.min_risk is not None:
            named.append(risks_from(max(0, wanted.min_risk)))
        numbers = [[number for facet in each if (number := self._number(facet)) is not None] for each in named]
        return numbers if all(numbers) else None

    def _number(self, facet: Facet) -> int | None:
        try:
            row = self._connection.execute("SELECT id FROM facet WHERE name = ? AND value = ?", facet).fetchone()
        except UnicodeEncodeError:
            return None
        return None if row is None else int(row[0])

    def _blocks(
        self, wanted: Filter, facets: list[list[int]], bounds: tuple[int, int], *, newest_first: bool
    ) -> Iterator[tuple[int, int]]:
        since = _ALWAYS[0] if wanted.since is None else microseconds(wanted.since)
        until = _ALWAYS[1] if wanted.until is None else microseconds(wanted.until)
        above, below = bounds
        order = "DESC" if newest_first else "ASC"
        sql = (
            "SELECT id FROM block WHERE id BETWEEN ? AND ? AND last_ts_us >= ? AND first_ts_us < ? "  # noqa: S608 # one of two words
            f"ORDER BY id {order}"
        )
        limits = (place_of(above + 1)[0], place_of(max(1, below - 1))[0], since, until)
        numbers = [row[0] for row in self._connection.execute(sql, limits)]
        for begin in range(0, len(numbers), _BLOCKS_AT_ONCE):
            some = numbers[begin : begin + _BLOCKS_AT_ONCE]
            known = self._read(some, facets)
            for block in some:
                each = [reduce(or_, (known.get(bits_id(block, one), 0) for one in any_of), 0) for any_of in facets]
                bits = reduce(and_, each, FULL)
                if bits and (wanted.since is not None or wanted.until is not None):
                    bits &= self._times(block).between(since, until)
                bits &= _mask(block, above, min(below, self.size + 1))
                if bits:
                    yield block, bits

    def _read(self, blocks: list[int], facets: list[list[int]]) -> dict[int, int]:
        wanted = ",".join(str(bits_id(block, one)) for block in blocks for any_of in facets for one in any_of)
        sql = f"SELECT id, places FROM bits WHERE id IN ({wanted})"  # noqa: S608 # integers
        return {key: unpack(packed) for key, packed in self._connection.execute(sql)}

    def _times(self, block: int) -> Times:
        row = self._connection.execute("SELECT times FROM block WHERE id = ?", (block,)).fetchone()
        return Times(row[0])


def _mask(block: int, above: int, below: int) -> int:
    """Give, as bits, the places of a block between two numbers."""
    first = block * BLOCK + 1
    low, high = max(0, above + 1 - first), min(BLOCK, below - first)
    return 0 if high <= low else ((1 << high) - 1) ^ ((1 << low) - 1)
