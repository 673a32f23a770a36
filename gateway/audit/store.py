"""The database under the log: one read-write connection, used by one thread at a time."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from gateway.audit.checkpoint import LogKey, Note, parse_note, parse_rotation
from gateway.audit.erase import Erased, forget_in
from gateway.audit.head import read_head
from gateway.audit.leaf import Prepared
from gateway.audit.live_file import Row, insert_rows, open_live
from gateway.audit.merkle import leaf_hash, root_at
from gateway.audit.persons import Persons
from gateway.audit.place import Place, identity
from gateway.audit.rotation import NEXT, build_next, closed_segment, first_time, remove_dropped, settle, swap
from gateway.audit.row import STORED, Stored
from gateway.audit.segment import Segment, check_chain, frontier_before, read_segments
from gateway.audit.trust import KeyChain
from gateway.audit.whole import WholeLog


class Store:
    """The log's file: rows go in by `write`, are durable after `commit`.

    INVARIANT: a file that is not the one that was opened is never written to and believed; `misplaced`
    tells when the path leads elsewhere.
    """

    def __init__(self, folder: Path, key: LogKey) -> None:
        self._folder = folder
        self._place = Place(folder)
        self.key = key
        self._signing = key  # the same, but while a rotation is being written
        self._persons_written: list[tuple[str, str]] = []
        self._open()
        self.persons = Persons(self._place.path)
        self._durable = self.head.copy()

    def _open(self) -> None:
        settle(self._folder, self._place.path)
        self._connection = open_live(self._place.path, make=not self._place.is_known)
        try:
            self._place.opened()
            self.segments = read_segments(self._connection)
            remove_dropped(self._folder, self.segments)
            self.head = read_head(self._connection)
            self._oldest_us = first_time(self._connection)
        except BaseException:
            self._connection.close()
            raise

    def misplaced(self) -> str | None:
        """Tell what is wrong with the files at the log's path, None if they are the ones that were opened."""
        return self._place.wrong()

    def write(self, batch: Sequence[Prepared], *, sign_end: bool, ts_us: int) -> list[tuple[int, str]]:
        """Insert a batch, numbered and hashed; give the signed checkpoints it asked for, with their sizes.

        Nothing is durable before `commit`; after an error `undo` must be called.
        """
        if problem := self.misplaced():
            raise OSError(problem)
        rows: list[Row] = []
        personal: list[Row] = []
        tiles: list[Row] = []
        notes: list[tuple[int, bytes, str]] = []
        head = self.head
        for item in batch:
            seq = head.size + 1
            committed = item.committed(seq)
            leaf = leaf_hash(committed)
            rows.append((seq, *item.columns, committed.decode(), leaf))
            if (kept := item.personal) is not None:
                personal.append((seq, kept.names, kept.salts, kept.top, kept.decision, kept.details))
            tiles += head.push(leaf, item.ts_us)
            if item.next_key is not None:
                notes.append(self._hand_over(item.next_key))
            elif item.sign:
                notes.append(self._sign())
        if sign_end and not (notes and notes[-1][0] == head.size):
            notes.append(self._sign())
        if self._oldest_us is None and batch:
            self._oldest_us = batch[0].ts_us
        self._insert(rows, personal, tiles, [(size, ts_us, root, note) for size, root, note in notes])
        return [(size, note) for size, _, note in notes]

    def _sign(self) -> tuple[int, bytes, str]:
        size, root = self.head.size, self.head.frontier.root()
        return size, root, self._signing.sign(size, root)

    def _hand_over(self, new: LogKey) -> tuple[int, bytes, str]:
        size, root = self.head.size, self.head.frontier.root()
        note = self._signing.sign_rotation(size, root, new)
        self._signing = new
        return size, root, note

    def _insert(self, rows: list[Row], personal: list[Row], tiles: list[Row], notes: list[Row]) -> None:
        self._persons_written = self.persons.unwritten()
        rotations: list[Row] = []
        if self._signing is not self.key:
            rotations = [(size, note) for size, _, _, note in notes if parse_rotation(parse_note(str(note)))]
        tables: list[tuple[str, Sequence[Row]]] = [
            ("INSERT INTO pii VALUES (?, ?, ?, ?, ?, ?)", personal),
            ("INSERT OR IGNORE INTO person VALUES (?, ?)", self._persons_written),
            ("INSERT INTO tile VALUES (?, ?, ?, ?, ?)", tiles),
            ("INSERT OR IGNORE INTO checkpoint VALUES (?, ?, ?, ?)", notes),
            ("INSERT INTO rotation VALUES (?, ?)", rotations),
        ]
        insert_rows(self._connection, rows, tables)

    def commit(self) -> None:
        """Make what was written durable, and believe it.

        Raises:
            sqlite3.Error: it is not.
            OSError: it is in a file that is no longer at the log's path.

        """
        self.sync()
        self.confirm()

    def sync(self) -> None:
        """Put what was written on the disk; it may be believed once `confirm` has been called, too.

        Raises:
            sqlite3.Error: it is not there.

        """
        # WHY: unlike an executed statement this lets go of the interpreter's lock once, and asks for it once.
        self._connection.commit()

    def confirm(self) -> None:
        """Believe what is on the disk.

        Raises:
            OSError: it is in a file that is no longer at the log's path.

        """
        if problem := self.misplaced():
            raise OSError(problem)
        self.key = self._signing
        self.persons.written(self._persons_written)
        self._durable = self.head.copy()

    def undo(self) -> None:
        """Forget what was written since the last commit."""
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        self.head = self._durable.copy()
        self._signing = self.key

    def adopt(self, key: LogKey) -> None:
        """Sign with `key` from now on, to which a rotation in the database hands over."""
        self.key = self._signing = key

    def handed_over_to(self, key: LogKey) -> bool:
        """Tell whether the newest rotation in the database names `key`."""
        row = self._connection.execute("SELECT note FROM rotation ORDER BY size DESC LIMIT 1").fetchone()
        pair = None if row is None else parse_rotation(parse_note(row[0]))
        return pair is not None and pair[1] == key.verifier

    def reopen(self) -> int:
        """Open the file anew after a failure; give how many records it holds of which no caller was told.

        Raises:
            sqlite3.Error: it cannot be.
            OSError: it is not the file that was opened.
            LookupError: it is damaged.

        """
        if (problem := self.misplaced()) and not self._place.is_of_wal(problem):
            # SECURITY: the connection stays open; closing it would free the only copy of a deleted file.
            raise OSError(problem)
        # WHY: if the -wal was deleted, only the open connection still has what it held.
        self.close()
        self._open()
        self.persons.open()
        known = self._durable
        if self.head.size < known.size or self.root_at(known.size) != known.frontier.root():
            raise OSError(f"{self._place.path.name} no longer holds what was recorded; restore it and restart")
        self._durable = self.head.copy()
        return self.head.size - known.size

    def root_at(self, size: int) -> bytes:
        """Give the root that the log had at `size`.

        Raises:
            LookupError: a part of the tree is not there.

        """
        with ExitStack() as stack:
            return root_at(size, WholeLog(self._folder, self._connection, stack).node)

    @property
    def live(self) -> tuple[int, int | None, int]:
        """The live file's first record, the time of its oldest record in microseconds, and its bytes."""
        return frontier_before(self.segments).size + 1, self._oldest_us, self._place.least_bytes

    def rotate(self, ts_us: int) -> Segment | None:
        """Close the file as a segment and begin a new one; None while it has no record, or somebody reads it just now.

        Only between commits, and with its end signed. After an error `reopen` must be called.
        """
        if problem := self.misplaced():
            raise OSError(problem)
        signed, first = self.last_checkpoint(), frontier_before(self.segments).size + 1
        if self.head.size < first or signed is None or signed[0] != self.head.size:
            return None
        if self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            return None
        segment = closed_segment(self._connection, first, self.head.frontier, signed[1])
        build_next(self._folder, self._connection, [*self.segments, segment], ts_us)
        coming = identity(self._folder / NEXT)
        self._close()
        try:
            swap(self._folder, self._place.path, segment)
        finally:
            self._place.follows(coming)
        self._open()
        self.persons.open()
        self._durable = self.head.copy()
        return segment

    def forget(self, user: str) -> Erased:
        """Forget a user in the live file and in what is known of persons; only between commits."""
        done = forget_in(self._connection, user)
        self.persons.forget(user)
        return done

    def scrub(self) -> bool:
        """Take the bytes of what was forgotten out of the live file; False while somebody reads it just now."""
        self._connection.execute("VACUUM")
        self._place.least_bytes = 0
        return not self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]

    def drop(self, segment: Segment, told: Prepared, ts_us: int) -> list[tuple[int, str]]:
        """Drop the file of the oldest kept segment, together with the record that tells of it.

        Gives the signed checkpoints; none, and nothing is changed, if it is not the oldest or an execution that
        began in it has no outcome.
        """
        kept = [each for each in self.segments if each.kept]
        sql = "SELECT count(*) FROM intent WHERE seq <= ?"
        if kept[:1] != [segment] or self._connection.execute(sql, (segment.last,)).fetchone()[0]:
            return []
        notes = self.write([told], sign_end=True, ts_us=ts_us)
        sql = "UPDATE segment SET dropped = ? WHERE first = ?"
        self._connection.execute(sql, (self.head.size, segment.first))
        self.commit()
        self.segments = read_segments(self._connection)
        remove_dropped(self._folder, self.segments)
        return notes

    def keys(self) -> KeyChain:
        """Give the keys that signed this log, one after the other."""
        found = self._connection.execute("SELECT note FROM rotation ORDER BY size").fetchall()
        return KeyChain(self.key.verifier, [parse_note(note) for (note,) in found])

    def check_segments(self, signed: Callable[[Note], bool]) -> None:
        """Check the closed files against what the live one knows of them.

        Raises:
            VerificationError: one is not what it should be.

        """
        check_chain(self._folder, self.segments, signed)
        with ExitStack() as stack:
            WholeLog(self._folder, self._connection, stack).check_drops()

    def last_checkpoint(self) -> tuple[int, str] | None:
        """Give the newest checkpoint with its size."""
        sql = "SELECT size, note FROM checkpoint ORDER BY size DESC LIMIT 1"
        row: tuple[int, str] | None = self._connection.execute(sql).fetchone()
        return row

    def open_intents(self) -> list[Stored]:
        """Give the stored form of every execution that began and has no outcome, oldest first."""
        found = self._connection.execute("SELECT seq FROM intent ORDER BY seq").fetchall()
        with ExitStack() as stack:
            whole = WholeLog(self._folder, self._connection, stack)
            holders = [(whole.holder(seq).connection, seq) for (seq,) in found]
            return [holder.execute(f"{STORED} WHERE record.seq = ?", (seq,)).fetchone() for holder, seq in holders]

    def close(self) -> None:
        """Close the file; the write-ahead log goes into it."""
        self.persons.close()
        self._close()

    def _close(self) -> None:
        with suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._connection.close()
