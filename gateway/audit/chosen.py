"""Which records a filter chooses: the index names them as far as it goes, behind that each record is looked at.

Whatever the index names is looked at in the log, too, so that with an index and without one the same is chosen.
"""

import hashlib
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from gateway.audit import canonical
from gateway.audit.index.words import match_expression
from gateway.audit.numbers import Numbers
from gateway.audit.row import STORED, Stored
from gateway.audit.search import TOLD_FROM, Sieve, lookup_of
from gateway.audit.selection import conditions, take
from gateway.audit.wanted import Filter
from gateway.audit.whole import WholeLog
from gateway.errors import LogUnavailableError

PAGE_ROWS = 1000
PAGE_BYTES = 2 * 1024 * 1024
_LEAVES = """
    SELECT record.seq, x'', leaf, NULL, NULL, NULL, NULL, NULL FROM record LEFT JOIN pii USING (seq)
"""
_log = logging.getLogger("hearthgate.audit")


@dataclass(frozen=True, slots=True)
class Named:
    """Records that may be wanted: up to record `size` these numbers and no others."""

    numbers: Numbers = field(default_factory=Numbers)
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The records up to number `up_to` that are wanted, and a hash over their leaves."""

    numbers: Numbers
    up_to: int
    leaves_sha256: str
    note: str | None = None  # why finding them took longer than usual

    def pages(self, whole: WholeLog, wanted: Filter) -> Iterator[list[Stored]]:
        """Read them, oldest first, some hundred at a time.

        Raises (while they are read):
            LogUnavailableError: one of them was dropped, or lost the values that are wanted.

        """
        expected = self.numbers.between(1, self.up_to)
        for page in _pages(whole, wanted, Named(self.numbers, self.up_to), self.up_to, STORED):
            # SECURITY: a record that lost its values since must not leave under a filter that still names them.
            if [stored[0] for stored in page] != list(islice(expected, len(page))):
                raise _gone()
            yield page
        if next(expected, None) is not None:
            raise _gone()


def choose(folder: Path, whole: WholeLog, wanted: Filter) -> Chosen:
    """Find the records that are wanted.

    Raises:
        MalformedError: the filter cannot be understood.
        sqlite3.Error: the log cannot be read.

    """
    up_to = whole.size
    named = _named(folder, whole, wanted, up_to)
    note = _note(whole, named, up_to)
    if note is not None:
        _log.warning("a filtered export: %s", note)
    numbers, digest = Numbers(), hashlib.sha256()
    for found in _pages(whole, wanted, named, up_to, _LEAVES if wanted.q is None else STORED):
        numbers.extend(stored[0] for stored in found)
        digest.update(b"".join(stored[2] for stored in found))
    return Chosen(numbers=numbers, up_to=up_to, leaves_sha256=digest.hexdigest(), note=note)


def _named(folder: Path, whole: WholeLog, wanted: Filter, up_to: int) -> Named:
    """Ask the index; what it cannot be asked it does not name."""
    lookup = lookup_of(folder, whole)
    if lookup is None:
        return Named()
    with closing(lookup):
        size = min(lookup.size, up_to)
        try:
            candidates = lookup.candidates(_tidy(wanted), below=size + 1, newest_first=False)
            return Named(Numbers(candidates), size)
        except sqlite3.DatabaseError as error:
            _log.warning("the index over the decision log cannot be read, an export does without it: %s", error)
            return Named()


def _note(whole: WholeLog, named: Named, up_to: int) -> str | None:
    others = up_to - max(named.size, whole.first - 1)
    if others <= TOLD_FROM:
        return None
    return f"slower than usual: the index names none of {others} of {up_to} records, each was read"


def _tidy(wanted: Filter) -> Filter:
    """Spell a filter as records are spelt."""
    given: dict[str, Any] = {
        name: canonical.tidy_text(value)
        for name in ("plugin", "user", "event_type", "category", "effect", "rule")
        if (value := getattr(wanted, name)) is not None
    }
    return replace(wanted, **given)


def _pages(whole: WholeLog, wanted: Filter, named: Named, up_to: int, sql: str) -> Iterator[list[Stored]]:
    """Read what is wanted, oldest first; each page is a read of its own, so the writer is never held up."""
    with closing(Sieve(None if wanted.q is None else match_expression(wanted.q))) as sieve:
        for part in whole.between(*wanted.span):
            where, values = conditions(wanted, part.connection)
            begun = f"{sql} WHERE {' AND '.join(where)} AND record.seq"
            for numbers in named.numbers.pages(part.first, min(part.last, named.size), PAGE_ROWS):
                these = f"{begun} IN ({','.join(map(str, numbers))}) AND record.seq > ? ORDER BY record.seq"
                for found in _turn(part.connection, these, values, (0, numbers[-1])):
                    if passed := sieve.passed(found):
                        yield passed
            others = f"{begun} > ? AND record.seq <= {up_to} ORDER BY record.seq LIMIT {PAGE_ROWS}"
            for found in _turn(part.connection, others, values, (named.size, up_to)):
                if passed := sieve.passed(found):
                    yield passed


def _turn(
    connection: sqlite3.Connection, sql: str, values: list[object], between: tuple[int, int]
) -> Iterator[list[Stored]]:
    """Read page after page; the last value of the statement is the record that a page follows."""
    after, last = between
    while after < last and (found := take(connection.execute(sql, (*values, after)), PAGE_BYTES)):
        yield found
        after = found[-1][0]


def _gone() -> LogUnavailableError:
    return LogUnavailableError("records or their values are gone since this export began", way_out="export again")
