"""A cell that stays between calls, for one call at a time; the first thing that is not as it should be ends it."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable

from gateway.domain.isolation import Isolation
from gateway.domain.outcome import Outcome, RunResult, Usage
from gateway.executor.broker import Ask, Conversation, Job, Said
from gateway.executor.once import how_it_died, result_of, until_gone
from gateway.executor.printed import Printed
from gateway.executor.told import Told
from sandbox.launcher import Cell

_REAP_S = 5.0
_LAST_BREATH_S = 0.5
_HANDOVER = b"+"


class Resident:
    """A cell that waits for its next call."""

    # SECURITY: `owner` is the call that it was made for; it serves no other plugin, user or generation.

    def __init__(self, cell: Cell, owner: Job, gone: Callable[["Resident"], None], *, pauses: bool = False) -> None:
        self.owner = owner
        self.cell = cell
        self.born = time.monotonic()
        self.is_busy = False
        self.is_stale = False  # what it was made by is no longer so: it serves no further call
        self.is_alive = True
        self._gone = gone
        self._pauses = pauses
        self._printed = Printed(cell.output)
        self._reaping: asyncio.Task[None] | None = None
        self._told: Told | None = None
        self._last: Conversation | None = None
        self._is_watched = False
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._watch()

    def hand_over(self) -> Cell:
        """Give the cell away, to one that ends it."""
        self._unwatch()
        self._printed.close()
        self.is_alive = False
        self._gone(self)
        return self.cell

    async def run(self, job: Job, ask: Ask, begun: Callable[[Conversation], None]) -> RunResult:
        """Run one call; `begun` gets its conversation."""
        self.is_busy = True
        self._quiet.clear()
        started = time.monotonic()
        self._end_telling()
        channel = self._channel()
        if self._pauses:
            self.cell.resume()
        self.cell.meter.begin()
        conversation = Conversation(channel, job, ask, self.end)
        self._told, self._last = Told(self.cell, conversation.tell_refused), conversation
        begun(conversation)
        try:
            said = await self._talk(conversation)
        finally:
            self.is_busy = False
            if self._pauses:
                self.cell.pause()
            # INVARIANT: heard before the next call begins, which would be told to have tried it.
            self._told.hear()
            self._quiet.set()
            if channel is not self.cell.channel:
                channel.close()
        wall_s = time.monotonic() - started
        cpu_s, memory_peak_bytes = self.cell.meter.end()
        if not said.is_sound:
            self._told.close()
            said = await self._finish(said)
            self._told.take()
        await conversation.end_telling()
        if conversation.kill_reason is not None and said.outcome is not Outcome.RETURNED:
            said = Said(Outcome.KILLED, error=conversation.kill_reason)
        if self.is_alive and channel is self.cell.channel:
            self._watch()
        disk_bytes = self.cell.disk.used_bytes()
        usage = Usage(wall_s=wall_s, cpu_s=cpu_s, memory_peak_bytes=memory_peak_bytes, disk_bytes=disk_bytes)
        return result_of(said, conversation, usage, self._printed.take())

    def end(self) -> None:
        """End the cell with all that runs in it; harmless when it is gone."""
        if self.is_alive:
            self.is_alive = False
            self._unwatch()
            self._end_telling()
            self.cell.kill()
            self._reaping = asyncio.get_running_loop().create_task(self._reap())
            self._gone(self)

    @property
    def is_ending(self) -> bool:
        """Whether it was ended, and something of it may be left."""
        return self._reaping is not None and not self._reaping.done()

    def when_gone(self, told: Callable[["Resident"], object]) -> None:
        """Tell when nothing of a cell that was ended is left; never for one that was handed over."""
        if self._reaping is not None:
            self._reaping.add_done_callback(lambda _task: told(self))

    async def until_gone(self) -> None:
        """Wait until nothing of a cell that was ended is left."""
        if self._reaping is not None:
            await asyncio.shield(self._reaping)

    async def _talk(self, conversation: Conversation) -> Said:
        try:
            return await conversation.run()
        except asyncio.CancelledError:
            stopped = False
            try:
                stopped = await conversation.stop()
            finally:
                if not stopped:
                    self.end()
            if self.is_alive and self.owner.isolation is Isolation.SHARED:
                self._watch()
            raise
        except BaseException:
            self.end()
            raise

    async def _finish(self, said: Said) -> Said:
        """End a cell whose call was not answered as it should be, and tell how it died if it did so by itself."""
        died = said.outcome is Outcome.UNKNOWN
        if died and self.is_alive and self.owner.isolation is Isolation.SHARED:
            # WHY: how it ended by itself tells more than our kill would.
            with contextlib.suppress(TimeoutError):
                await until_gone(self.cell, _LAST_BREATH_S)
        self.end()
        await self.until_gone()
        ending = self.cell.ending
        if not died:
            return said
        if ending is None or (self.owner.isolation is Isolation.FORK and not ending.oom):
            return Said(Outcome.FAILED, error="its process ended without a result")
        return Said(*_without_output(how_it_died(ending)))

    def _channel(self) -> socket.socket:
        """Give the channel of the next call."""
        if self.owner.isolation is Isolation.SHARED:
            self._unwatch()
            return self.cell.channel
        ours, theirs = socket.socketpair()
        ours.settimeout(0)
        # WHY: a cell that died meanwhile closed both; the conversation then hears the end at once.
        with theirs, contextlib.suppress(OSError):
            socket.send_fds(self.cell.channel, [_HANDOVER], [theirs.fileno()])
        return ours

    def _watch(self) -> None:
        # SECURITY: a cell that speaks unasked, or leaves, is ended before it could be believed.
        if not self._is_watched:
            self._is_watched = True
            asyncio.get_running_loop().add_reader(self.cell.channel, self.end)

    def _unwatch(self) -> None:
        # WHY: only what was set here, for whoever talks waits for the same socket.
        if self._is_watched:
            self._is_watched = False
            asyncio.get_running_loop().remove_reader(self.cell.channel)

    def _end_telling(self) -> None:
        """Hear what the call before tried up to now, also behind its answer, and no more of it."""
        if self._told is not None:
            self._told.hear()
            self._told.close()

    async def _reap(self) -> None:
        try:
            with contextlib.suppress(TimeoutError):
                await until_gone(self.cell, _REAP_S)
            if self._told is not None and self._last is not None:
                self._told.take()
                await self._last.end_telling()
            # WHY: a socket that is closed while somebody waits for it never wakes them.
            await self._quiet.wait()
        finally:
            self._printed.close()
            self.cell.close()


def _without_output(died: tuple[Outcome, str]) -> tuple[Outcome, None, str]:
    return died[0], None, died[1]
