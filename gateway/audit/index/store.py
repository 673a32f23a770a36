"""The index as its one writer sees it: records go in by whole batches, and out again when a person is forgotten."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

import msgspec

from gateway.audit.index.blocks import Places, Times, pack, place_of, seqs_of, unpack
from gateway.audit.index.entry import Entry, Facet
from gateway.audit.index.schema import open_index
from gateway.audit.index.words import phrase

MAX_KNOWN = 50_000  # facets whose number is remembered
_ROWS_A_STATEMENT = 100
_FACET_BITS = 32
_FACET_MASK = (1 << _FACET_BITS) - 1


def bits_id(block: int, facet: int) -> int:
    """Give the key under which the places of a facet in a block are kept."""
    return block << _FACET_BITS | facet


class IndexStore:
    """The index's file; one thread at a time.

    Raises:
        sqlite3.Error: it is damaged or cannot be written; the last batch is then not in it.

    """

    def __init__(self, folder: Path) -> None:
        self._connection = open_index(folder)
        self._known: dict[Facet, int] = {}
        self._load()

    def _load(self) -> None:
        head = self._connection.execute("SELECT size, last, kept FROM head").fetchone()
        if head is None:
            raise sqlite3.DatabaseError("the index has lost its head")
        self.size: int = head[0]
        self.last: bytes | None = head[1]
        self.kept: int = head[2]
        self._known.clear()
        self._block = -1
        self._places: dict[Facet, Places] = {}
        self._times = Times()

    def add(self, entries: Sequence[Entry], last: bytes) -> None:
        """Index records that follow the last one; `last` is the leaf of the last of them."""
        # WHY: SQLite gives back the interpreter's lock at each step; few, large steps do not fight the event loop.
        try:
            with self._transaction():
                for block, group in groupby(entries, key=lambda entry: place_of(entry.seq)[0]):
                    self._add_to_block(block, list(group))
                said = [(entry.seq, entry.words) for entry in entries]
                self._say(said)
                self._connection.execute("UPDATE head SET size = ?, last = ?", (entries[-1].seq, last))
        except BaseException:
            self._load()
            raise
        self.size, self.last = entries[-1].seq, last

    def forget(self, user: str | None, seqs: Sequence[int], entries: Iterable[Sequence[Entry]]) -> None:
        """Take out a person, and the words of the records `seqs`; what `entries` now say comes in their place.

        Returns only when the bytes are gone from the file and what lies beside it.

        Raises:
            sqlite3.OperationalError: somebody reads it, so that they are not gone.

        """
        try:
            with self._transaction():
                if user is not None:
                    self._drop_facet(("user", user))
                numbers = msgspec.json.encode(seqs).decode()
                self._connection.execute("DELETE FROM said WHERE rowid IN (SELECT value FROM json_each(?))", (numbers,))
                for page in entries:
                    self._say([(entry.seq, entry.words) for entry in page if entry.seq <= self.size])
        finally:
            self._load()
        if not self.compact():
            raise sqlite3.OperationalError("somebody reads the index, so that nothing in it can be forgotten")

    def mentioning(self, user: str) -> set[int]:
        """Give the records that are indexed under a person, or whose words have the person's name."""
        row = self._connection.execute("SELECT id FROM facet WHERE name = 'user' AND value = ?", (user,)).fetchone()
        found: set[int] = set()
        if row is not None:
            sql = "SELECT block.id, places FROM block JOIN bits ON bits.id = (block.id << ?) | ?"
            for block, packed in self._connection.execute(sql, (_FACET_BITS, row[0])):
                found.update(seqs_of(block, unpack(packed)))
        said = "SELECT rowid FROM said WHERE said MATCH ?"
        return found.union(seq for (seq,) in self._connection.execute(said, (phrase(user),)))

    def drop_before(self, seq: int) -> None:
        """Take out every record before `seq`, because the log no longer has it."""
        block = place_of(seq)[0]
        try:
            with self._transaction():
                self._connection.execute("DELETE FROM bits WHERE id < ?", (bits_id(block, 0),))
                self._connection.execute("DELETE FROM block WHERE id < ?", (block,))
                self._cut_block(block, place_of(seq)[1])
                # SECURITY: a name that nothing is said of any more is a trace of what was dropped.
                self._connection.execute("DELETE FROM facet WHERE id NOT IN (SELECT id & ? FROM bits)", (_FACET_MASK,))
                self._connection.execute("DELETE FROM said WHERE rowid < ?", (seq,))
                self._connection.execute("UPDATE head SET kept = ?", (seq,))
        finally:
            self._load()
        self.compact()

    def compact(self) -> bool:
        """Merge the words into one piece, so that nothing deleted remains in the file or beside it.

        False: somebody reads it just now, so what was deleted may still lie beside it.
        """
        self._connection.execute("INSERT INTO said (said) VALUES ('optimize')")
        return not self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _add_to_block(self, block: int, entries: Sequence[Entry]) -> None:
        if block != self._block:
            self._open_block(block)
        changed: dict[Facet, None] = {}
        for entry in entries:
            place = place_of(entry.seq)[1]
            self._times.add(place, entry.ts_us)
            for facet in entry.facets:
                known = self._places.get(facet)
                if known is None:
                    known = self._places[facet] = Places()
                known.add(place)
                changed[facet] = None
        numbers = self._numbers(list(changed))
        rows = [(bits_id(block, numbers[facet]), self._places[facet].pack()) for facet in changed]
        self._insert_many("bits", rows)
        self._insert_many("block", [(block, *self._times.span, self._times.pack())])

    def _open_block(self, block: int) -> None:
        """Read what is known of a block, so that more can be added."""
        self._block, self._places = block, {}
        row = self._connection.execute("SELECT times FROM block WHERE id = ?", (block,)).fetchone()
        self._times = Times(b"" if row is None else row[0])
        sql = "SELECT name, value, places FROM bits JOIN facet ON facet.id = bits.id & ? WHERE bits.id BETWEEN ? AND ?"
        bounds = (_FACET_MASK, bits_id(block, 0), bits_id(block + 1, 0) - 1)
        for name, value, packed in self._connection.execute(sql, bounds):
            self._places[name, value] = Places(packed)

    def _cut_block(self, block: int, place: int) -> None:
        """Take the places before `place` out of a block."""
        sql = "SELECT id, places FROM bits WHERE id BETWEEN ? AND ?"
        bounds = (bits_id(block, 0), bits_id(block + 1, 0) - 1)
        for key, packed in self._connection.execute(sql, bounds).fetchall():
            left = unpack(packed) >> place << place
            if left:
                self._connection.execute("UPDATE bits SET places = ? WHERE id = ?", (pack(left), key))
            else:
                self._connection.execute("DELETE FROM bits WHERE id = ?", (key,))

    def _numbers(self, facets: list[Facet]) -> dict[Facet, int]:
        if len(self._known) > MAX_KNOWN:
            self._known.clear()
        missing = msgspec.json.encode([facet for facet in facets if facet not in self._known]).decode()
        if missing != "[]":
            wanted = "SELECT value ->> 0, value ->> 1 FROM json_each(?)"
            self._connection.execute(f"INSERT OR IGNORE INTO facet (name, value) {wanted}", (missing,))  # constants
            sql = f"SELECT id, name, value FROM facet WHERE (name, value) IN ({wanted})"  # noqa: S608 # constants
            for number, name, value in self._connection.execute(sql, (missing,)).fetchall():
                self._known[name, value] = number
        return {facet: self._known[facet] for facet in facets}

    def _drop_facet(self, facet: Facet) -> None:
        row = self._connection.execute("SELECT id FROM facet WHERE name = ? AND value = ?", facet).fetchone()
        if row is None:
            return
        sql = "DELETE FROM bits WHERE id IN (SELECT (id << ?) | ? FROM block)"
        self._connection.execute(sql, (_FACET_BITS, row[0]))
        self._connection.execute("DELETE FROM facet WHERE id = ?", row)
        self._known.pop(facet, None)

    def _say(self, said: list[tuple[int, str]]) -> None:
        sql = "INSERT INTO said (rowid, words) SELECT value ->> 0, value ->> 1 FROM json_each(?)"
        self._connection.execute(sql, (msgspec.json.encode(said).decode(),))

    def _insert_many(self, table: str, rows: Sequence[tuple[object, ...]]) -> None:
        for begin in range(0, len(rows), _ROWS_A_STATEMENT):
            some = rows[begin : begin + _ROWS_A_STATEMENT]
            marks = ", ".join([f"({', '.join('?' * len(some[0]))})"] * len(some))
            values = [value for row in some for value in row]
            self._connection.execute(f"INSERT OR REPLACE INTO {table} VALUES {marks}", values)  # noqa: S608 # own names

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")
