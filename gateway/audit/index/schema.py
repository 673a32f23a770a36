"""The tables of audit-index.db; another format is not migrated but made anew from the log."""

import sqlite3
from contextlib import suppress
from pathlib import Path

FILE = "audit-index.db"
LOCK = "audit-index.lock"
FORMAT = 1
_PRAGMAS = (
    "page_size = 4096",
    "journal_mode = WAL",
    "synchronous = NORMAL",
    "wal_autocheckpoint = 1000",
    "journal_size_limit = 16777216",
    "cache_size = -16384",
    "temp_store = MEMORY",
    "trusted_schema = OFF",
    "secure_delete = ON",
    "busy_timeout = 2000",
)
WORDS = 'tokenize = "unicode61 remove_diacritics 2", columnsize = 0'


def open_index(folder: Path) -> sqlite3.Connection:
    """Open the index for writing, making an empty one if there is none of this format.

    Raises:
        sqlite3.Error: it is damaged, or cannot be written.

    """
    path = folder / FILE
    path.touch(mode=0o600)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}").fetchall()
        _make_if_empty(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def remove_index(folder: Path) -> None:
    """Delete the index with everything SQLite put beside it."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        (folder / f"{FILE}{suffix}").unlink(missing_ok=True)


def _make_if_empty(connection: sqlite3.Connection) -> None:
    known = connection.execute("PRAGMA user_version").fetchone()[0]
    if known == FORMAT:
        return
    if known:
        raise sqlite3.DatabaseError(f"{FILE} has format {known}, this version writes {FORMAT}")
    from sqlite_utils import Database  # noqa: PLC0415 # 90 ms that only a first start has to pay

    database = Database(connection)
    with database.atomic():
        # `size` is the number of the last record that is indexed, `last` its leaf, `kept` the first record it knows.
        columns = {"id": int, "size": int, "last": bytes, "kept": int}
        database.table("head").create(columns, pk="id", strict=True)
        database.execute("INSERT INTO head VALUES (1, 0, NULL, 1)")
        database.table("facet").create({"id": int, "name": str, "value": str}, pk="id", strict=True)
        database.table("facet").create_index(["name", "value"], unique=True)
        # `id` is (block << 32) | facet: what is known of a block lies together.
        database.table("bits").create({"id": int, "places": bytes}, pk="id", strict=True)
        columns = {"id": int, "first_ts_us": int, "last_ts_us": int, "times": bytes}
        database.table("block").create(columns, pk="id", strict=True)
        database.execute(f"CREATE VIRTUAL TABLE said USING fts5(words, {WORDS})")
        with suppress(sqlite3.OperationalError):  # an SQLite before 3.42 does not know it; `optimize` does the same
            database.execute("INSERT INTO said (said, rank) VALUES ('secure-delete', 1)")
        database.execute(f"PRAGMA user_version = {FORMAT}")
