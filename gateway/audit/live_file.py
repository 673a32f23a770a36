"""The live file of the log: how its database is opened, and how rows go in."""

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from gateway.audit.schema import migrate

BUSY_S = 0.2  # nobody else should write; whoever does must not hold up the event loop
_PRAGMAS = (
    "page_size = 8192",
    "journal_mode = WAL",
    "synchronous = FULL",
    "wal_autocheckpoint = 2000",
    "journal_size_limit = 67108864",
    "cache_size = -65536",
    "temp_store = MEMORY",
    "trusted_schema = OFF",
    "secure_delete = ON",
)
_INSERT_RECORD = "INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_OUTCOMES = frozenset({"execution_completed", "execution_failed", "execution_timeout", "execution_lost"})
_INTENT = "execution_started"
Row = tuple[object, ...]


def open_live(path: Path, *, make: bool) -> sqlite3.Connection:
    """Open the file, making it if wished and there is none, in the form that this version writes.

    Raises:
        sqlite3.Error: it cannot be, or somebody else writes it.
        OSError: it cannot be made.

    """
    if make:
        # SECURITY: made by ourselves, so that nobody else may read it, nor the files that SQLite puts beside it.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    uri = f"{path.resolve().as_uri()}?mode=rw"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_S)
    try:
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}").fetchall()
        migrate(connection)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def insert_rows(
    connection: sqlite3.Connection, records: Sequence[Row], tables: Sequence[tuple[str, Sequence[Row]]]
) -> None:
    """Begin a transaction and put records in, with the rows that belong to them in other tables.

    An execution is noted as open from its intent to its outcome.
    """
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(_INSERT_RECORD, records)
    for sql, rows in tables:
        if rows:
            connection.executemany(sql, rows)
    for seq, _, event_id, event_type, *_, ref, _, _, _ in records:
        if event_type == _INTENT:
            connection.execute("INSERT OR IGNORE INTO intent VALUES (?, ?)", (event_id, seq))
        elif event_type in _OUTCOMES and ref is not None:
            connection.execute("DELETE FROM intent WHERE id = ?", (ref,))
