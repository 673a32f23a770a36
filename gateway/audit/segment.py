"""Closed files of the log: what the live file knows of the ones before it, and whether they are what it knows."""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.audit.checkpoint import Note, parse_note
from gateway.audit.merkle import Frontier, read_frontier
from gateway.audit.tree import chained_node, stored_node
from gateway.domain.request import Json
from gateway.errors import LogUnavailableError, VerificationError

FOLDER = "segments"
DROPPED = "segment_dropped"
_HASH_BYTES = 32
_COLUMNS = "first, last, root, frontier, note, first_ts_us, last_ts_us, dropped"
_INSERT = f"INSERT INTO segment ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 # a constant


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A closed part of the log: the records `first` to `last`, and the tree as it was behind them."""

    first: int
    last: int
    root: bytes
    hashes: tuple[bytes, ...]  # the frontier behind `last`
    note: str  # the signed checkpoint of `last` records
    first_ts_us: int
    last_ts_us: int
    dropped: int | None = None  # the record that tells of its dropping, None while its file is kept

    @property
    def file(self) -> str:
        """The name of its file in the folder of segments."""
        return f"audit-{self.first:012d}.db"

    @property
    def kept(self) -> bool:
        """Whether its file is still there."""
        return self.dropped is None

    def as_json(self) -> dict[str, Json]:
        """Give what can be told of it."""
        return {"first": self.first, "last": self.last, "root": self.root.hex(), "checkpoint": self.note}

    @property
    def frontier(self) -> Frontier:
        """What is needed to go on behind it."""
        return Frontier(self.last, self.hashes)


def read_segments(connection: sqlite3.Connection) -> tuple[Segment, ...]:
    """Read what a file knows of the ones before it, oldest first."""
    found = connection.execute(f"SELECT {_COLUMNS} FROM segment ORDER BY first")  # noqa: S608 # a constant
    return tuple(
        Segment(
            first=first,
            last=last,
            root=root,
            hashes=tuple(hashes[at : at + _HASH_BYTES] for at in range(0, len(hashes), _HASH_BYTES)),
            note=note,
            first_ts_us=first_ts_us,
            last_ts_us=last_ts_us,
            dropped=dropped,
        )
        for first, last, root, hashes, note, first_ts_us, last_ts_us, dropped in found
    )


def insert_segments(connection: sqlite3.Connection, segments: Iterable[Segment]) -> None:
    """Write down what came before a file."""
    rows = [
        (
            each.first,
            each.last,
            each.root,
            b"".join(each.hashes),
            each.note,
            each.first_ts_us,
            each.last_ts_us,
            each.dropped,
        )
        for each in segments
    ]
    connection.executemany(_INSERT, rows)


def frontier_before(segments: Sequence[Segment]) -> Frontier:
    """Give the frontier behind the last of `segments`; an empty one if there is none."""
    return segments[-1].frontier if segments else Frontier()


def connect_closed(folder: Path, segment: Segment) -> sqlite3.Connection:
    """Open the file of a segment for reading; `folder` is the log's.

    Raises:
        LogUnavailableError: it is not there.
        sqlite3.Error: it cannot be opened.

    """
    path = folder / FOLDER / segment.file
    if not path.is_file():
        raise LogUnavailableError(
            f"`{path}` is gone, and with it the records {segment.first} to {segment.last}",
            way_out="put it back, from a backup",
        )
    # WHY: nobody writes to a closed file (it is replaced as a whole), so nothing is locked and nothing put beside it.
    uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def check_chain(folder: Path, segments: Sequence[Segment], signed: Callable[[Note], bool]) -> None:
    """Check that every segment is there and continues the one before; reads its ends and its tiles, not its rows.

    Raises:
        VerificationError: one is gone, or is not what the live file knows of it.

    """
    before = Frontier()
    for segment in segments:
        problem = _check_row(segment, before, signed)
        if problem is None and segment.kept:
            problem = _check_file(folder, segment, before)
        if problem is not None:
            raise VerificationError(
                f"{FOLDER}/{segment.file} {problem}", way_out="put the right file back, from a backup"
            )
        before = segment.frontier


def _check_row(segment: Segment, before: Frontier, signed: Callable[[Note], bool]) -> str | None:
    if segment.first != before.size + 1:
        return f"does not begin behind record {before.size}"
    note = parse_note(segment.note)
    if not signed(note):
        return "has a last checkpoint that is not signed by this log's key"
    if len(segment.hashes) != segment.last.bit_count() or segment.frontier.root() != segment.root:
        return "does not have the root that the live file knows"
    return None if (note.size, note.root) == (segment.last, segment.root) else "does not end at its last checkpoint"


def _check_file(folder: Path, segment: Segment, before: Frontier) -> str | None:
    try:
        connection = connect_closed(folder, segment)
    except LogUnavailableError:
        return f"is gone, and with it the records {segment.first} to {segment.last}"
    except sqlite3.Error as error:
        return f"cannot be read: {error}"
    try:
        found = connection.execute("SELECT min(seq), max(seq) FROM record").fetchone()
        if found != (segment.first, segment.last):
            return f"does not hold the records {segment.first} to {segment.last}"
        node = chained_node([(segment.first, segment.last, stored_node(connection))], before)
        frontier = read_frontier(segment.last, node)
    except LookupError as error:
        return f"is damaged: {error}"
    except sqlite3.Error as error:
        return f"cannot be read: {error}"
    finally:
        connection.close()
    return None if tuple(frontier.hashes) == segment.hashes else "does not have the root that the live file knows"
