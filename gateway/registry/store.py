"""The registry's database: one connection, numbered migrations, transactions."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlite_utils import Database

from gateway.errors import UnavailableError

_SCHEMA = (
    """
    CREATE TABLE plugin(
      plugin_id TEXT PRIMARY KEY, state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '', manifest TEXT NOT NULL,
      digest TEXT, generation INTEGER NOT NULL, registered_by TEXT NOT NULL, registered_at TEXT NOT NULL,
      changed_at TEXT NOT NULL) STRICT;
    CREATE TABLE permission_request(
      id TEXT PRIMARY KEY, plugin_id TEXT NOT NULL, type TEXT NOT NULL, permissions TEXT NOT NULL, state TEXT NOT NULL,
      reason TEXT NOT NULL, requested_by TEXT NOT NULL, requested_at TEXT NOT NULL,
      decided_by TEXT, decided_at TEXT, decision_reason TEXT) STRICT;
    CREATE TABLE permission_grant(
      number INTEGER PRIMARY KEY AUTOINCREMENT, plugin_id TEXT NOT NULL, permission TEXT NOT NULL, scope TEXT NOT NULL,
      condition TEXT NOT NULL, why TEXT NOT NULL, state TEXT NOT NULL, granted_by TEXT NOT NULL,
      granted_at TEXT NOT NULL, ended_by TEXT, ended_at TEXT, ended_reason TEXT) STRICT;
    CREATE TABLE hold(
      id TEXT PRIMARY KEY, plugin_id TEXT NOT NULL, grant_number INTEGER, reason TEXT NOT NULL, by TEXT NOT NULL,
      at TEXT NOT NULL) STRICT;
    CREATE TABLE lockdown(
      id TEXT PRIMARY KEY, scope TEXT NOT NULL, reason TEXT NOT NULL, by TEXT NOT NULL, at TEXT NOT NULL) STRICT;
    CREATE TABLE consent(
      id TEXT PRIMARY KEY, user_id TEXT NOT NULL, plugin_id TEXT NOT NULL, permission TEXT NOT NULL,
      scope TEXT NOT NULL, purpose TEXT, until TEXT, once INTEGER NOT NULL, session_id TEXT, on_behalf INTEGER NOT NULL,
      given_by TEXT NOT NULL, given_at TEXT NOT NULL, ended_at TEXT, end_reason TEXT, last_used_at TEXT) STRICT;
    CREATE TABLE api_key(
      id TEXT PRIMARY KEY, user_id TEXT NOT NULL, scopes TEXT NOT NULL, sha256 BLOB NOT NULL CHECK(length(sha256)=32),
      created_at TEXT NOT NULL, expires_at TEXT, revoked_at TEXT) STRICT;
    CREATE TABLE last_policy(version TEXT NOT NULL, generation INTEGER NOT NULL) STRICT;
    CREATE TABLE counter(name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
    """,
    "ALTER TABLE api_key ADD COLUMN last_used_at TEXT;",
    """
    CREATE TABLE erasure(
      user_id TEXT PRIMARY KEY, reason TEXT NOT NULL, keep_policy INTEGER NOT NULL, asked_by TEXT NOT NULL,
      asked_at TEXT NOT NULL, event_id TEXT, begun_by TEXT, alias TEXT) STRICT;
    """,
    """
    CREATE TABLE benchmark(
      id TEXT PRIMARY KEY, plugin_id TEXT NOT NULL, generation INTEGER NOT NULL, kind TEXT NOT NULL, at TEXT NOT NULL,
      report TEXT NOT NULL) STRICT;
    CREATE INDEX benchmark_of ON benchmark(plugin_id);
    """,
    """
    ALTER TABLE plugin ADD COLUMN registration INTEGER NOT NULL DEFAULT 0;
    UPDATE plugin SET registration = generation;
    ALTER TABLE permission_request ADD COLUMN held_back TEXT;
    CREATE TABLE switching(plugin_id TEXT PRIMARY KEY, grants TEXT NOT NULL, told TEXT NOT NULL) STRICT;
    """,
    """
    CREATE TABLE code_review(
      id TEXT PRIMARY KEY, plugin_id TEXT NOT NULL, digest TEXT NOT NULL, reviewed_by TEXT NOT NULL,
      reviewed_at TEXT NOT NULL, reason TEXT NOT NULL) STRICT;
    CREATE TABLE code_scan(
      plugin_id TEXT NOT NULL, digest TEXT NOT NULL, scanner TEXT NOT NULL, at TEXT NOT NULL, report TEXT NOT NULL,
      accepted_by TEXT, accepted_at TEXT, reason TEXT, PRIMARY KEY(plugin_id, digest)) STRICT;
    """,
    """
    CREATE TABLE call_approval(
      id TEXT PRIMARY KEY, key TEXT NOT NULL, subject TEXT NOT NULL, plugin_id TEXT, user_id TEXT, by_user TEXT,
      op TEXT NOT NULL, permission TEXT NOT NULL, scope TEXT NOT NULL, args_sha256 TEXT NOT NULL, args TEXT,
      code TEXT NOT NULL, rule TEXT NOT NULL, rules_sha256 TEXT NOT NULL, decision_id TEXT NOT NULL,
      requested_at TEXT NOT NULL, expires_at TEXT NOT NULL,
      state TEXT NOT NULL CHECK(state IN ('pending', 'approved', 'denied', 'used', 'expired', 'void')),
      decided_by TEXT, decided_at TEXT, decision_reason TEXT, used_at TEXT, used_decision TEXT) STRICT;
    """,
    """
    CREATE TABLE misconduct(
      plugin_id TEXT NOT NULL, registration INTEGER NOT NULL, try BLOB NOT NULL, weight INTEGER NOT NULL,
      PRIMARY KEY(plugin_id, registration, try)) STRICT, WITHOUT ROWID;
    """,
    "ALTER TABLE api_key ADD COLUMN rate TEXT;",
    "ALTER TABLE permission_request ADD COLUMN given TEXT;",
    """
    CREATE TABLE changed_tool(
      plugin_id TEXT NOT NULL, registration INTEGER NOT NULL, generation INTEGER NOT NULL, capability TEXT NOT NULL,
      told TEXT, at TEXT NOT NULL, PRIMARY KEY(plugin_id, capability)) STRICT, WITHOUT ROWID;
    """,
    """
    CREATE TABLE access_request(
      id TEXT PRIMARY KEY, user_id TEXT NOT NULL, template TEXT NOT NULL, answered_by TEXT NOT NULL,
      evaluation_id TEXT NOT NULL, idempotency_key TEXT, body_sha256 TEXT NOT NULL, requested_at TEXT NOT NULL) STRICT;
    CREATE UNIQUE INDEX access_request_key ON access_request(user_id, idempotency_key);
    """,
)


def open_registry(path: Path) -> sqlite3.Connection:
    """Open or create the registry at `path`, readable by its owner alone, with the newest schema."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    connection.executescript(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;"
        "PRAGMA trusted_schema=OFF; PRAGMA secure_delete=ON;"
    )
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    for number, script in enumerate(_SCHEMA[version:], start=version + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version={number}; COMMIT;")
    # WHY: what was deleted before a stop may still lie in the write-ahead log.
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return connection


def scrub(connection: sqlite3.Connection) -> None:
    """Take the bytes of what was deleted out of the database's files.

    Raises:
        UnavailableError: the disk, or another reader, does not allow it.
    """
    with _writing:
        try:
            connection.execute("VACUUM")
            if connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                raise UnavailableError("somebody reads the registry just now", way_out="try again")
        except sqlite3.OperationalError as error:
            raise UnavailableError(f"the registry cannot be written: {error}") from error


# WHY: one connection is one transaction at a time, and a policy is built in another thread than calls are answered.
_writing = threading.RLock()


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Run the body as one transaction: all of it becomes durable, or nothing.

    Raises:
        UnavailableError: the disk, or the database, does not take it.
    """
    with _writing:
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            _undo(connection)
            raise UnavailableError(f"the registry cannot be written: {error}") from error
        except BaseException:
            _undo(connection)
            raise


def _undo(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def next_number(connection: sqlite3.Connection, name: str) -> int:
    """Give the next value of a counter that never repeats, not even after a restart."""
    row = connection.execute(
        "INSERT INTO counter(name, value) VALUES(?, 1)"
        " ON CONFLICT(name) DO UPDATE SET value = value + 1 RETURNING value",
        (name,),
    ).fetchone()
    return int(row[0])


def as_database(connection: sqlite3.Connection) -> Database:
    """Give the sqlite-utils view of the same connection, for ad-hoc questions."""
    return Database(connection)
