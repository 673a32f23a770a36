"""Closing the live file as a segment and beginning a new one, step by step.

The new file is made whole beside the live one. The live file then gets its second name, in the folder of segments,
and the new one takes its place in one rename. A stop before that rename is undone by `settle`, a stop behind it
leaves nothing to do but tidying: there is no moment without a log at the log's path.
"""

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from gateway.audit.erase import REWRITTEN
from gateway.audit.merkle import TILE, Frontier
from gateway.audit.schema import migrate
from gateway.audit.segment import FOLDER, Segment, insert_segments

NEXT = "audit.next.db"
_CARRIED = ("intent", "person", "rotation")  # tables that go on in the new file
_SIDES = ("-wal", "-shm")


def first_time(connection: sqlite3.Connection) -> int | None:
    """Give the time of the oldest record of a file, None if it has none."""
    row = connection.execute("SELECT ts_us FROM record ORDER BY seq LIMIT 1").fetchone()
    return None if row is None else int(row[0])


def times(connection: sqlite3.Connection) -> tuple[int, int]:
    """Give the earliest and the latest time of a file's records; some just before it may count, too."""
    tiles = "SELECT min(first_ts_us), max(last_ts_us), coalesce(max(idx), -1) + 1 FROM tile WHERE level = 1"
    earliest, latest, full = connection.execute(tiles).fetchone()
    tail = connection.execute("SELECT min(ts_us), max(ts_us) FROM record WHERE seq > ?", (full * TILE,)).fetchone()
    known = [each for each in (earliest, latest, *tail) if each is not None]
    return min(known), max(known)


def build_next(folder: Path, live: sqlite3.Connection, segments: Sequence[Segment], time_us: int) -> None:
    """Make the file that goes on behind the last of `segments`, with what of `live` goes on."""
    path = folder / NEXT
    _clear(path, with_file=True)
    # SECURITY: made private before SQLite opens it.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with closing(sqlite3.connect(path, isolation_level=None)) as new:
        for pragma in ("page_size = 4096", "synchronous = FULL", "trusted_schema = OFF"):
            new.execute(f"PRAGMA {pragma}").fetchall()
        migrate(new)
        new.execute("BEGIN IMMEDIATE")
        insert_segments(new, segments)
        for table in _CARRIED:
            rows = live.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608 # a constant
            if rows:
                marks = ", ".join("?" * len(rows[0]))
                new.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)  # noqa: S608 # question marks
        last = segments[-1]
        new.execute("INSERT INTO checkpoint VALUES (?, ?, ?, ?)", (last.last, time_us, last.root, last.note))
        new.execute("COMMIT")
    _sync(folder)


def swap(folder: Path, live: Path, segment: Segment) -> None:
    """Give the closed live file its name as `segment`, and put the new one in its place."""
    closed = folder / FOLDER / segment.file
    closed.parent.mkdir(mode=0o700, exist_ok=True)
    _link(live, closed)
    # WHY: who still reads the old file keeps its own side files; the new one must not find them.
    _clear(live)
    _replace(folder / NEXT, live)
    _clear(live)
    _seal(closed)


def settle(folder: Path, live: Path) -> None:
    """Undo what a stop left of a rotation that did not come as far as its rename."""
    for left in (folder / NEXT, *(folder / FOLDER / name for name in REWRITTEN)):
        _clear(left, with_file=True)
    for closed in sorted((folder / FOLDER).glob("audit-*.db")):
        if live.exists() and closed.samefile(live):
            closed.unlink()
        elif closed.stat().st_mode & 0o222:
            _seal(closed)


def remove_dropped(folder: Path, segments: Sequence[Segment]) -> None:
    """Remove the files of segments that were dropped."""
    for segment in segments:
        if not segment.kept:
            (folder / FOLDER / segment.file).unlink(missing_ok=True)


def _link(live: Path, closed: Path) -> None:
    closed.hardlink_to(live)
    _sync(closed.parent)


def _replace(new: Path, live: Path) -> None:
    new.replace(live)
    _sync(live.parent)


def _seal(closed: Path) -> None:
    closed.chmod(0o400)


def _clear(path: Path, *, with_file: bool = False) -> None:
    for side in (*_SIDES, "-journal"):
        path.with_name(path.name + side).unlink(missing_ok=True)
    if with_file:
        path.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def closed_segment(connection: sqlite3.Connection, first: int, frontier: Frontier, note: str) -> Segment:
    """Give what the live file is, from record `first` on, once it is closed."""
    begin, end = times(connection)
    return Segment(
        first=first,
        last=frontier.size,
        root=frontier.root(),
        hashes=tuple(frontier.hashes),
        note=note,
        first_ts_us=begin,
        last_ts_us=end,
    )
