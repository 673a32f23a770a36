"""Reading the log: read-only connections beside the writer, rows in the shape of one line of an export."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from gateway.audit import canonical
from gateway.audit.leaf import event_bytes, microseconds
from gateway.audit.merkle import TILE, consistency_proof, inclusion_proof
from gateway.audit.row import STORED, Stored, row_of, weight
from gateway.audit.store import FILE
from gateway.audit.whole import WholeLog
from gateway.domain.request import Json
from gateway.errors import LogUnavailableError, MalformedError, NotFoundError, UnavailableError

Row = dict[str, Any]
MAX_LIMIT = 1000
MAX_PAGE_BYTES = 8 * 1024 * 1024
MAX_TEXT = 200
BUDGET_STEPS = 400_000  # of a thousand virtual-machine instructions each: some seconds
_BY_USER = "? IN (json_extract(personal, '$.user_id'), json_extract(personal, '$.decision.user'))"
_MAX_SEQ_DIGITS = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which records are wanted; every member given must hold."""

    plugin: str | None = None
    user: str | None = None
    event_type: str | None = None
    category: str | None = None
    effect: str | None = None
    min_risk: int | None = None
    since: datetime | None = None  # from this moment on
    until: datetime | None = None  # up to, but not including, this moment
    q: str | None = None  # text that occurs anywhere in the record, upper and lower case alike

    def as_json(self) -> dict[str, Json]:
        """Give the members that are set."""
        given = ((name, getattr(self, name)) for name in self.__slots__)
        return {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in given
            if value is not None
        }

    @property
    def span(self) -> tuple[int | None, int | None]:
        """The first microsecond since 1970 that is wanted, and the first that no longer is; None for no bound."""
        since = None if self.since is None else microseconds(self.since)
        return since, None if self.until is None else microseconds(self.until)

    @property
    def everything(self) -> bool:
        """Whether no record is left out."""
        return not self.as_json()


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Rows, newest first, and the cursor that asks for the ones behind them."""

    rows: list[Row]
    cursor: str | None


class LogReader:
    """Answers questions about the log in a folder; any thread may ask, each question opens its own connection."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / FILE

    @contextmanager
    def whole(self) -> Iterator[WholeLog]:
        """Open the live file and, when they are asked, the closed ones before it.

        Raises:
            LogUnavailableError: one of them cannot be read.

        """
        with self.connect() as live, ExitStack() as stack:
            yield WholeLog(self._folder, live, stack)

    @contextmanager
    def connect(self) -> Iterator[sqlite3.Connection]:
        """Open the live file for reading.

        Raises:
            LogUnavailableError: it cannot be read.

        """
        connection = None
        try:
            connection = self._connect()
            yield connection
        except sqlite3.Error as error:
            raise LogUnavailableError(f"the decision log cannot be read: {error}") from error
        finally:
            if connection is not None:
                connection.close()

    def _connect(self) -> sqlite3.Connection:
        uri = f"{self._path.resolve().as_uri()}?mode=ro"
        while True:
            before = _identity(self._path)
            connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
            try:
                connection.execute("PRAGMA query_only = ON")
                connection.execute("PRAGMA trusted_schema = OFF")
                connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            except BaseException:
                connection.close()
                raise
            # WHY: a rotation between the opening of the file and of the -shm beside it would join two files' parts.
            if _identity(self._path) == before:
                return connection
            connection.close()

    def find(self, wanted: Filter, *, limit: int = 100, cursor: str | None = None) -> Page:
        """Give the newest records that `wanted` describes.

        Raises:
            MalformedError: the limit, the cursor or the text cannot be understood.
            UnavailableError: the search would take too long.

        """
        if not 1 <= limit <= MAX_LIMIT:
            raise MalformedError(f"limit `{limit}`: 1 to {MAX_LIMIT}")
        before = None if cursor is None else _parse_cursor(cursor)
        found: list[Stored] = []
        with self.whole() as whole:
            for part in reversed(list(whole.between(*wanted.span))):
                if before is not None and part.first >= before:
                    continue
                where, values = conditions(wanted, part.connection)
                if before is not None:
                    where.append("record.seq < ?")
                    values.append(before)
                sql = f"{STORED} WHERE {' AND '.join(where)} ORDER BY record.seq DESC LIMIT ?"
                found += _run(part.connection, sql, [*values, limit + 1 - len(found)])
                if len(found) > limit or _full(found):
                    break
        shown = found[:limit] if len(found) > limit or not _full(found) else found[:-1]
        rows = [row_of(stored) for stored in shown]
        return Page(rows=rows, cursor=f"s{shown[-1][0]}" if len(found) > len(shown) else None)

    def get(self, event_id: str) -> Row | None:
        """Give the record of an event, None if there is none."""
        return self._first("record.id = ?", event_bytes(event_id))

    def decision(self, decision_id: str) -> Row | None:
        """Give the record of a decision, None if there is none."""
        row = self.get(f"audit-{decision_id}")
        return row if row is not None and row["decision"] is not None else None

    def related(self, event_id: str) -> list[Row]:
        """Give the records that refer to an event, as an outcome to its intent, oldest first."""
        wanted = event_bytes(event_id)
        sql = f"{STORED} WHERE ref = ? AND record.seq > ? AND plugin IS ? ORDER BY record.seq LIMIT ?"
        found: list[Stored] = []
        with self.whole() as whole:
            began = _first(whole, "SELECT seq, plugin FROM record WHERE id = ?", [wanted])
            for part in whole.parts if began else ():
                if part.last > began[0]:
                    found += _run(part.connection, sql, [wanted, *began, MAX_LIMIT - len(found)])
        return [row_of(stored) for stored in found]

    def outcome(self, event_id: str) -> Row | None:
        """Give the record of how an execution ended, None while there is none."""
        return next(iter(self.related(event_id)), None)

    def _first(self, where: str, value: object) -> Row | None:
        with self.whole() as whole:
            found = _first(whole, f"{STORED} WHERE {where} ORDER BY record.seq LIMIT 1", [value])
        return None if found is None else row_of(found)

    def inclusion(self, event_id: str, size: int) -> tuple[bytes, int, list[bytes]]:
        """Prove that an event is in the tree of `size` records: its leaf, its index, counted from 0, and the hashes.

        Raises:
            NotFoundError: there is no such event, or it is behind that size.

        """
        wanted = event_bytes(event_id)
        with self.whole() as whole:
            found = _first(whole, "SELECT seq, leaf FROM record WHERE id = ? ORDER BY seq LIMIT 1", [wanted])
            seq, leaf = found or (size + 1, b"")
            if seq > size:
                raise NotFoundError(f"no event `{event_id}` in the first {size} records")
            return leaf, seq - 1, inclusion_proof(seq - 1, size, whole.node)

    def consistency(self, old: int, size: int) -> list[bytes]:
        """Prove that the log of `old` records is the beginning of the log of `size`.

        Raises:
            NotFoundError: the log was never that long, or what it takes was dropped.

        """
        with self.whole() as whole:
            if not 0 <= old <= size <= whole.size:
                raise NotFoundError(f"no log of {old} and of {size} records: it has {whole.size}")
            try:
                return consistency_proof(old, size, whole.node)
            except LookupError as error:
                raise NotFoundError(f"{error}", way_out="compare with a newer checkpoint") from error

    def rotations(self) -> list[str]:
        """Give the notes with which the log's keys handed over, oldest first."""
        with self.connect() as connection:
            return [note for (note,) in connection.execute("SELECT note FROM rotation ORDER BY size")]

    def checkpoint(self) -> str | None:
        """Give the newest signed checkpoint that is written down."""
        with self.connect() as connection:
            row = connection.execute("SELECT note FROM checkpoint ORDER BY size DESC LIMIT 1").fetchone()
        return None if row is None else str(row[0])


def _first(whole: WholeLog, sql: str, values: list[Any]) -> Any:  # noqa: ANN401 # whatever row the statement gives
    """Give the first row that a statement finds, the newest file asked first."""
    for part in reversed(whole.parts):
        row = part.connection.execute(sql, values).fetchone()
        if row is not None:
            return row
    return None


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def take(found: Iterable[Stored]) -> list[Stored]:
    """Read stored records until they are many bytes: a page is bounded, whatever its rows hold."""
    taken: list[Stored] = []
    held = 0
    for stored in found:
        taken.append(stored)
        held += weight(stored)
        if held > MAX_PAGE_BYTES:
            break
    return taken


def _full(taken: list[Stored]) -> bool:
    return sum(map(weight, taken)) > MAX_PAGE_BYTES and len(taken) > 1


def conditions(wanted: Filter, connection: sqlite3.Connection) -> tuple[list[str], list[object]]:
    """Give the SQL conditions of `wanted`, and their values."""
    where, values = ["1"], []
    simple = (
        ("plugin = ?", wanted.plugin),
        ("event_type = ?", wanted.event_type),
        ("category = ?", wanted.category),
        ("effect = ?", wanted.effect),
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
    if wanted.q is not None:
        where.append("(committed LIKE ? ESCAPE '\\' OR personal LIKE ? ESCAPE '\\')")
        values += [_pattern(wanted.q)] * 2
    if wanted.since is not None or wanted.until is not None:
        where.append("record.seq BETWEEN ? AND ?")
        values += _span(wanted, connection)
    return where, values


def _span(wanted: Filter, connection: sqlite3.Connection) -> tuple[int, int]:
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


def _pattern(text: str) -> str:
    if len(text) > MAX_TEXT:
        raise MalformedError(f"the text to look for has {len(text)} characters", way_out=f"at most {MAX_TEXT}")
    spelt = canonical.encode(canonical.tidy_text(text)).decode()[1:-1]
    for special in ("\\", "%", "_"):
        spelt = spelt.replace(special, f"\\{special}")
    return f"%{spelt}%"


def _parse_cursor(cursor: str) -> int:
    digits = cursor.removeprefix("s")
    if not cursor.startswith("s") or not (digits.isascii() and digits.isdecimal()) or len(digits) > _MAX_SEQ_DIGITS:
        raise MalformedError(f"`{cursor[:40]}` is not a cursor", way_out="give the one that came with the last page")
    return int(digits)


def _run(connection: sqlite3.Connection, sql: str, values: list[Any]) -> list[Stored]:
    steps = iter(range(BUDGET_STEPS))
    connection.set_progress_handler(lambda: next(steps, None) is None, 1000)
    try:
        return take(connection.execute(sql, values))
    except sqlite3.OperationalError as error:
        if "interrupted" not in str(error):
            raise
        raise UnavailableError("the search takes too long", way_out="narrow it by plugin or time") from error
    finally:
        connection.set_progress_handler(None, 0)
