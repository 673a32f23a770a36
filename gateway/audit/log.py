"""The decision log: one writer, durable before it answers.

Records that arrive while a commit is under way are the next batch. Inserting happens on the event loop, only
`COMMIT`, which waits for the disk, in the one writer thread; there are never two commits in flight.
"""

import asyncio
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Self

from gateway.audit import book as book_file
from gateway.audit import store as store_file
from gateway.audit.book import CheckpointBook
from gateway.audit.checkpoint import LogKey, parse_note, read_or_make_key
from gateway.audit.leaf import Prepared, microseconds, prepare, row_of
from gateway.audit.store import LockFile, Store
from gateway.domain.record import Record, Resolution
from gateway.errors import LogUnavailableError, VerificationError

MAX_BACKLOG = 8192
MAX_BATCH = 1024
BEAT_S = 1.0
PROBE_S = 0.25
MIN_PROBE_S = 0.05
_FAILURES = (sqlite3.Error, OSError, LookupError, ValueError)


@dataclass(slots=True)
class LogCounts:
    """What the log did since it was opened."""

    appended: int = 0
    commits: int = 0
    refused: int = 0


class _Batch:
    """Records that share one commit, and the future that all their callers wait for."""

    __slots__ = ("durable", "error", "finished", "first", "items", "loop", "notes", "sign_end")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.durable: asyncio.Future[None] = loop.create_future()
        self.finished = threading.Event()
        self.items: list[Prepared] = []
        self.sign_end = False
        self.first = 0
        self.notes: list[tuple[int, str]] = []
        self.error: Exception | None = None


class DecisionLog:
    """The append-only record of what was decided and done.

    Fails closed: while it cannot write, `append` raises and `why` tells the cause; when the cause is gone it
    goes on by itself and records the gap. A database file that was deleted or replaced is never silently
    continued: the log waits until that very file is back, or an operator restarts.
    One event loop uses it at a time.
    """

    def __init__(
        self,
        folder: Path,
        lock: LockFile,
        key: LogKey,
        clock: tuple[Callable[[], datetime], Callable[[], str]],
    ) -> None:
        self._lock = lock
        self._key = key
        self._now, self._new_id = clock
        self._book = CheckpointBook(folder)
        self._store = Store(folder, key)
        self.note: str | None = None  # the newest signed checkpoint
        self._signed_size = -1
        self.counts = LogCounts()
        self.why: str | None = None
        self._since: datetime | None = None
        self._gap_refused = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[_Batch] = deque()
        self._flying: _Batch | None = None
        self._backlog = 0
        self._scheduled = False
        self._closed = False
        self._beat_timer: asyncio.TimerHandle | None = None
        self._last_try = 0.0
        self._recovery: asyncio.Future[None] | None = None
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run_work, name="decision-log", daemon=True)
        self.lost = tuple(row_of(stored) for stored in self._store.open_intents())

    @classmethod
    def open(cls, folder: Path, *, now: Callable[[], datetime], new_id: Callable[[], str]) -> Self:
        """Open the log in `folder`, making it if there is none.

        `lost` then holds the rows of executions that began and have no outcome.

        Raises:
            HomeInUseError: another process writes it.
            VerificationError: it is not the log that its last checkpoint speaks of.
            ConfigError: its key cannot be believed.
            LogUnavailableError: it cannot be read or written.

        """
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = LockFile(folder / "audit.lock")
        except OSError as error:
            raise LogUnavailableError(f"the decision log in `{folder}` cannot be opened: {error.strerror}") from error
        try:
            key = read_or_make_key(folder / "keys")
            _check_presence(folder, key)
            log = cls(folder, lock, key, (now, new_id))
            log._check_history()
        except _FAILURES as error:
            lock.release()
            raise LogUnavailableError(f"the decision log in `{folder}` cannot be opened: {error}") from error
        except BaseException:
            lock.release()
            raise
        log._thread.start()
        return log

    def _check_history(self) -> None:
        """Compare the database with the newest checkpoints, its own and the book's."""
        stored = self._store.last_checkpoint()
        told = self._book.last(self._key.verifier)
        notes = [] if stored is None else [parse_note(stored[1])]
        for note in notes if told is None else [*notes, told]:
            whole = self._key.verifier.signed(note) and self._store.head.size >= note.size
            if not whole or self._store.root_at(note.size) != note.root:
                self._store.close()
                raise VerificationError(
                    f"audit.db is not the log that a checkpoint of {note.size} records speaks of",
                    way_out="restore it, or move audit.db and checkpoints.txt aside to begin a new log",
                )
            self.note, self._signed_size = note.text, note.size

    @property
    def healthy(self) -> bool:
        """Whether the next append can be expected to succeed."""
        return self.why is None and not self._closed

    @property
    def size(self) -> int:
        """How many records are written, those of a commit under way included."""
        return self._store.head.size

    @property
    def verifier(self) -> str:
        """The public key that checks this log's checkpoints, in its text form."""
        return str(self._key.verifier)

    async def append(self, *records: Record) -> tuple[int, ...]:
        """Write `records`, all or none, and return their numbers.

        Returns only once they would survive a power cut. A caller that is cancelled meanwhile does not
        take them back.

        Raises:
            LogUnavailableError: nothing was written; the caller must not run the action.

        """
        if not records:
            return ()
        batch, offset = await self._enter([prepare(record) for record in records])
        first = batch.first + offset
        return tuple(range(first, first + len(records)))

    async def append_signed(self, record: Record) -> tuple[int, str]:
        """Write `record` and return its number with a signed checkpoint of the log up to it.

        Raises:
            LogUnavailableError: nothing was written.

        """
        item = prepare(record)
        item.sign = True
        batch, offset = await self._enter([item])
        seq = batch.first + offset
        return seq, next(note for size, note in batch.notes if size == seq)

    async def checkpoint(self) -> str:
        """Return a signed checkpoint of everything written so far.

        Raises:
            LogUnavailableError: it cannot be written.

        """
        if self.note is not None and self._signed_size == self.size and self._flying is None and not self._waiting:
            return self.note
        batch, _ = await self._enter([], sign_end=True)
        return batch.notes[-1][1]

    async def close(self) -> None:
        """Write what is waiting, sign a last checkpoint and let go of the files."""
        if self._closed:
            return
        self._adopt(asyncio.get_running_loop())
        if self.why is None:
            with suppress(LogUnavailableError):
                await self.checkpoint()
        self._closed = True
        while self._flying is not None or self._waiting:
            with suppress(LogUnavailableError):
                await asyncio.shield((self._flying or self._waiting[0]).durable)
            await asyncio.sleep(0)
        if self._recovery is not None:
            await asyncio.shield(self._recovery)
        if self._beat_timer is not None:
            self._beat_timer.cancel()
        self._work.put(None)
        self._thread.join()
        self._store.close()
        self._lock.release()

    async def _enter(self, items: list[Prepared], *, sign_end: bool = False) -> tuple[_Batch, int]:
        """Put `items` into the open batch and wait until it is durable; give it with their place in it."""
        self._adopt(asyncio.get_running_loop())
        if self.why is not None:
            await self._wait_for_recovery()
        if self._closed or self.why is not None:
            raise self._unavailable(len(items))
        if self._backlog + len(items) > MAX_BACKLOG:
            self.counts.refused += len(items)
            raise LogUnavailableError("too many records wait to be written", retry_after_s=1)
        batch = self._open_batch()
        offset = len(batch.items)
        batch.items += items
        batch.sign_end |= sign_end
        self._backlog += len(items)
        # WHY: cancelling one waiter of a future cancels it for all; the shield is cancelled instead.
        await asyncio.shield(batch.durable)
        return batch, offset

    def _open_batch(self) -> _Batch:
        if not self._waiting or len(self._waiting[-1].items) >= MAX_BATCH:
            self._waiting.append(_Batch(asyncio.get_running_loop()))
        self._seal_soon()
        return self._waiting[-1]

    def _seal_soon(self) -> None:
        if not self._scheduled and self._flying is None and self._loop is not None:
            self._scheduled = True
            self._loop.call_soon(self._seal)

    def _seal(self) -> None:
        """Insert the next batch and hand its commit to the writer thread."""
        self._scheduled = False
        if self._flying is not None or not self._waiting or self.why is not None:
            return
        batch = self._waiting.popleft()
        batch.first = self._store.head.size + 1
        self._flying = batch
        try:
            ts_us = microseconds(self._now())
            batch.notes = self._store.write(batch.items, sign_end=batch.sign_end, ts_us=ts_us)
        except Exception as error:  # noqa: BLE001 # SECURITY: whatever it was, none of the batch counts as written
            batch.error = error
            self._settle(batch)
        else:
            self._work.put(partial(self._commit, batch))

    def _commit(self, batch: _Batch) -> None:
        """Commit; in the writer thread."""
        try:
            self._store.commit()
        except Exception as error:  # noqa: BLE001 # SECURITY: as in `_seal`
            batch.error = error
        batch.finished.set()
        with suppress(RuntimeError):  # WHY: the loop may be closed; then `_adopt` settles the batch.
            batch.loop.call_soon_threadsafe(self._settle, batch)
        if batch.error is None:
            self._book.add([note for _, note in batch.notes])

    def _settle(self, batch: _Batch) -> None:
        """Tell the callers of `batch` what became of it, and go on with the next."""
        if self._flying is not batch:
            return
        self._flying = None
        if batch.error is not None:
            self._fail(batch, batch.error)
            return
        self._backlog -= len(batch.items)
        self.counts.appended += len(batch.items)
        self.counts.commits += 1
        if batch.notes:
            self._signed_size, self.note = batch.notes[-1]
        if not batch.durable.done():
            batch.durable.set_result(None)
        self._seal()

    def _fail(self, batch: _Batch | None, error: Exception) -> None:
        """Refuse everything that waits, and stay unavailable until a recovery succeeds."""
        self._store.undo()
        self.why = f"{error}"
        self._since = self._since or self._now()
        refused = [*([] if batch is None else [batch]), *self._waiting]
        self._waiting.clear()
        self._backlog = 0
        for each in refused:
            unavailable = self._unavailable(len(each.items))
            if not each.durable.done():
                each.durable.set_exception(unavailable)
                each.durable.exception()  # WHY: marks it as seen, for its waiters may all be gone.
        self._beat_soon(PROBE_S)

    def _unavailable(self, count: int) -> LogUnavailableError:
        self.counts.refused += count
        self._gap_refused += count
        cause = "it is closed" if self._closed else self.why
        return LogUnavailableError(f"the decision log cannot be written: {cause}", retry_after_s=1)

    def _adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        """Make `loop` the one that runs this log.

        Raises:
            LogUnavailableError: another loop is using it.

        """
        if loop is self._loop:
            return
        old, flying = self._loop, self._flying
        busy = flying is not None or self._waiting or self._recovery is not None
        if old is not None and not old.is_closed() and busy:
            raise LogUnavailableError("another event loop is writing the decision log", retry_after_s=1)
        self._loop, self._scheduled, self._recovery = loop, False, None
        self._backlog -= sum(len(batch.items) for batch in self._waiting)
        self._waiting.clear()  # WHY: their callers ended with the old loop.
        if flying is not None:
            flying.finished.wait()
            flying.durable = loop.create_future()
            self._settle(flying)
        self._beat_soon(BEAT_S)

    def _beat_soon(self, delay_s: float) -> None:
        if self._beat_timer is not None:
            self._beat_timer.cancel()
        if self._loop is not None and not self._closed:
            self._beat_timer = self._loop.call_later(delay_s, self._beat)

    def _beat(self) -> None:
        """Look after the files, sign what has grown, and try to recover."""
        if self.why is not None:
            self._start_recovery()
            return
        self._beat_soon(BEAT_S)
        if self._flying is None and (problem := self._store.misplaced()):
            self._fail(None, OSError(problem))
        elif self._signed_size < self.size:
            self._open_batch().sign_end = True

    async def _wait_for_recovery(self) -> None:
        if self._loop is not None and self._loop.time() - self._last_try >= MIN_PROBE_S:
            self._start_recovery()
        if self._recovery is not None:
            await asyncio.shield(self._recovery)

    def _start_recovery(self) -> None:
        if self._recovery is None and self._loop is not None and not self._closed:
            self._recovery = self._loop.create_future()
            self._last_try = self._loop.time()
            self._work.put(partial(self._recover, self._loop, self._now()))

    def _recover(self, loop: asyncio.AbstractEventLoop, now: datetime) -> None:
        """Open the files anew and write down the gap; in the writer thread."""
        why: str | None = None
        notes: list[tuple[int, str]] = []
        try:
            kept = self._store.reopen()
            notes = self._store.write([prepare(self._gap(now, kept))], sign_end=True, ts_us=microseconds(now))
            self._store.commit()
        except Exception as error:  # noqa: BLE001 # SECURITY: as in `_seal`
            self._store.undo()
            why = f"{error}"
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(self._end_recovery, why, notes)
        if why is None:
            self._book.add([note for _, note in notes])

    def _gap(self, now: datetime, kept: int) -> Record:
        details: dict[str, Any] = {
            "from": (self._since or now).isoformat().replace("+00:00", "Z"),
            "to": now.isoformat().replace("+00:00", "Z"),
            "why": self.why,
            "refused": self._gap_refused,
            "kept_unacknowledged": kept,
        }
        return Record(
            event_id=f"audit-{self._new_id()}",
            at=now,
            event_type="recovered",
            resolution=Resolution.COMPLETED,
            details=details,
        )

    def _end_recovery(self, why: str | None, notes: list[tuple[int, str]]) -> None:
        recovery, self._recovery = self._recovery, None
        if why is None:
            self.why, self._since, self._gap_refused = None, None, 0
            self._signed_size, self.note = notes[-1]
            self.counts.appended += 1
            self.counts.commits += 1
        else:
            self.why = why
        self._beat_soon(BEAT_S if why is None else PROBE_S)
        if recovery is not None and not recovery.done():
            recovery.set_result(None)

    def _run_work(self) -> None:
        while (work := self._work.get()) is not None:
            work()


def _check_presence(folder: Path, key: LogKey) -> None:
    """Refuse to begin a new log where an old one was.

    Raises:
        VerificationError: the checkpoints speak of a log that is not there.

    """
    database = folder / store_file.FILE
    if database.exists() and database.stat().st_size > 0:
        return
    told = CheckpointBook(folder).last(key.verifier)
    if told is not None and told.size > 0:
        raise VerificationError(
            f"`{database}` is gone, and a checkpoint speaks of {told.size} records in it",
            way_out=f"put it back, or move {book_file.FILE} aside to begin a new log",
        )
