"""Reading the log: read-only connections beside the writer, rows in the shape of one line of an export."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.audit.index.words import match_expression
from gateway.audit.leaf import event_bytes
from gateway.audit.merkle import consistency_proof, inclusion_proof
from gateway.audit.place import FILE
from gateway.audit.row import STORED, Stored, row_of, spell_line, weight
from gateway.audit.search import MAX_SEQ, Search, Sieve, leaf_of, matches, stored_rows
from gateway.audit.selection import MAX_PAGE_BYTES, take
from gateway.audit.wanted import Filter
from gateway.audit.whole import WholeLog
from gateway.errors import LogUnavailableError, MalformedError, NotFoundError

Row = dict[str, Any]
MAX_LIMIT = 1000
_MAX_SEQ_DIGITS = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Rows, newest first, and the cursor that asks for the ones behind them."""

    rows: list[Row]
    cursor: str | None
    note: str | None = None  # why this took longer than usual


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
                connection.execute("PRAGMA schema_version").fetchone()
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
        below = MAX_SEQ if cursor is None else _parse_cursor(cursor)
        rows: list[Row] = []
        held, last, more = 0, 0, False
        with self.whole() as whole:
            search = Search(self._folder, whole, wanted, expected=limit + 1)
            with closing(search.rows(below=below)) as found:
                for seq, each, row in found:
                    more = len(rows) == limit or (bool(rows) and held + each > MAX_PAGE_BYTES)
                    if more:
                        break
                    rows.append(row)
                    held, last = held + each, seq
        return Page(rows=rows, cursor=f"s{last}" if more else None, note=search.note)

    def news(self, wanted: Filter, after: int) -> tuple[int, list[Row]]:
        """Give the records behind number `after` that match, oldest first, and the number of the last one looked at."""
        found = self.after(after, MAX_LIMIT)
        with closing(Sieve(None if wanted.q is None else match_expression(wanted.q))) as sieve:
            rows = [row_of(stored) for stored in sieve.passed(found)]
        return (found[-1][0] if found else after), [row for row in rows if matches(wanted, row)]

    def extent(self) -> tuple[int, int]:
        """Give the number of the first record that is kept, and of the last one."""
        with self.whole() as whole:
            return whole.first, whole.size

    def after(self, seq: int, limit: int) -> list[Stored]:
        """Give the kept records that follow number `seq`, oldest first."""
        found: list[Stored] = []
        sql = f"{STORED} WHERE record.seq > ? ORDER BY record.seq LIMIT ?"
        with self.whole() as whole:
            for part in whole.parts:
                if part.last > seq and len(found) < limit:
                    found += take(part.connection.execute(sql, (seq, limit - len(found))))
                    if sum(map(weight, found)) > MAX_PAGE_BYTES:
                        break
        return found

    def stored(self, seqs: Sequence[int]) -> list[Stored]:
        """Give the records with these numbers, oldest first; what is not kept is left out."""
        with self.whole() as whole:
            return stored_rows(whole, seqs)

    def continues(self, seq: int, leaf: bytes | None) -> bool:
        """Tell whether record `seq` has this leaf."""
        with self.whole() as whole:
            return leaf_of(whole, seq) == leaf is not None

    def get(self, event_id: str) -> Row | None:
        """Give the record of an event, None if there is none."""
        return self._first("record.id = ?", event_bytes(event_id))

    def line(self, event_id: str) -> bytes | None:
        """Give the record of an event as a line of an export, without its line break; None if there is none."""
        with self.whole() as whole:
            found = _first(whole, f"{STORED} WHERE record.id = ? LIMIT 1", [event_bytes(event_id)])
        return spell_line(found) if found is not None else None

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
                    found += take(part.connection.execute(sql, (wanted, *began, MAX_LIMIT - len(found))))
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
    for part in whole.newest_first():
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


def _parse_cursor(cursor: str) -> int:
    digits = cursor.removeprefix("s")
    if not cursor.startswith("s") or not (digits.isascii() and digits.isdecimal()) or len(digits) > _MAX_SEQ_DIGITS:
        raise MalformedError(f"`{cursor[:40]}` is not a cursor", way_out="give the one that came with the last page")
    return int(digits)
