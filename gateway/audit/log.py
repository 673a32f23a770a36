"""The decision log: one writer, durable before it answers, closed when it cannot write."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Self

from gateway.audit.batch import Batch, LogCounts
from gateway.audit.book import CheckpointBook
from gateway.audit.erase import Erased
from gateway.audit.forgetting import Forgetting
from gateway.audit.history import check_history, check_presence
from gateway.audit.key_files import read_or_make_key
from gateway.audit.key_rotation import KeyRotation
from gateway.audit.leaf import Prepared, prepare
from gateway.audit.lock_file import LockFile
from gateway.audit.merkle import Frontier
from gateway.audit.row import row_of
from gateway.audit.segment import Segment, frontier_before
from gateway.audit.store import Store
from gateway.audit.trust import KeyChain
from gateway.audit.turnover import Turnover
from gateway.audit.upkeep import Upkeep
from gateway.domain.record import Record
from gateway.errors import ConflictError, LogUnavailableError

MAX_REWRITTEN_BYTES = 64 * 1024 * 1024  # a live file that is larger is closed rather than rewritten while others wait
KEYS = "keys"
_FAILURES = (sqlite3.Error, OSError, LookupError, ValueError)


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
        held: tuple[LockFile, Store],
        clock: tuple[Callable[[], datetime], Callable[[], str]],
    ) -> None:
        self._lock, self._store = held
        self._rotation = KeyRotation(folder / KEYS, self._store)
        self._rotating = False
        self._folder = folder
        self._files = asyncio.Lock()  # one change of which files there are at a time
        self._book = CheckpointBook(folder)
        self._now, self._new_id = clock
        self._upkeep = Upkeep(self._store, self._book, self._rotation, (self._now, self._new_id))
        self._commits = self._upkeep.commits
        self._turnover = Turnover(self._store, self._book, self._commits, self._now)
        self.listeners: dict[str, list[Callable[[Record], None]]] = {}  # called with what is durable, by event type
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
            key = read_or_make_key(folder / KEYS)
            check_presence(folder, key)
            store = Store(folder, key)
        except _FAILURES as error:
            lock.release()
            raise LogUnavailableError(f"the decision log in `{folder}` cannot be opened: {error}") from error
        except BaseException:
            lock.release()
            raise
        try:
            log = cls(folder, (lock, store), (now, new_id))
            log._rotation.settle()
            log._commits.signed = check_history(store, log._book)
        except BaseException:
            store.close()
            lock.release()
            raise
        log._commits.start()
        return log

    @property
    def healthy(self) -> bool:
        """Whether the next append can be expected to succeed."""
        return self._upkeep.healthy

    @property
    def why(self) -> str | None:
        """What is wrong while it cannot be written, None while it can."""
        return self._upkeep.why

    @property
    def size(self) -> int:
        """How many records are written, those of a commit under way included."""
        return self._store.head.size

    @property
    def note(self) -> str | None:
        """The newest signed checkpoint."""
        return None if self._commits.signed is None else self._commits.signed[1]

    @property
    def counts(self) -> LogCounts:
        """What it did since it was opened."""
        return self._commits.counts

    @property
    def verifier(self) -> str:
        """The public key that checks this log's checkpoints, in its text form."""
        return str(self._store.key.verifier)

    @property
    def keys(self) -> KeyChain:
        """The public keys that this log's checkpoints were signed with, each in its time."""
        return self._store.keys()

    def when_committed(self, told: Callable[[float, int], None]) -> None:
        """Have `told` of each commit: how many seconds it took, and how many records it made durable."""
        self._commits.on_commit = told

    async def append(self, *records: Record, sign: bool = False) -> tuple[int, ...]:
        """Write `records`, all or none, and return their numbers; with `sign` a checkpoint stands right behind them.

        Returns only once they would survive a power cut. A caller that is cancelled meanwhile does not
        take them back.

        Raises:
            LogUnavailableError: nothing was written; the caller must not run the action.

        """
        if not records:
            return ()
        items = [prepare(record, self._store.persons) for record in records]
        items[-1].sign = sign
        batch, offset = await self._enter(items)
        first = batch.first + offset
        for record in records:
            for hear in self.listeners.get(record.event_type, ()):
                hear(record)
        return tuple(range(first, first + len(records)))

    async def append_signed(self, record: Record) -> tuple[int, str]:
        """Write `record` and return its number with a signed checkpoint of the log up to it.

        Raises:
            LogUnavailableError: nothing was written.

        """
        item = prepare(record, self._store.persons)
        item.sign = True
        batch, offset = await self._enter([item])
        seq = batch.first + offset
        return seq, next(note for size, note in batch.notes if size == seq)

    async def rotate_key(self, record: Record) -> str:
        """Sign with a new key from `record` on, which is told both keys, and return the note that hands over.

        Killed at any moment, the log goes on with the key that its last durable record names.

        Raises:
            LogUnavailableError: nothing was written and the key stays, or the new key is in use and its file will
                be put in place by the next start.
            ConflictError: a rotation is under way.

        """
        if self._rotating:
            raise ConflictError("the key is being rotated already")
        self._rotating = True
        try:
            if not self.healthy:
                # INVARIANT: while it is open whether a rotation was recorded, the key it names is not overwritten.
                raise self._upkeep.unavailable(1)
            # WHY: a failure leaves the next key where it is: the recovery knows whether the record lies in the file.
            batch, offset = await self._enter([self._rotation.begin(record)])
            self._rotation.finish()
            return next(note for size, note in batch.notes if size == batch.first + offset)
        except OSError as error:
            raise LogUnavailableError(f"the key's files cannot be written: {error.strerror}") from error
        finally:
            self._rotating = False

    async def checkpoint(self) -> str:
        """Return a signed checkpoint of everything written so far.

        Raises:
            LogUnavailableError: it cannot be written.

        """
        signed = self._commits.signed
        if signed is not None and signed[0] == self.size and not self._commits.busy:
            return signed[1]
        batch, _ = await self._enter([], sign_end=True)
        return batch.notes[-1][1]

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The closed files before the live one, oldest first, dropped ones included."""
        return self._store.segments

    @property
    def before(self) -> Frontier:
        """The tree as it was before the first kept record."""
        return frontier_before([each for each in self._store.segments if not each.kept])

    @property
    def live(self) -> tuple[int, int | None, int]:
        """The live file's first record, the time of its oldest record in microseconds, and its bytes."""
        return self._store.live

    async def rotate(self) -> Segment | None:
        """Close the live file as a segment and begin a new one; records that arrive meanwhile go into the new one.

        Gives None, and changes nothing, if the live file has no record yet or somebody reads it just now.

        Raises:
            LogUnavailableError: it could not be done; the log recovers by itself.

        """
        self._upkeep.adopt(asyncio.get_running_loop())
        if not self.healthy:
            raise self._upkeep.unavailable(0)
        async with self._files:
            return await self._commits.between_commits(self._turnover.close_live)

    async def drop(self, segment: Segment, told: Record) -> bool:
        """Drop the oldest closed file, once its last checkpoint is kept; `told` is written in the same commit.

        Gives False, and changes nothing, if it is not the oldest or an execution that began in it has no outcome.

        Raises:
            LogUnavailableError: it could not be done; the log recovers by itself.

        """
        self._upkeep.adopt(asyncio.get_running_loop())
        if not self.healthy:
            raise self._upkeep.unavailable(1)
        drop = partial(self._turnover.drop, segment, prepare(told, self._store.persons))
        async with self._files:
            return await self._commits.between_commits(drop)

    async def forget(self, user: str) -> Erased:
        """Take every value of a user out of the log's files; doing it again after a stop finishes what was begun.

        A record of the user that is appended meanwhile, or later, gets a pseudonym that no earlier one has.

        Raises:
            LogUnavailableError: it could not be done to the end; what was forgotten stays forgotten.

        """
        self._upkeep.adopt(asyncio.get_running_loop())
        if not self.healthy:
            raise self._upkeep.unavailable(0)
        if self.live[2] > MAX_REWRITTEN_BYTES:
            await self.rotate()
        async with self._files:
            return await Forgetting(self._folder, self._store, self._commits).forget(user)

    async def close(self) -> None:
        """Write what is waiting, sign a last checkpoint and let go of the files."""
        if self._upkeep.is_closed:
            return
        self._upkeep.adopt(asyncio.get_running_loop())
        if self.why is None:
            with suppress(LogUnavailableError):
                await self.checkpoint()
        await self._upkeep.close()
        self._store.close()
        self._lock.release()

    async def _enter(self, items: list[Prepared], *, sign_end: bool = False) -> tuple[Batch, int]:
        """Have `items` written and wait until they are durable; give their batch and their place in it."""
        self._upkeep.adopt(asyncio.get_running_loop())
        if self._upkeep.why is not None:
            await self._upkeep.recovered()
        if not self._upkeep.healthy:
            raise self._upkeep.unavailable(len(items))
        batch, offset = self._commits.put(items, sign_end=sign_end)
        await batch.durable()
        return batch, offset
