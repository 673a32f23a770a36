"""The tables of data/traffic.db, and everything that is written there."""

import logging
import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.errors import UnavailableError
from gateway.traffic.transfer import Transfer

FILE = "traffic.db"
_VERSION = 1
_SCHEMA = """
CREATE TABLE transfer(
  seq INTEGER PRIMARY KEY AUTOINCREMENT, decision_id TEXT NOT NULL, execution_id TEXT NOT NULL, plugin TEXT NOT NULL,
  user TEXT NOT NULL, op TEXT NOT NULL, method TEXT, host TEXT, port INTEGER, path TEXT, status INTEGER,
  bytes_out INTEGER NOT NULL, bytes_in INTEGER NOT NULL, started_us INTEGER NOT NULL, ended_us INTEGER NOT NULL,
  duration_us INTEGER NOT NULL, outcome TEXT NOT NULL, problem TEXT) STRICT;
CREATE INDEX transfer_ended ON transfer(ended_us);
CREATE INDEX transfer_plugin ON transfer(plugin, seq);
CREATE INDEX transfer_host ON transfer(host, seq) WHERE host IS NOT NULL;
"""
_INSERT = """INSERT INTO transfer(decision_id, execution_id, plugin, user, op, method, host, port, path, status,
  bytes_out, bytes_in, started_us, ended_us, duration_us, outcome, problem) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_log = logging.getLogger("hearthgate.traffic")


def microseconds(at: datetime) -> int:
    """Give a moment as whole microseconds since 1970."""
    return (at - EPOCH) // timedelta(microseconds=1)


def open_store(path: Path) -> sqlite3.Connection:
    """Open or create the database at `path`, readable by its owner alone.

    One that is damaged is put aside, and told: what it held is no reason to let no plugin run.

    Raises:
        UnavailableError: it cannot be opened.
    """
    try:
        return _open(path)
    except (OSError, sqlite3.OperationalError) as error:
        raise UnavailableError(f"the traffic log `{path}` cannot be opened: {error}") from error
    except sqlite3.DatabaseError as error:
        aside = path.with_name(f"{path.name}.damaged")
        _log.error("the traffic log cannot be read (%s); it is put aside as %s, and a new one begun", error, aside)
        path.replace(aside)
        for rest in ("-wal", "-shm"):
            path.with_name(path.name + rest).unlink(missing_ok=True)
        return _open(path)


def _open(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        # WHY: NORMAL, for the decision log already has the decision; a power cut may cost the last seconds here.
        for setting in ("journal_mode=WAL", "synchronous=NORMAL", "trusted_schema=OFF", "secure_delete=ON"):
            connection.execute(f"PRAGMA {setting}")
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version={_VERSION}; COMMIT;")
        connection.execute("SELECT max(seq), max(ended_us) FROM transfer").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def insert(connection: sqlite3.Connection, transfers: Sequence[Transfer]) -> None:
    """Write transfers, all or none."""
    if not transfers:
        return
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(_INSERT, [_row(each) for each in transfers])
        connection.execute("COMMIT")
    except sqlite3.Error:
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise


def delete_ended_before(connection: sqlite3.Connection, ended_us: int) -> None:
    """Delete what ended before a moment."""
    oldest = connection.execute("SELECT min(ended_us) FROM transfer").fetchone()[0]
    if oldest is not None and oldest < ended_us:
        connection.execute("DELETE FROM transfer WHERE ended_us < ?", (ended_us,))


def delete_surplus(connection: sqlite3.Connection, most: int) -> None:
    """Delete the oldest, so that at most so many are left."""
    first, last = connection.execute(
        "SELECT (SELECT seq FROM transfer ORDER BY seq LIMIT 1), (SELECT seq FROM transfer ORDER BY seq DESC LIMIT 1)"
    ).fetchone()
    if last is not None and first <= last - most:
        connection.execute("DELETE FROM transfer WHERE seq <= ?", (last - most,))


def delete_user(connection: sqlite3.Connection, user: str, names: Callable[[str], bool]) -> int:
    """Delete what moved on behalf of a user, and what the files still hold of it; gives how many rows.

    Of rows of others the path and the host go that name the user, as `names` tells.
    """
    connection.create_function("names", 1, lambda text: text is not None and names(text))
    count = connection.execute("DELETE FROM transfer WHERE user = ?", (user,)).rowcount
    for column in ("path", "host"):
        connection.execute(f"UPDATE transfer SET {column} = NULL WHERE names({column})")  # noqa: S608 (named above)
    busy: int = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    if busy:
        raise sqlite3.OperationalError("somebody reads it; deleted rows may still lie in its files, so try again")
    return count


def _row(transfer: Transfer) -> tuple[str | int | None, ...]:
    start = transfer.start
    return (
        start.decision_id,
        start.execution_id,
        start.plugin,
        start.user,
        start.op,
        start.method,
        start.host,
        start.port,
        start.path,
        transfer.status,
        transfer.bytes_out,
        transfer.bytes_in,
        microseconds(start.at),
        microseconds(transfer.ended),
        transfer.duration_us,
        transfer.outcome.value,
        transfer.problem,
    )
