"""The tables of the decision log, as numbered migrations.

`record` is what the Merkle tree commits to, `pii` and `person` what can be forgotten; `tile`, `checkpoint` and `intent`
can be computed from `record`. `segment` tells of the closed files that lie before this one, dropped ones included.
"""

import sqlite3

MIGRATIONS = (
    """
    CREATE TABLE record (
        seq INTEGER PRIMARY KEY,
        ts_us INTEGER NOT NULL,
        id BLOB NOT NULL CHECK (length(id) = 16),
        event_type TEXT NOT NULL,
        category TEXT NOT NULL,
        plugin TEXT,
        effect TEXT CHECK (effect IN ('allow', 'deny')),
        risk INTEGER NOT NULL CHECK (risk BETWEEN 0 AND 100),
        resolution TEXT NOT NULL,
        ref BLOB CHECK (length(ref) = 16),
        rule TEXT,
        committed TEXT NOT NULL,
        leaf BLOB NOT NULL CHECK (length(leaf) = 32)
    ) STRICT;
    CREATE INDEX record_id ON record (id);
    CREATE INDEX record_plugin ON record (plugin, seq);
    CREATE INDEX record_risk ON record (risk, seq) WHERE risk >= 70;

    CREATE TABLE pii (
        seq INTEGER PRIMARY KEY REFERENCES record (seq),
        names TEXT NOT NULL,
        salts BLOB NOT NULL,
        top TEXT NOT NULL,
        decision TEXT NOT NULL,
        details TEXT NOT NULL,
        personal TEXT GENERATED ALWAYS AS
            ('{' || top || ',"decision":{' || decision || '},"details":{' || details || '}}') VIRTUAL
    ) STRICT;

    CREATE TABLE person (
        user TEXT PRIMARY KEY,
        pseudonym TEXT NOT NULL CHECK (length(pseudonym) = 32)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE tile (
        level INTEGER NOT NULL CHECK (level >= 1),
        idx INTEGER NOT NULL,
        hash BLOB NOT NULL CHECK (length(hash) = 32),
        first_ts_us INTEGER,
        last_ts_us INTEGER,
        PRIMARY KEY (level, idx)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE checkpoint (
        size INTEGER PRIMARY KEY,
        ts_us INTEGER NOT NULL,
        root BLOB NOT NULL CHECK (length(root) = 32),
        note TEXT NOT NULL
    ) STRICT;

    CREATE TABLE rotation (
        size INTEGER PRIMARY KEY,
        note TEXT NOT NULL
    ) STRICT;

    CREATE TABLE intent (
        id BLOB PRIMARY KEY CHECK (length(id) = 16),
        seq INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE segment (
        first INTEGER PRIMARY KEY CHECK (first >= 1),
        last INTEGER NOT NULL CHECK (last >= first),
        root BLOB NOT NULL CHECK (length(root) = 32),
        frontier BLOB NOT NULL CHECK (length(frontier) % 32 = 0),
        note TEXT NOT NULL,
        first_ts_us INTEGER NOT NULL,
        last_ts_us INTEGER NOT NULL,
        dropped INTEGER CHECK (dropped > last)
    ) STRICT;

    CREATE TRIGGER record_keeps BEFORE UPDATE ON record
        BEGIN SELECT RAISE(ABORT, 'the decision log is append-only'); END;
    CREATE TRIGGER record_stays BEFORE DELETE ON record
        BEGIN SELECT RAISE(ABORT, 'the decision log is append-only'); END;
    CREATE TRIGGER pii_keeps BEFORE UPDATE ON pii
        BEGIN SELECT RAISE(ABORT, 'a personal value is kept or deleted, never changed'); END;
    CREATE TRIGGER person_keeps BEFORE UPDATE ON person
        BEGIN SELECT RAISE(ABORT, 'a pseudonym is kept or deleted, never changed'); END;
    CREATE TRIGGER tile_keeps BEFORE UPDATE ON tile
        BEGIN SELECT RAISE(ABORT, 'the decision log is append-only'); END;
    CREATE TRIGGER tile_stays BEFORE DELETE ON tile
        BEGIN SELECT RAISE(ABORT, 'the decision log is append-only'); END;
    CREATE TRIGGER rotation_keeps BEFORE UPDATE ON rotation
        BEGIN SELECT RAISE(ABORT, 'the decision log is append-only'); END;
    CREATE TRIGGER rotation_stays BEFORE DELETE ON rotation
        BEGIN SELECT RAISE(ABORT, 'the decision log is append-only'); END;
    CREATE TRIGGER checkpoint_keeps BEFORE UPDATE ON checkpoint
        BEGIN SELECT RAISE(ABORT, 'the decision log is append-only'); END;
    CREATE TRIGGER segment_keeps BEFORE UPDATE OF first, last, root, frontier, note, first_ts_us, last_ts_us ON segment
        BEGIN SELECT RAISE(ABORT, 'the decision log is append-only'); END;
    CREATE TRIGGER segment_stays BEFORE DELETE ON segment
        BEGIN SELECT RAISE(ABORT, 'the decision log is append-only'); END;
    CREATE TRIGGER checkpoint_stays BEFORE DELETE ON checkpoint
        BEGIN SELECT RAISE(ABORT, 'the decision log is append-only'); END;
    """,
    # WHY: plugins come in no order, so each batch wrote a page of their index for nearly every record. The index that
    # follows the log finds them; what belongs to an event is found among the few records that refer to one.
    """
    DROP INDEX record_plugin;
    CREATE INDEX record_ref ON record (ref) WHERE ref IS NOT NULL;
    """,
)
VERSION = len(MIGRATIONS)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the tables to `VERSION`, each step whole or not at all.

    Raises:
        sqlite3.Error: a step failed; the ones before it stand.
        ValueError: the file was written by a newer version.

    """
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise ValueError(f"audit.db has format {version}, this version knows {VERSION}: use the newer version")
    if version == VERSION:
        return
    from sqlite_utils import Database  # noqa: PLC0415 # 90 ms that only a first start has to pay

    database = Database(connection)
    for number in range(version, VERSION):
        with database.atomic():
            for statement in _statements(MIGRATIONS[number]):
                database.execute(statement)
            database.execute(f"PRAGMA user_version = {number + 1}")


def _statements(script: str) -> list[str]:
    """Split a script; `executescript` would commit the transaction it runs in."""
    statements, pending = [], ""
    for piece in script.split(";"):
        pending += piece + ";"
        if sqlite3.complete_statement(pending):
            statements.append(pending.strip().removesuffix(";"))
            pending = ""
    return [statement for statement in statements if statement]
