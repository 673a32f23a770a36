"""Group commit: records that arrive together, or while a commit is under way, are one batch.

Inserting happens on the event loop, only `COMMIT`, which waits for the disk, in the one writer thread; there
are never two commits in flight. (SQLite takes and gives back the interpreter's lock at every step: a thread
that inserted rows would fight the loop for each of them.) A batch is sealed as soon as the loop has nothing else to do:
a commit costs as much as some ten records, so that many small ones cost more than they save.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import datetime
from functools import partial
from queue import SimpleQueue
from time import perf_counter
from typing import Any, TypeVar

from gateway.audit.batch import Batch, LogCounts
from gateway.audit.book import CheckpointBook
from gateway.audit.leaf import Prepared, microseconds
from gateway.audit.store import Store
from gateway.errors import LogUnavailableError

Result = TypeVar("Result")

MAX_BACKLOG = 8192
MAX_BACKLOG_BYTES = 64 * 1024 * 1024
MAX_BATCH = 1024
ENOUGH = 256  # records that are worth a commit, whoever else may come
LINGER_S = 0.02  # and the longest that a record waits for others
_QUIET_TURNS = 2  # of the loop: what is read in one turn is recorded in the next


class GroupCommit:
    """Takes records from callers on one event loop and makes them durable, many in one commit.

    `on_failure` is called on the loop with the first error; until `resume`, nothing more is sealed.
    """

    def __init__(
        self,
        store: Store,
        book: CheckpointBook,
        now: Callable[[], datetime],
        on_failure: Callable[[Exception], None],
    ) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.counts = LogCounts()
        self.signed: tuple[int, str] | None = None  # the newest checkpoint, with its size
        self.on_commit: Callable[[float, int], None] = _tell_nobody  # seconds, and records made durable
        self._store, self._book = store, book
        self._now, self._on_failure = now, on_failure
        self._waiting: deque[Batch] = deque()
        self._flying: Batch | None = None
        self._scheduled = False
        self._gathered, self._quiet, self._since = 0, 0, 0.0
        self._alone = True  # the last batch was of one caller
        self._stopped = False
        self._paused = False  # while something is done between commits
        self._apart: asyncio.Future[Any] | None = None
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run_work, name="decision-log", daemon=True)

    def start(self) -> None:
        """Start the writer thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the writer thread once its work is done."""
        self._work.put(None)
        self._thread.join()

    @property
    def busy(self) -> bool:
        """Whether records wait, a commit is under way, or something is done between commits."""
        return self._flying is not None or bool(self._waiting) or self._paused

    def adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        """Make `loop` the one that runs this; what the callers of an ended loop left is settled."""
        self.loop, self._scheduled = loop, False
        for batch in self._waiting:
            self._release(batch)
            self.counts.dropped += len(batch.items)
        self._waiting.clear()
        flying = self._flying
        if flying is not None:
            flying.finished.wait()
            flying.waiters = []
            self._settle(flying)

    def put(self, items: list[Prepared], *, sign_end: bool) -> tuple[Batch, int]:
        """Put `items` into the open batch; give it with their place in it.

        Raises:
            LogUnavailableError: too much waits already.

        """
        weight = sum(item.weight for item in items)
        counts = self.counts
        if counts.waiting + len(items) > MAX_BACKLOG or counts.waiting_bytes + weight > MAX_BACKLOG_BYTES:
            counts.refused += len(items)
            raise LogUnavailableError("too many records wait to be written", retry_after_s=1)
        batch = self._open_batch()
        offset = len(batch.items)
        batch.items += items
        batch.sign_end |= sign_end
        batch.weight += weight
        counts.waiting += len(items)
        counts.waiting_bytes += weight
        return batch, offset

    async def drain(self) -> None:
        """Wait until nothing waits and no commit is under way."""
        while self.busy:
            if self._apart is not None:
                await asyncio.wait([self._apart])
            elif batch := self._flying or (self._waiting[0] if self._waiting else None):
                with suppress(LogUnavailableError):
                    await batch.durable()
            await asyncio.sleep(0)

    def rename(self, old: Collection[str], new: Callable[[], str]) -> None:
        """Give a person another pseudonym in records that wait to be written, if there are any."""
        for item in (each for batch in self._waiting for each in batch.items):
            for pseudonym in map(str.encode, old):
                if pseudonym in item.head:
                    item.head = item.head.replace(pseudonym, new().encode())

    async def between_commits(
        self, work: Callable[[], Result], then: Callable[[Result], None] = lambda _result: None
    ) -> Result:
        """Do `work` in the writer thread while nothing is written; records that arrive meanwhile are the next batch.

        `then` is done on the loop, before that batch is written. If either raises the log counts as failed, and whoever
        called is told. A caller that is cancelled meanwhile does not stop it.

        Raises:
            LogUnavailableError: it was not begun, for the log failed or something else is done; or it failed.

        """
        if self._paused or self._stopped:
            raise LogUnavailableError("the decision log is busy with its files", retry_after_s=1)
        self._paused = True
        task = asyncio.create_task(self._do_between(work, then))
        self._apart = task
        return await asyncio.shield(task)

    async def _do_between(self, work: Callable[[], Result], then: Callable[[Result], None]) -> Result:
        loop = asyncio.get_running_loop()
        try:
            while self._flying is not None:
                with suppress(LogUnavailableError):
                    await self._flying.durable()
                await asyncio.sleep(0)
            done: asyncio.Future[Result] = loop.create_future()
            if self._stopped:
                done.set_exception(LogUnavailableError("the decision log failed meanwhile", retry_after_s=1))
            else:
                self._work.put(partial(_answer, loop, done, work))
            result = await done
            then(result)
        except LogUnavailableError:
            raise
        except Exception as error:  # SECURITY: as in `_seal`
            self._on_failure(error)
            raise LogUnavailableError(f"the decision log failed: {error}", retry_after_s=1) from error
        else:
            return result
        finally:
            self._paused, self._apart = False, None
            self._seal()

    def in_writer(self, work: Callable[[], None]) -> None:
        """Do something in the writer thread; only while no commit is under way and none will be begun."""
        self._work.put(work)

    def refuse_all(self, unavailable: Callable[[int], LogUnavailableError]) -> None:
        """Refuse whatever waits."""
        refused = list(self._waiting)
        self._waiting.clear()
        for batch in refused:
            self._release(batch)
            batch.refuse(unavailable(len(batch.items)))

    def hold(self) -> None:
        """Seal nothing more until `resume`."""
        self._stopped = True

    def resume(self, signed: tuple[int, str]) -> None:
        """Go on after a failure that was mended with a record of its own, which `signed` covers."""
        self._stopped = False
        self.signed = signed
        self.counts.appended += 1
        self.counts.commits += 1

    def _open_batch(self) -> Batch:
        if not self._waiting or len(self._waiting[-1].items) >= MAX_BATCH:
            self._waiting.append(Batch(asyncio.get_running_loop()))
        if not self._scheduled and self._flying is None and self.loop is not None:
            self._begin_to_gather(self.loop)
        return self._waiting[-1]

    def _begin_to_gather(self, loop: asyncio.AbstractEventLoop) -> None:
        self._scheduled = True
        self._gathered, self._quiet, self._since = -1, 0, loop.time()
        if self._alone:
            loop.call_soon(self._seal)
        else:
            loop.call_soon(self._gather, loop)

    def _gather(self, loop: asyncio.AbstractEventLoop) -> None:
        """Seal what waits, unless others are on their way to join it."""
        count = self.counts.waiting
        self._quiet = self._quiet + 1 if count == self._gathered else 0
        self._gathered = count
        if self._quiet < _QUIET_TURNS and count < ENOUGH and loop.time() - self._since < LINGER_S:
            loop.call_soon(self._gather, loop)
        else:
            self._seal()

    def _seal(self) -> None:
        """Insert the next batch and hand its commit to the writer thread."""
        self._scheduled = False
        if self._flying is not None or not self._waiting or self._stopped or self._paused:
            return
        batch = self._waiting.popleft()
        self._alone = len(batch.waiters) <= 1
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

    def _commit(self, batch: Batch) -> None:
        """Commit; in the writer thread."""
        began = perf_counter()
        try:
            self._store.sync()
        except Exception as error:  # noqa: BLE001 # SECURITY: as in `_seal`
            batch.error = error
        batch.took_s = perf_counter() - began
        batch.finished.set()
        with suppress(RuntimeError):  # WHY: the loop may be closed; then `adopt` settles the batch.
            batch.loop.call_soon_threadsafe(self._settle, batch)

    def _settle(self, batch: Batch) -> None:
        """Tell the callers of `batch` what became of it, and go on with the next."""
        if self._flying is not batch:
            return
        self._flying = None
        if batch.error is None:
            try:
                self._store.confirm()
            except OSError as error:
                batch.error = error
        if batch.error is not None:
            self._waiting.appendleft(batch)  # refused with all the others
            self._on_failure(batch.error)
            return
        self._release(batch)
        self.counts.appended += len(batch.items)
        self.counts.commits += 1
        self.on_commit(batch.took_s, len(batch.items))
        if batch.notes:
            self.signed = batch.notes[-1]
            self._work.put(partial(self._book.add, [note for _, note in batch.notes]))
        batch.accept()
        if self._waiting and self.loop is not None and not self._scheduled:
            self._begin_to_gather(self.loop)

    def _release(self, batch: Batch) -> None:
        self.counts.waiting -= len(batch.items)
        self.counts.waiting_bytes -= batch.weight

    def _run_work(self) -> None:
        while (work := self._work.get()) is not None:
            work()


def _tell_nobody(_seconds: float, _records: int) -> None:
    """Tell nobody."""


def _answer(loop: asyncio.AbstractEventLoop, done: "asyncio.Future[Result]", work: Callable[[], Result]) -> None:
    """Do `work` and tell the loop what became of it; in the writer thread."""
    try:
        result = work()
    except Exception as error:  # noqa: BLE001 # told to the caller, whatever it is
        tell = partial(_fail, done, error)
    else:
        tell = partial(_succeed, done, result)
    with suppress(RuntimeError):  # WHY: the loop may be closed; the work is done all the same.
        loop.call_soon_threadsafe(tell)


def _succeed(done: "asyncio.Future[Result]", result: Result) -> None:
    if not done.done():
        done.set_result(result)


def _fail(done: "asyncio.Future[Result]", error: Exception) -> None:
    if not done.done():
        done.set_exception(error)
