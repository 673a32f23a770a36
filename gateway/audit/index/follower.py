"""The follower: a thread that reads what the log has committed and keeps the index up with it.

It has a read-only connection of its own to the log, and is the index's only writer: a lock file keeps others away.
Whatever befalls it is its own affair: it tries again, or makes the index anew; the log and those who search never
wait for it. A gateway lets it run in a process of its own (`gateway.audit.index.following`).
"""

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gateway.audit.index.entry import Entry, entry_of
from gateway.audit.index.schema import LOCK, remove_index
from gateway.audit.index.store import IndexStore
from gateway.audit.lock_file import LockFile
from gateway.audit.query import LogReader
from gateway.audit.row import Stored, row_of
from gateway.errors import HearthgateError, VerificationError

POLL_S = 0.25
BATCH_ROWS = 512
_RETRY_S = (0.25, 30.0)
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
_FAILURES = (sqlite3.Error, OSError, HearthgateError, LookupError, TypeError, ValueError)
_log = logging.getLogger("hearthgate")


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexState:
    """How far the index is."""

    indexed: int
    records: int
    why: str | None  # it cannot go on, None if it does


class Follower:
    """Keeps the index of a folder's log up to date between `start` and `stop`; `tell` hears why it cannot, and None."""

    def __init__(self, folder: Path, tell: Callable[[str | None], None] = lambda _why: None) -> None:
        self._folder, self._tell = folder, tell
        self._reader = LogReader(folder)
        self._store: IndexStore | None = None
        self._writing: LockFile | None = None
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._why: str | None = None
        self._told: str | None = ""  # neither well nor anything that is wrong
        self._thread = threading.Thread(target=self.run, name="audit-index", daemon=True)

    def start(self) -> None:
        """Begin to follow, in a thread."""
        self._thread.start()

    def end(self) -> None:
        """Have it end after the batch under way; does not wait."""
        self._stopping.set()
        self._wake.set()

    def stop(self) -> None:
        """End after the batch under way."""
        self.end()
        if self._thread.is_alive():
            self._thread.join()
        with self._lock:
            self._drop_store()

    @property
    def state(self) -> IndexState:
        """How far it is."""
        store = self._store
        return IndexState(indexed=0 if store is None else store.size, records=self._reader.extent()[1], why=self._why)

    def rebuild(self) -> None:
        """Delete the index and begin anew; returns at once, the thread does the work."""
        with self._lock:
            self._drop_store()
            remove_index(self._folder)
        self._wake.set()

    def forget(self, user: str | None, seqs: Sequence[int]) -> None:
        """Take a person out of the index, once the log no longer has their values in the records `seqs`.

        Returns only when nothing of what was erased is left in the index's files: if that cannot be done piece by
        piece, the index is deleted and made anew.

        Raises:
            OSError: the files cannot be deleted either.

        """
        with self._lock:
            try:
                store = self._open_store()
                # WHY: whoever erases may have been killed and no longer know every record; the index knows its own.
                wanted = sorted({*seqs, *(store.mentioning(user) if user is not None else ())})
                store.forget(user, wanted, self._pages(wanted))
            except _FAILURES as error:
                _log.warning("the index over the decision log is made anew, to forget a person: %s", error)
                self._drop_store()
                remove_index(self._folder)
        self._wake.set()

    def run(self) -> None:
        """Follow until told to end."""
        retry_s = _RETRY_S[0]
        while not self._stopping.is_set():
            try:
                count = self._step()
            except _FAILURES as error:
                self._fail(error)
                self._stopping.wait(retry_s)
                retry_s = min(retry_s * 2, _RETRY_S[1])
                continue
            self._set_why(None)
            retry_s = _RETRY_S[0]
            if count < BATCH_ROWS:
                self._wake.wait(POLL_S)
                self._wake.clear()

    def _step(self) -> int:
        """Index one batch; give how many records it had."""
        with self._lock:
            store = self._open_store()
            found = self._reader.after(store.size, BATCH_ROWS)
            if not found:
                self._drop_dropped(store)
            else:
                store.add(list(_entries(found)), found[-1][2])
            return len(found)

    def _drop_dropped(self, store: IndexStore) -> None:
        """Take out what the log no longer has."""
        first, _ = self._reader.extent()
        if first > store.kept:
            store.drop_before(first)

    def _open_store(self) -> IndexStore:
        if self._store is None:
            # INVARIANT: nobody writes the index who does not hold this.
            self._writing = self._writing or LockFile(self._folder / LOCK)
            store = IndexStore(self._folder)
            if store.size and not self._reader.continues(store.size, store.last):
                store.close()
                raise sqlite3.DatabaseError("the index is not of this log")
            self._store = store
        return self._store

    def _fail(self, error: Exception) -> None:
        with self._lock:
            self._drop_store()
            # WHY: a code below 256 is the whole family; a full disk or a missing right mends itself, damage does not.
            code = getattr(error, "sqlite_errorcode", None)
            damaged = isinstance(error, sqlite3.DatabaseError) and (code is None or code & 0xFF in _DAMAGE)
            if damaged or isinstance(error, LookupError | TypeError | ValueError):
                with suppress(OSError):
                    remove_index(self._folder)
        if self._why is None:
            _log.warning("the index over the decision log does not follow: %s", error)
        self._set_why(f"{error}")

    def _set_why(self, why: str | None) -> None:
        self._why = why
        if why != self._told:
            self._told = why
            self._tell(why)

    def _drop_store(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            with suppress(sqlite3.Error):
                store.close()
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.release()

    def _pages(self, seqs: list[int]) -> Iterator[list[Entry]]:
        for begin in range(0, len(seqs), BATCH_ROWS):
            yield list(_entries(self._reader.stored(seqs[begin : begin + BATCH_ROWS])))


def _entries(found: list[Stored]) -> Iterator[Entry]:
    for stored in found:
        try:
            yield entry_of(row_of(stored))
        except (VerificationError, LookupError, TypeError, ValueError, AttributeError):
            # WHY: a record that was changed in the database is for a search that reads it, or `verify`, to tell.
            yield Entry(seq=stored[0], ts_us=0, facets=(), words="")
