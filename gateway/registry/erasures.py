"""Erasures of people: asked for, begun, and carried out on the registry itself."""

import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from gateway.domain.decision import timestamp
from gateway.domain.names import UserId
from gateway.domain.request import Json
from gateway.registry.store import scrub, transaction

_OWN = ("api_key", "consent", "call_approval", "access_request")  # tables whose rows of a user go
_SENTENCES = ("reason", "why", "purpose")  # how the columns end that hold people's own words
_UNSAID = "(erased)"
# SECURITY: a lockdown of somebody stays one, and a manifest is what its digest says.
_KEPT = frozenset({("lockdown", "scope"), ("plugin", "manifest")})


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """Somebody's wish that a person be erased; begun once `event_id` names the record that tells of it."""

    user_id: UserId
    reason: str
    keep_policy: bool
    asked_by: str
    asked_at: str
    event_id: str | None = None
    begun_by: str | None = None
    alias: str | None = None  # what stands in the person's place

    def as_json(self) -> dict[str, Json]:
        """Give the wire shape."""
        return {
            "user": self.user_id,
            "status": "pending" if self.event_id is None else "begun",
            "reason": self.reason,
            "keep_policy": self.keep_policy,
            "requested_by": self.asked_by,
            "requested_at": self.asked_at,
        }


class Erasures:
    """Erasures that wait for a second person, or were begun and are not over."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.begun = 0  # how many were begun since the start

    def get(self, user_id: str) -> Erasure | None:
        """Find the one of a person."""
        row = self._connection.execute("SELECT * FROM erasure WHERE user_id=?", (user_id,)).fetchone()
        return None if row is None else _from_row(row)

    def all(self) -> tuple[Erasure, ...]:
        """Give all, oldest first."""
        return tuple(map(_from_row, self._connection.execute("SELECT * FROM erasure ORDER BY asked_at")))

    def ask(self, user_id: UserId, *, reason: str, keep_policy: bool, by: str, at: datetime) -> Erasure:
        """Write down that it is wanted."""
        with transaction(self._connection) as connection:
            connection.execute(
                "INSERT INTO erasure(user_id, reason, keep_policy, asked_by, asked_at) VALUES(?,?,?,?,?)",
                (user_id, reason, keep_policy, by, timestamp(at)),
            )
        asked = self.get(user_id)
        if asked is None:
            raise LookupError(user_id)
        return asked

    def begin(self, erasure: Erasure) -> None:
        """Write down that it is begun; from now on it is finished after any stop."""
        self.begun += 1
        with transaction(self._connection) as connection:
            connection.execute(
                "UPDATE erasure SET event_id=?, begun_by=?, alias=?, keep_policy=? WHERE user_id=?",
                (erasure.event_id, erasure.begun_by, erasure.alias, erasure.keep_policy, erasure.user_id),
            )

    def withdraw(self, erasure: Erasure) -> None:
        """Take back one that was not begun."""
        with transaction(self._connection) as connection:
            connection.execute("DELETE FROM erasure WHERE user_id=? AND event_id IS NULL", (erasure.user_id,))

    def forget_user(self, user_id: UserId, renamed: Callable[[str], str]) -> dict[str, int]:
        """Delete a user's keys and consents, and have every other name of the user `renamed`; gives the counts.

        A sentence that somebody wrote and that names the user goes whole.
        """
        counts: dict[str, int] = {}
        with transaction(self._connection) as connection:
            connection.create_function("renamed", 1, partial(_renamed, renamed), deterministic=True)
            connection.create_function("unsaid", 1, lambda text: text if renamed(text) == text else _UNSAID)
            for table in _OWN:
                sql = f"DELETE FROM {table} WHERE user_id=?"  # noqa: S608 (names above)
                counts[table] = connection.execute(sql, (user_id,)).rowcount
            for table, column in _texts(connection):
                change = "unsaid" if column.endswith(_SENTENCES) else "renamed"
                sql = f"UPDATE {table} SET {column}={change}({column}) WHERE instr({column}, ?) OR instr({column}, '%')"  # noqa: S608 (the schema's)
                connection.execute(sql, (user_id,))
            # INVARIANT: the person's own row goes last, in `end`; a stop before that finds whom to go on with.
            connection.execute(
                "UPDATE erasure SET reason=unsaid(reason), asked_by=renamed(asked_by),"
                " begun_by=iif(begun_by IS NULL, NULL, renamed(begun_by)) WHERE user_id<>?",
                (user_id,),
            )
        return counts

    def end(self, erasure: Erasure) -> None:
        """Forget that there was one; behind this nothing of the person is in the registry's files."""
        with transaction(self._connection) as connection:
            connection.execute("DELETE FROM erasure WHERE user_id=?", (erasure.user_id,))
        scrub(self._connection)


def _renamed(renamed: Callable[[str], str], text: str) -> str:
    """Give a column's text with every name in it renamed; of JSON, as it is meant and not as it is spelt."""
    # SECURITY: behind an end of line that is spelt `\n` a name would look like a part of another word.
    if text.startswith(("{", "[")):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return renamed(text)
        other = _renamed_within(renamed, value)
        return text if other == value else json.dumps(other, ensure_ascii=False, separators=(",", ":"))
    return renamed(text)


def _renamed_within(renamed: Callable[[str], str], value: Json) -> Json:
    match value:
        case str():
            return renamed(value)
        case list():
            return [_renamed_within(renamed, each) for each in value]
        case dict():
            return {renamed(name): _renamed_within(renamed, each) for name, each in value.items()}
    return value


def _texts(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """Name every column that holds text of or about people."""
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type='table'")]
    columns = [
        (table, row["name"])
        for table in tables
        if table != "erasure"
        for row in connection.execute("SELECT name, type FROM pragma_table_info(?)", (table,))
        if row["type"] == "TEXT"
    ]
    return [each for each in columns if each not in _KEPT]


def _from_row(row: sqlite3.Row) -> Erasure:
    return Erasure(**{**dict(row), "keep_policy": bool(row["keep_policy"])})
