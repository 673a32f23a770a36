"""JSON values under names, each user's apart from every other's, sealed in one table of an SQLite file.

Neither a value nor its name nor its user's can be read in the file without the key beside it.
"""

import hmac
import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from gateway.domain.request import Json
from gateway.errors import ConfigError, MalformedError, NotFoundError, TooLargeError, UnavailableError
from gateway.resources.vault_key import FILE as KEY_FILE
from gateway.resources.vault_key import VaultKey, make_vault_key, read_vault_key

_BUSY_TIMEOUT_S = 10.0
_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA secure_delete = ON",  # what a user erases is gone from the file, too
    "PRAGMA trusted_schema = OFF",
)
_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS sealed (
        user BLOB NOT NULL, place BLOB NOT NULL PRIMARY KEY, name BLOB NOT NULL, bytes INTEGER NOT NULL,
        value BLOB NOT NULL
    ) STRICT""",
    "CREATE INDEX IF NOT EXISTS sealed_user ON sealed (user, bytes)",
    "CREATE TABLE IF NOT EXISTS key_check (tag BLOB NOT NULL) STRICT",
)
_READ = "SELECT value FROM sealed WHERE place = ?"
_NAMES = "SELECT place, name FROM sealed WHERE user = ?"
_KEPT = "SELECT count(*), coalesce(sum(bytes), 0) FROM sealed WHERE user = ?"
_SIZE = "SELECT bytes FROM sealed WHERE place = ?"
_WRITE = (
    "INSERT INTO sealed (user, place, name, bytes, value) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (place) DO UPDATE SET name = excluded.name, bytes = excluded.bytes, value = excluded.value"
)
_DELETE = "DELETE FROM sealed WHERE place = ?"
_FORGET = "DELETE FROM sealed WHERE user = ?"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLimits:
    """How much one user may keep."""

    value_bytes: int = 1 << 20
    names: int = 10_000
    total_bytes: int = 64 << 20
    depth: int = 64


class UserStore:
    """Values of many users; every method names the user whose values it touches, and touches no other's.

    Methods block on the disk and may be called from any thread. What was written survives a power cut
    once `write` returns. Two shelves of one file know nothing of each other.
    """

    def __init__(self, path: Path, *, shelf: str, limits: StoreLimits | None = None) -> None:
        self._limits = limits or StoreLimits()
        self._shelf = shelf
        self._lock = threading.Lock()
        self._db = _open(path)
        try:
            self._key = _key_of(self._db, path.parent / "keys")
        except BaseException:
            self._db.close()
            raise

    def _user(self, user: str) -> bytes:
        return self._key.tag(self._shelf, user)

    def _place(self, user: str, name: str) -> bytes:
        return self._key.tag(self._shelf, user, name)

    def read(self, user: str, name: str) -> Json:
        """Give the value that `user` keeps under `name`.

        Raises:
            NotFoundError: there is none.
            UnavailableError: it was changed outside the gateway.

        """
        with self._lock, _told():
            place = self._place(user, name)
            row = self._db.execute(_READ, (place,)).fetchone()
        if row is None:
            raise _missing(name)
        return cast("Json", json.loads(self._key.open(row[0], place)))

    def list(self, user: str, prefix: str = "") -> list[str]:
        """Name what `user` keeps: `prefix` itself and everything below it; all for an empty one."""
        with self._lock, _told():
            rows = self._db.execute(_NAMES, (self._user(user),)).fetchall()
        names = sorted(self._key.open(name, place).decode() for place, name in rows)
        return [name for name in names if not prefix or name == prefix or name.startswith(f"{prefix}/")]

    def write(self, user: str, name: str, value: Json) -> None:
        """Keep `value` for `user` under `name`, in place of what was there.

        Raises:
            MalformedError: it is not JSON.
            TooLargeError: it, or all that the user keeps, would be more than the limits.
            UnavailableError: nothing was written.

        """
        blob = encode_value(value, self._limits)
        with self._lock, _told(), self._transaction():
            place = self._place(user, name)
            self._check_room(user, place, len(blob))
            sealed = (self._key.seal(name.encode(), place), len(blob), self._key.seal(blob, place))
            self._db.execute(_WRITE, (self._user(user), place, *sealed))

    def delete(self, user: str, name: str) -> None:
        """Erase what `user` keeps under `name`.

        Raises:
            NotFoundError: there is nothing.

        """
        with self._lock, _told():
            erased = self._db.execute(_DELETE, (self._place(user, name),)).rowcount
        if not erased:
            raise _missing(name)

    def forget(self, user: str) -> int:
        """Erase everything that `user` keeps, its bytes in the files too, and tell how many values it was."""
        with self._lock, _told():
            erased = self._db.execute(_FORGET, (self._user(user),)).rowcount
            self._db.execute("VACUUM")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            return erased

    def close(self) -> None:
        """Let go of the file; closing twice does nothing more."""
        with self._lock:
            self._db.close()

    def _check_room(self, user: str, place: bytes, size: int) -> None:
        names, total = self._db.execute(_KEPT, (self._user(user),)).fetchone()
        before = self._db.execute(_SIZE, (place,)).fetchone()
        if before is None and names >= self._limits.names:
            raise TooLargeError(f"{names} names are kept already", way_out="delete some")
        if total - (before[0] if before else 0) + size > self._limits.total_bytes:
            raise TooLargeError(
                f"more than {self._limits.total_bytes} bytes for one user", way_out="delete some values"
            )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise


def encode_value(value: Json, limits: StoreLimits) -> bytes:
    """Give the JSON text of `value`.

    Raises:
        MalformedError: it is not JSON.
        TooLargeError: it is longer or deeper than `limits`.

    """
    if _deeper_than(value, limits.depth):
        raise TooLargeError(f"a value nested more than {limits.depth} deep")
    try:
        blob = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (ValueError, TypeError) as error:
        raise MalformedError(f"the value is not JSON: {error}") from None
    if len(blob) > limits.value_bytes:
        raise TooLargeError(f"a value of {len(blob)} bytes", way_out=f"at most {limits.value_bytes}")
    return blob


def _deeper_than(value: Json, depth: int) -> bool:
    level: list[Json] = [value]
    for _ in range(depth + 1):
        inner: list[Json] = []
        for each in level:
            if isinstance(each, dict):
                inner.extend(each.values())
            elif isinstance(each, list):
                inner.extend(each)
        if not inner:
            return False
        level = inner
    return True


def _open(path: Path) -> sqlite3.Connection:
    try:
        # SECURITY: made private before SQLite opens it; its -wal and -shm files take over this mode.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        db = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise UnavailableError(f"`{path}` cannot be opened: {error}") from None
    try:
        for statement in (*_PRAGMAS, *_SCHEMA):
            db.execute(statement)
    except sqlite3.Error as error:
        db.close()
        raise UnavailableError(f"`{path}` cannot be opened: {error}") from None
    return db


def _key_of(db: sqlite3.Connection, folder: Path) -> VaultKey:
    """Give the key that the file was begun with; a new file gets a new one.

    Raises:
        ConfigError: the key is gone, or is another one.
        UnavailableError: the file cannot be read or written.

    """
    with _told():
        known = db.execute("SELECT tag FROM key_check").fetchone()
        # SECURITY: never a new key for a file that has one: what is in it would be lost behind it.
        have = known is not None or (folder / KEY_FILE).exists()
        key = read_vault_key(folder) if have else make_vault_key(folder)
        if known is None:
            db.execute("INSERT INTO key_check (tag) VALUES (?)", (key.check,))
    if known is not None and not hmac.compare_digest(known[0], key.check):
        raise ConfigError(f"`{folder / KEY_FILE}` is not the key of this vault", way_out="put the right one back")
    return key


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise UnavailableError(f"the stored values cannot be reached: {error}") from None
    except UnicodeEncodeError:
        raise MalformedError("a name that is not Unicode text") from None


def _missing(name: str) -> NotFoundError:
    return NotFoundError(f"nothing is kept under `{name}`")
