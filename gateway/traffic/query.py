"""Reading the traffic log: pages, a summary, and rows for an export, beside the writer."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from gateway.domain.decision import timestamp
from gateway.domain.request import Json
from gateway.errors import MalformedError, UnavailableError
from gateway.traffic.store import EPOCH, microseconds
from gateway.traffic.summary import summarize

Row = dict[str, Json]
MAX_LIMIT = 1000
_BUDGET_STEPS = 400_000  # of a thousand virtual-machine instructions each: some seconds
_MAX_SEQ_DIGITS = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficFilter:
    """Which transfers are wanted; every member given must hold."""

    plugin: str | None = None
    host: str | None = None
    user: str | None = None
    since: datetime | None = None  # ended at this moment or later
    until: datetime | None = None  # ended before this moment

    def as_json(self) -> dict[str, Json]:
        """Give the members that are set, but for the user."""
        given = ((name, getattr(self, name)) for name in ("plugin", "host", "since", "until"))
        return {name: str(value) for name, value in given if value is not None}

    def where(self, *more: tuple[str, int | None]) -> tuple[str, list[str | int]]:
        """Give it as a condition of SQL with its values."""
        since = None if self.since is None else microseconds(self.since)
        until = None if self.until is None else microseconds(self.until)
        terms: list[tuple[str, str | int | None]] = [
            ("plugin = ?", self.plugin),
            ("host = ?", self.host),
            ("user = ?", self.user),
            ("ended_us >= ?", since),
            ("ended_us < ?", until),
            *more,
        ]
        held = [(term, value) for term, value in terms if value is not None]
        return " AND ".join(term for term, _ in held) or "true", [value for _, value in held]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Transfers, the newest first, and the cursor that asks for the ones behind them."""

    rows: list[Row]
    cursor: str | None


class TrafficReader:
    """Answers questions about the file at `path`; any thread may ask, each question opens its own connection."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def find(self, wanted: TrafficFilter, *, limit: int = 100, cursor: str | None = None) -> Page:
        """Give the newest transfers that `wanted` describes.

        Raises:
            MalformedError: the limit or the cursor cannot be understood.
            UnavailableError: the file cannot be read, or the search would take too long.
        """
        if not 1 <= limit <= MAX_LIMIT:
            raise MalformedError(f"limit `{limit}`: 1 to {MAX_LIMIT}")
        where, values = wanted.where(("seq < ?", None if cursor is None else _parse_cursor(cursor)))
        sql = f"SELECT * FROM transfer WHERE {where} ORDER BY seq DESC LIMIT ?"  # noqa: S608 (terms of this file)
        with self._connect() as connection:
            found = connection.execute(sql, [*values, limit + 1]).fetchall()
        shown = found[:limit]
        return Page(rows=[_json(row) for row in shown], cursor=f"t{shown[-1]['seq']}" if len(found) > limit else None)

    def summary(self, wanted: TrafficFilter) -> Row:
        """Give sums and figures of the transfers that `wanted` describes, and of who moved most.

        Raises:
            UnavailableError: the file cannot be read, or the search would take too long.
        """
        where, values = wanted.where()
        with self._connect() as connection:
            found = summarize(connection, where, values)
        return {
            "transfers": found.transfers,
            "bytes_out": found.bytes_out,
            "bytes_in": found.bytes_in,
            "not_returned": found.not_returned,
            "first_ended": _moment(found.first_us),
            "last_ended": _moment(found.last_us),
            "duration_ms": {name: None if us is None else us / 1000 for name, us in found.durations_us.items()},
            **found.groups,
        }

    def rows(self, wanted: TrafficFilter) -> Iterator[Row]:
        """Give every transfer that `wanted` describes and that is written by now, the oldest first.

        Raises:
            UnavailableError: the file cannot be read.
        """
        after, page = 0, MAX_LIMIT
        while page == MAX_LIMIT:
            where, values = wanted.where(("seq > ?", after))
            sql = f"SELECT * FROM transfer WHERE {where} ORDER BY seq LIMIT {MAX_LIMIT}"  # noqa: S608 (as above)
            # WHY: a page at a time, so that a slow reader never holds up the writer's file.
            with self._connect() as connection:
                found = connection.execute(sql, values).fetchall()
            page = len(found)
            for row in found:
                after = row["seq"]
                yield _json(row)

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        steps = iter(range(_BUDGET_STEPS))
        try:
            uri = f"{self._path.resolve().as_uri()}?mode=ro"
            with closing(sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)) as connection:
                connection.row_factory = sqlite3.Row
                connection.execute("PRAGMA query_only = ON")
                connection.execute("PRAGMA trusted_schema = OFF")
                connection.set_progress_handler(lambda: next(steps, None) is None, 1000)
                yield connection
        except sqlite3.Error as error:
            if "interrupted" in str(error):
                raise UnavailableError("the search takes too long", way_out="narrow it by plugin or time") from error
            raise UnavailableError(f"the traffic log cannot be read: {error}") from error


def _json(row: sqlite3.Row) -> Row:
    kept = dict(row)
    kept.pop("seq")
    started, ended, took = kept.pop("started_us"), kept.pop("ended_us"), kept.pop("duration_us")
    return {**kept, "started": _moment(started), "ended": _moment(ended), "duration_ms": took / 1000}


def _moment(us: int | None) -> str | None:
    return None if us is None else timestamp(EPOCH + timedelta(microseconds=us))


def _parse_cursor(cursor: str) -> int:
    digits = cursor.removeprefix("t")
    if not cursor.startswith("t") or not (digits.isascii() and digits.isdecimal()) or len(digits) > _MAX_SEQ_DIGITS:
        raise MalformedError(f"`{cursor[:40]}` is not a cursor", way_out="give the one that came with the last page")
    return int(digits)
