"""Runs calls in cells, at most so many at once, and ends the ones that may no longer run."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from weakref import WeakValueDictionary

from gateway.domain.isolation import Isolation
from gateway.domain.outcome import Outcome, RunResult, Usage
from gateway.errors import HostCannotKeepError, OverloadedError, UnavailableError
from gateway.executor.broker import Ask, Conversation, Job, WayOut
from gateway.executor.egress import Passing
from gateway.executor.heat import Heat
from gateway.executor.once import Once
from gateway.executor.resident import Resident
from gateway.executor.resting import LIFETIME_S, Bounds, Key, Resting
from gateway.executor.spawn import Spawner
from sandbox.disk import Disk
from sandbox.errors import SandboxError
from sandbox.launcher import Cell, Launcher
from sandbox.spec import Spec

_RETRY_AFTER_S = 1
Finish = Callable[[RunResult, Disk], Awaitable[RunResult]]
_NONE_WAIT = Bounds(cells=0, idle_s=1.0, memory_bytes=0)


class Pool:
    """The cells of one gateway.

    A pristine call gets a new one, which is gone when the call is over; it may have been made before the call was.
    Calls of the other modes get one that stays for its plugin and user until anything that made it changes.
    """

    def __init__(
        self,
        launcher: Launcher,
        *,
        max_cells: int,
        max_waiting: int,
        accept_missing: frozenset[str] = frozenset(),
        waiting_cells: Bounds = _NONE_WAIT,
    ) -> None:
        self._launcher = launcher
        self._spawner = Spawner(launcher, accept_missing)
        self._max_cells = max_cells
        self._slots: dict[int, asyncio.Semaphore] = {}
        self._max_waiting = max_waiting
        self._waiting = 0
        self._jobs: dict[str, Job] = {}
        self._conversations: dict[str, Conversation] = {}
        self._doomed: dict[str, str] = {}
        self._resting = Resting(waiting_cells)
        self._heat = Heat()
        self._making: dict[Key, Job] = {}
        self._makers: set[asyncio.Task[None]] = set()
        self._endings: set[asyncio.Task[None]] = set()  # of cells whose call was answered
        self._turns: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()
        self._epoch = 0
        self._least: dict[str, int] = {}  # of each plugin that was reloaded, the generation in force
        self._closing = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def running(self) -> tuple[Job, ...]:
        """The calls that run or wait for a cell."""
        return tuple(self._jobs.values())

    @property
    def waiting(self) -> int:
        """How many calls wait for a cell."""
        return self._waiting

    @property
    def resting(self) -> tuple[Job, ...]:
        """For each cell that waits for a call, the one that it was made for."""
        return tuple(self._resting.owners())

    async def run(
        self,
        job: Job,
        spec: Spec,
        ask: Ask,
        *,
        passing: Passing | None = None,
        depth: int = 0,
        finish: Finish | None = None,
    ) -> RunResult:
        """Run one call to its end; `passing` serves its relay, `depth` counts the calls that wait for it.

        `finish` is called when the call is over, with what its cell has on its disk, and gives the result in the end.

        Raises:
            OverloadedError: too many wait already; nothing ran.
            HostCannotKeepError: a barrier could not be raised; nothing ran.
        """
        if self._closing:
            raise UnavailableError("the gateway is shutting down")
        # WHY: cells of their own for each depth. A nested call that waited for a cell of its callers' depth could
        # wait for its own caller; without a number at all, few calls could start cells without end.
        slots = self._slots.setdefault(depth, asyncio.Semaphore(self._max_cells))
        self._jobs[job.execution_id] = job
        self._idle.clear()
        try:
            work = _Work(replace(job, isolation=self._mode(job, spec)), spec, ask, passing, finish)
            if work.job.isolation is Isolation.PRISTINE:
                return await self._run_pristine(work, slots)
            return await self._run_resident(work, slots, depth)
        finally:
            self._jobs.pop(job.execution_id, None)
            if not self._jobs:
                self._idle.set()
            self._doomed.pop(job.execution_id, None)

    def _mode(self, job: Job, spec: Spec) -> Isolation:
        # SECURITY: what a call leaves running must not use the next one's way out, or files that it may see no more.
        if spec.relay or not self._resting.enabled or (spec.mounts and not _may_keep_files(spec)):
            return Isolation.PRISTINE
        return job.isolation

    async def _run_pristine(self, work: "_Work", slots: asyncio.Semaphore) -> RunResult:
        job, spec = replace(work.job, isolation=Isolation.PRISTINE), work.spec
        async with AsyncExitStack() as held:
            await held.enter_async_context(self._turn(slots))
            if (why := self._doomed.get(job.execution_id)) is not None:
                return _never_began(job, why)
            key = Key(spec, job.generation, self._epoch, Isolation.PRISTINE, None)
            ready = self._resting.find(key)
            cell = await self._make(spec) if ready is None else ready.hand_over()
            # SECURITY: a program runs from the start, and so would see what is shown to it though nobody had called it.
            if spec.program is None and self._heat.warms(spec):
                held.callback(self._make_next, key, job)
            held.callback(cell.close)
            way_out = None if cell.door is None or work.passing is None else WayOut(cell.door, work.passing)
            conversation = Conversation(cell.channel, job, work.ask, cell.kill, way_out)
            once = Once(cell, conversation)
            self._begin(job, conversation)
            try:
                # SECURITY: what is killed and not yet gone may reach nothing that is kept, and nobody outside.
                waits = bool(spec.mounts) or spec.program is not None or cell.door is not None
                return await work.finished(await once.run(waits=waits), cell.disk)
            finally:
                self._conversations.pop(job.execution_id, None)
                if once.is_going:
                    self._endings.add(ending := asyncio.create_task(_end(once, held.pop_all())))
                    ending.add_done_callback(self._endings.discard)

    async def _run_resident(self, work: "_Work", slots: asyncio.Semaphore, depth: int) -> RunResult:
        await self._ready()
        job, epoch = work.job, self._epoch
        key = Key(work.spec, job.generation, epoch, job.isolation, job.user_id)
        turn = self._turns.setdefault(key, asyncio.Lock())
        # WHY: a nested call never waits for a busy cell: it could be one that waits for this very call.
        if (turn.locked() and depth) or not self._spawner.can_keep(job.isolation, work.spec.backend):
            return await self._run_pristine(work, slots)
        async with self._turn(turn):
            if epoch != self._epoch:
                # SECURITY: what let it share a cell may hold no longer.
                return await self._run_pristine(work, slots)
            async with self._turn(slots):
                if (why := self._doomed.get(job.execution_id)) is not None:
                    return _never_began(job, why)
                resident = self._resting.find(key) or await self._make_resident(key, work)
                try:
                    result = await resident.run(job, work.ask, lambda begun: self._begin(job, begun))
                    return await work.finished(result, resident.cell.disk)
                finally:
                    self._conversations.pop(job.execution_id, None)
                    self._resting.rest(resident)

    async def _make_resident(self, key: Key, work: "_Work") -> Resident:
        staying = replace(work.spec, isolation=work.job.isolation.value, lifetime_s=LIFETIME_S)
        resident = self._resting.add(key, await self._make(staying), work.job)
        resident.is_stale = key.epoch != self._epoch or self._is_old(work.job)
        return resident

    def _refuse_beyond(self, what: asyncio.Semaphore | asyncio.Lock) -> None:
        if what.locked() and self._waiting >= self._max_waiting:
            raise OverloadedError("too many calls are waiting for a cell", retry_after_s=_RETRY_AFTER_S)

    @asynccontextmanager
    async def _turn(self, what: asyncio.Semaphore | asyncio.Lock) -> AsyncIterator[None]:
        self._refuse_beyond(what)
        self._waiting += 1
        try:
            await what.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            what.release()

    def _begin(self, job: Job, conversation: Conversation) -> None:
        self._conversations[job.execution_id] = conversation
        # SECURITY: a revocation that came while the cell was made must not miss it.
        if (why := self._doomed.get(job.execution_id)) is not None:
            conversation.kill(why)

    async def _ready(self) -> None:
        try:
            await self._spawner.ready()
        except SandboxError as error:
            raise _not_raised(error) from None

    async def _make(self, spec: Spec) -> Cell:
        try:
            return await self._spawner.spawn(spec)
        except SandboxError as error:
            raise _not_raised(error) from None

    def _make_next(self, key: Key, job: Job) -> None:
        """Have a cell ready for the next call of a plugin that is called often, when nothing else is to be done."""
        if self._conversations or self._closing or not self._resting.enabled:
            return
        if key.epoch == self._epoch and key not in self._making and not self._is_old(job):
            self._making[key] = job
            task = asyncio.create_task(self._make_ready(key, job))
            self._makers.add(task)
            task.add_done_callback(self._makers.discard)

    async def _make_ready(self, key: Key, job: Job) -> None:
        try:
            cell = await self._spawner.spawn(replace(key.spec, lifetime_s=2 * self._resting.idle_s))
        except SandboxError:
            self._making.pop(key, None)
            return  # WHY: the next call will be told, for it makes its own
        # SECURITY: what was taken away meanwhile has taken this cell out of those that are made.
        if self._making.pop(key, None) is not job or key.epoch != self._epoch or self._closing:
            cell.close()
            return
        self._resting.rest(self._resting.add(key, cell, job))

    def kill(self, which: Callable[[Job], bool], why: str) -> int:
        """End every call that `which` names, running or waiting, and every cell that stays for such; gives how many."""
        doomed = [job.execution_id for job in self._jobs.values() if which(job)]
        for execution_id in doomed:
            self._doomed[execution_id] = why
            conversation = self._conversations.get(execution_id)
            if conversation is not None:
                conversation.kill(why)
        for key in [key for key, job in self._making.items() if which(job)]:
            del self._making[key]
        return len(doomed) + self._resting.end(which)

    def retire(self, plugin_id: str, generation: int) -> None:
        """End every cell that waits for a call of an older generation of a plugin; one in use ends with its call."""
        self._least[plugin_id] = generation
        for key in [key for key, job in self._making.items() if self._is_old(job)]:
            del self._making[key]
        self._resting.end_stale(self._is_old)

    def _is_old(self, job: Job) -> bool:
        return job.generation < self._least.get(job.plugin_id, 0)

    def policy_changed(self) -> None:
        """End every cell that waits, for another policy is in force; one in use ends with its call."""
        self._epoch += 1
        self._making.clear()
        self._resting.end_stale()

    async def close(self) -> None:
        """End every call and the zygote."""
        self._closing = True
        self.kill(lambda _job: True, "the gateway is shutting down")
        await self._idle.wait()
        await asyncio.gather(*self._endings, return_exceptions=True)
        await asyncio.gather(*self._makers)
        await self._resting.close()
        await asyncio.to_thread(self._launcher.close)


@dataclass(frozen=True, slots=True)
class _Work:
    """One call, with all that it needs."""

    job: Job
    spec: Spec
    ask: Ask
    passing: Passing | None
    finish: Finish | None

    async def finished(self, result: RunResult, disk: Disk) -> RunResult:
        return result if self.finish is None else await self.finish(result, disk)


async def _end(once: Once, held: AsyncExitStack) -> None:
    """See a cell off whose call was answered, and give back what it held."""
    async with held:
        await once.until_gone()


def _may_keep_files(spec: Spec) -> bool:
    # WHY: such a cell stands still between calls, and the next one finds it only where the same is shown again;
    # what it wrote is to be kept by the call that wrote it, so it may read alone.
    return spec.program is not None and not any(each.writable for each in spec.mounts)


def _never_began(job: Job, why: str) -> RunResult:
    nothing = Usage(wall_s=0.0)
    return RunResult(outcome=Outcome.KILLED, error=why, usage=nothing, isolation=job.isolation, from_outside=True)


def _not_raised(error: SandboxError) -> HostCannotKeepError:
    return HostCannotKeepError(
        f"the sandbox could not be raised: {error}", way_out="`hearthgate doctor` says what is missing"
    )
