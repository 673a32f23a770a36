"""Selecting stored records by SQL: the columns, the conditions of a filter, and how much is read at once."""

import sqlite3
from collections.abc import Iterable

from gateway.audit import canonical
from gateway.audit.leaf import microseconds
from gateway.audit.merkle import TILE
from gateway.audit.row import Stored, weight
from gateway.audit.wanted import Filter

MAX_PAGE_BYTES = 8 * 1024 * 1024
_BY_USER = "? IN (json_extract(personal, '$.user_id'), json_extract(personal, '$.decision.user'))"


def take(found: Iterable[Stored], max_bytes: int = MAX_PAGE_BYTES) -> list[Stored]:
    """Read stored records until they are many bytes: a page is bounded, whatever its rows hold."""
    taken: list[Stored] = []
    held = 0
    for stored in found:
        taken.append(stored)
        held += weight(stored)
        if held > max_bytes:
            break
    return taken


def conditions(wanted: Filter, connection: sqlite3.Connection) -> tuple[list[str], list[object]]:
    """Give the SQL conditions of `wanted` but for its words, and their values."""
    where, values = ["1"], []
    simple = (
        ("plugin = ?", wanted.plugin),
        ("event_type = ?", wanted.event_type),
        ("category = ?", wanted.category),
        ("effect = ?", wanted.effect),
        ("rule = ?", wanted.rule),
        ("risk >= ?", wanted.min_risk),
        ("ts_us >= ?", wanted.since and microseconds(wanted.since)),
        ("ts_us < ?", wanted.until and microseconds(wanted.until)),
    )
    for condition, value in simple:
        if value is not None:
            where.append(condition)
            values.append(_bindable(value))
    if wanted.user is not None:
        where.append(_BY_USER)
        values.append(_bindable(wanted.user))
    if wanted.since is not None or wanted.until is not None:
        where.append("record.seq BETWEEN ? AND ?")
        values += span(wanted, connection)
    return where, values


def span(wanted: Filter, connection: sqlite3.Connection) -> tuple[int, int]:
    """Narrow a time range to record numbers by what the full tiles know of their times."""
    since = microseconds(wanted.since) if wanted.since else -(2**63)
    until = microseconds(wanted.until) if wanted.until else 2**63 - 1
    sql = "SELECT min(idx), max(idx) FROM tile WHERE level = 1 AND last_ts_us >= ? AND first_ts_us < ?"
    first, last = connection.execute(sql, (since, until)).fetchone()
    tiles = connection.execute("SELECT coalesce(max(idx), -1) + 1 FROM tile WHERE level = 1").fetchone()[0]
    tail = connection.execute(
        "SELECT count(*) FROM record WHERE seq > ? AND ts_us >= ? AND ts_us < ?", (tiles * TILE, since, until)
    ).fetchone()[0]
    begin = tiles if first is None else first
    end = 2**63 - 1 if tail else (0 if last is None else (last + 1) * TILE)
    return begin * TILE + 1, end


def _bindable(value: object) -> object:
    return canonical.tidy_text(value) if isinstance(value, str) else value
