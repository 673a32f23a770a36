"""A search: what the index knows, then checked against the log; what it does not know, from the log itself."""

import sqlite3
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

from gateway.audit.index.entry import facets_of, words_of
from gateway.audit.index.lookup import Lookup
from gateway.audit.index.schema import WORDS
from gateway.audit.index.words import match_expression
from gateway.audit.row import STORED, Stored, row_of, weight
from gateway.audit.selection import conditions
from gateway.audit.wanted import Filter
from gateway.audit.whole import WholeLog
from gateway.errors import UnavailableError

BUDGET_S = 5.0
TOLD_FROM = 20_000  # records that are not indexed yet, from which on a search may be slow because of it
_PAGE = 256
_STEPS = 1000  # of the database's machine, between two looks at the clock
MAX_SEQ = 2**62
_NAMES = ("plugin", "user", "event_type", "category", "effect", "rule")

Row = dict[str, Any]
Found = tuple[int, int, Row]  # its number, how many characters it has, and the record


class Search:
    """One search, newest record first, over one moment of the log."""

    def __init__(self, folder: Path, whole: WholeLog, wanted: Filter, *, expected: int = _PAGE) -> None:
        self._folder, self._whole, self._wanted = folder, whole, wanted
        self._expression = None if wanted.q is None else match_expression(wanted.q)
        self._expected = expected
        self._ends = time.monotonic() + BUDGET_S
        self._examined = MAX_SEQ
        self.note: str | None = None

    def rows(self, *, below: int = MAX_SEQ) -> Generator[Found, None, None]:
        """Give the records before number `below` that match, newest first.

        Raises (while it is read):
            UnavailableError: it would take too long.

        """
        try:
            yield from self._rows(below)
        except sqlite3.OperationalError as error:
            if "interrupted" not in str(error):
                raise
            raise self._too_long() from error

    def _rows(self, below: int) -> Iterator[Found]:
        self._examined = below
        lookup = None if self._wanted.everything else lookup_of(self._folder, self._whole)
        if lookup is not None:
            with closing(lookup):
                self._remark(lookup.size)
                yield from self._from_log(above=lookup.size)
                try:
                    yield from self._from_index(lookup)
                except sqlite3.DatabaseError as error:
                    if "interrupted" in str(error):
                        raise
                    # WHY: a damaged index is made anew by its follower; until then the log answers.
                else:
                    return
        if not self._wanted.everything:
            self._remark(0)
        yield from self._from_log(above=0)

    def _from_index(self, lookup: Lookup) -> Iterator[Found]:
        below = min(self._examined, lookup.size + 1)
        lookup.give_up(self._late, _STEPS)
        candidates = lookup.candidates(self._wanted, below=below)
        with closing(Sieve(self._expression)) as sieve:
            for seqs in _pages(candidates, self._expected):
                rows = stored_rows(self._whole, seqs)
                # SECURITY: the words too, for the index forgets a person a moment after the log did.
                said = {stored[0] for stored in sieve.passed(rows)}
                for stored in reversed(rows):
                    found = self._matching(stored) if stored[0] in said else None
                    self._examined = stored[0]
                    if found is not None:
                        yield found
                if self._late():
                    raise self._too_long()

    def _from_log(self, *, above: int) -> Iterator[Found]:
        """Read through the log, newest first, above a number."""
        with closing(Sieve(self._expression)) as sieve:
            for part in reversed(list(self._whole.between(*self._wanted.span))):
                if part.last > above and part.first < self._examined:
                    yield from self._from_part(part.connection, sieve, above)

    def _from_part(self, connection: sqlite3.Connection, sieve: "Sieve", above: int) -> Iterator[Found]:
        if not connection.execute("SELECT 1 FROM record WHERE seq > ? LIMIT 1", (above,)).fetchall():
            return
        connection.set_progress_handler(self._late, _STEPS)
        try:
            where, values = conditions(self._wanted, connection)
            sql = (
                f"{STORED} WHERE {' AND '.join(where)} AND record.seq < ? AND record.seq > ? "
                "ORDER BY record.seq DESC LIMIT ?"
            )
            while page := connection.execute(sql, (*values, self._examined, above, _PAGE)).fetchall():
                for stored in sieve.passed(page):
                    yield stored[0], weight(stored), row_of(stored)
                self._examined = page[-1][0]
                if self._late():
                    raise self._too_long()
        finally:
            connection.set_progress_handler(None, 0)

    def _matching(self, stored: Stored) -> Found | None:
        """Give a record if it matches; SECURITY: the log says so, whatever the index said."""
        row = row_of(stored)
        return (stored[0], weight(stored), row) if matches(self._wanted, row) else None

    def _remark(self, indexed: int) -> None:
        size = self._whole.size
        indexed = max(indexed, self._whole.first - 1)
        if size - indexed > TOLD_FROM:
            self.note = f"slower than usual: the index has {indexed} of {size} records, the others were read one by one"

    def _late(self) -> bool:
        return time.monotonic() > self._ends

    def _too_long(self) -> UnavailableError:
        way_out = "narrow it by plugin or time" + (f" ({self.note})" if self.note else "")
        return UnavailableError("the search takes too long", way_out=way_out)


class Sieve:
    """Tells which records have the words that are looked for, as the index would."""

    def __init__(self, expression: str | None) -> None:
        self._expression = expression
        # WHY: an export is read piece by piece, each in whatever thread is free.
        self._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        if expression is not None:
            self._connection.execute(f"CREATE VIRTUAL TABLE said USING fts5(words, {WORDS})")

    def passed(self, rows: list[Stored]) -> list[Stored]:
        """Give those that have them."""
        if self._expression is None:
            return rows
        said = [(stored[0], words_of(row_of(stored))) for stored in rows]
        self._connection.executemany("INSERT INTO said (rowid, words) VALUES (?, ?)", said)
        found = self._connection.execute("SELECT rowid FROM said WHERE said MATCH ?", (self._expression,)).fetchall()
        self._connection.execute("DELETE FROM said")
        numbers = {row[0] for row in found}
        return [stored for stored in rows if stored[0] in numbers]

    def close(self) -> None:
        """Let go of the memory."""
        self._connection.close()


def lookup_of(folder: Path, whole: WholeLog) -> Lookup | None:
    """Open the index over a log, None if there is none that can be read or it is of another log."""
    lookup = Lookup.open(folder)
    if lookup is None or not lookup.size or leaf_of(whole, lookup.size) == lookup.last is not None:
        return lookup
    lookup.close()
    return None


def stored_rows(whole: WholeLog, seqs: Iterable[int]) -> list[Stored]:
    """Give the records with these numbers, oldest first; what is not kept is left out."""
    found: list[Stored] = []
    wanted = sorted(seqs)
    for part in whole.parts:
        here = [seq for seq in wanted if part.first <= seq <= part.last]
        if here:
            sql = f"{STORED} WHERE record.seq IN ({','.join(map(str, here))}) ORDER BY record.seq"
            found += part.connection.execute(sql).fetchall()
    return found


def leaf_of(whole: WholeLog, seq: int) -> bytes | None:
    """Give the leaf of a record, None if it is not kept."""
    if not whole.first <= seq <= whole.size:
        return None
    row = whole.holder(seq).connection.execute("SELECT leaf FROM record WHERE seq = ?", (seq,)).fetchone()
    return None if row is None else bytes(row[0])


def matches(wanted: Filter, row: Row) -> bool:
    """Tell whether a record is one that is wanted, but for its words."""
    facets = facets_of(row)
    if any((name, value) not in facets for name in _NAMES if (value := getattr(wanted, name)) is not None):
        return False
    if wanted.min_risk is not None and row["risk_score"] < wanted.min_risk:
        return False
    at = datetime.fromisoformat(row["timestamp"])
    return (wanted.since is None or at >= wanted.since) and (wanted.until is None or at < wanted.until)


def _pages(seqs: Iterable[int], first: int) -> Iterator[list[int]]:
    """Give numbers by pages; the first is as long as most people want."""
    page: list[int] = []
    for seq in seqs:
        page.append(seq)
        if len(page) >= first:
            yield page
            page, first = [], _PAGE
    if page:
        yield page
