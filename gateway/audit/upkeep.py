"""The upkeep of a log: its files are looked after, what has grown is signed, and what failed recovers."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any

from gateway.audit.book import CheckpointBook
from gateway.audit.group_commit import GroupCommit
from gateway.audit.key_rotation import KeyRotation
from gateway.audit.leaf import microseconds, prepare
from gateway.audit.store import Store
from gateway.domain.decision import timestamp
from gateway.domain.record import Record, Resolution
from gateway.errors import LogUnavailableError

BEAT_S = 1.0  # how often it looks after its files and signs what has grown
PROBE_S = 0.25  # how often it tries to recover by itself
MIN_PROBE_S = 0.05  # how often callers can make it try
_log = logging.getLogger("hearthgate.audit")


class Upkeep:
    """Keeps one log writable on one event loop at a time, and says `why` it is not while it cannot be written.

    A database file that was deleted or replaced is never silently continued.
    """

    def __init__(
        self,
        store: Store,
        book: CheckpointBook,
        rotation: KeyRotation,
        clock: tuple[Callable[[], datetime], Callable[[], str]],
    ) -> None:
        self._store, self._book, self._rotation = store, book, rotation
        self._now, self._new_id = clock
        self.commits = GroupCommit(store, book, self._now, self.fail)
        self.why: str | None = None
        self.is_closed = False
        self._since: datetime | None = None
        self._gap_refused = 0
        self._beat_timer: asyncio.TimerHandle | None = None
        self._last_try = 0.0
        self._recovery: asyncio.Future[None] | None = None

    @property
    def healthy(self) -> bool:
        """Whether the next append can be expected to succeed."""
        return self.why is None and not self.is_closed

    async def close(self) -> None:
        """Let what is under way end, and look after nothing any more."""
        self.is_closed = True
        await self.commits.drain()
        if self._recovery is not None:
            await asyncio.shield(self._recovery)
        if self._beat_timer is not None:
            self._beat_timer.cancel()
        self.commits.stop()

    def adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        """Make `loop` the one that runs this log.

        Raises:
            LogUnavailableError: another loop is using it.

        """
        old = self.commits.loop
        if loop is old:
            return
        if old is not None and not old.is_closed() and (self.commits.busy or self._recovery is not None):
            raise LogUnavailableError("another event loop is writing the decision log", retry_after_s=1)
        self._recovery = None
        self.commits.adopt(loop)
        self._beat_soon(BEAT_S if self.why is None else PROBE_S)

    def fail(self, error: Exception) -> None:
        """Refuse everything that waits, and stay unavailable until a recovery succeeds."""
        self._store.undo()
        self.commits.hold()
        self.why = f"{error}"
        if self._since is None:
            _log.error("the decision log cannot be written, so nothing runs until that is mended: %s", self.why)
        self._since = self._since or self._now()
        self.commits.refuse_all(self.unavailable)
        self._beat_soon(PROBE_S)

    def unavailable(self, count: int) -> LogUnavailableError:
        """Count records as refused, and give the error that tells their caller."""
        self.commits.counts.refused += count
        self._gap_refused += count
        cause = "it is closed" if self.is_closed else self.why
        return LogUnavailableError(f"the decision log cannot be written: {cause}", retry_after_s=1)

    def _beat_soon(self, delay_s: float) -> None:
        if self._beat_timer is not None:
            self._beat_timer.cancel()
        if self.commits.loop is not None and not self.is_closed:
            self._beat_timer = self.commits.loop.call_later(delay_s, self._beat)

    def _beat(self) -> None:
        """Look after the files, sign what has grown, and try to recover."""
        if self.why is not None:
            self._start_recovery()
            return
        self._beat_soon(BEAT_S)
        if self.commits.busy:
            return
        signed_size = -1 if self.commits.signed is None else self.commits.signed[0]
        if problem := self._store.misplaced():
            self.fail(OSError(problem))
        elif signed_size < self._store.head.size:
            self.commits.put([], sign_end=True)

    async def recovered(self) -> None:
        """Wait for a try to recover that is under way, or for one more where the last one is some time ago."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._last_try >= MIN_PROBE_S:
            self._start_recovery()
        if self._recovery is not None:
            await asyncio.shield(self._recovery)

    def _start_recovery(self) -> None:
        loop = self.commits.loop
        if self._recovery is None and loop is not None and not self.is_closed:
            self._recovery = loop.create_future()
            self._last_try = loop.time()
            self.commits.in_writer(partial(self._recover, loop, self._now()))

    def _recover(self, loop: asyncio.AbstractEventLoop, now: datetime) -> None:
        """Open the files anew and write down the gap; in the writer thread."""
        why: str | None = None
        notes: list[tuple[int, str]] = []
        try:
            kept = self._store.reopen()
            self._rotation.settle()
            gap = prepare(self._gap(now, kept), self._store.persons)
            notes = self._store.write([gap], sign_end=True, ts_us=microseconds(now))
            self._store.commit()
        except Exception as error:  # noqa: BLE001 # SECURITY: whatever it was, the log stays closed
            self._store.undo()
            why = f"{error}"
        with suppress(RuntimeError):  # WHY: the loop may be closed; the next one tries again.
            loop.call_soon_threadsafe(self._end_recovery, why, notes)
        if why is None:
            self._book.add([note for _, note in notes])

    def _gap(self, now: datetime, kept: int) -> Record:
        details: dict[str, Any] = {
            "from": timestamp(self._since or now),
            "to": timestamp(now),
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
        self.why = why
        if why is None:
            _log.warning("the decision log is written again; %d records were refused meanwhile", self._gap_refused)
            self._since, self._gap_refused = None, 0
            self.commits.resume(notes[-1])
        self._beat_soon(BEAT_S if why is None else PROBE_S)
        if recovery is not None and not recovery.done():
            recovery.set_result(None)
