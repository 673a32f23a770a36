"""Runs calls in fresh cells, at most so many at once, and ends the ones that may no longer run."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from gateway.domain.outcome import Outcome, RunResult, Usage
from gateway.errors import HostCannotKeepError, OverloadedError, UnavailableError
from gateway.executor.broker import Ask, Conversation, Job
from gateway.executor.egress import Passing
from sandbox.disk import Disk
from sandbox.errors import SandboxError
from sandbox.launcher import Cell, Launcher
from sandbox.spec import Spec

_RETRY_AFTER_S = 1
Finish = Callable[[RunResult, Disk], Awaitable[RunResult]]


class Pool:
    """The cells of one gateway: each call gets a new one, which is gone when the call is over."""

    def __init__(
        self, launcher: Launcher, *, max_cells: int, max_waiting: int, accept_missing: frozenset[str] = frozenset()
    ) -> None:
        self._launcher = launcher
        self._accept_missing = accept_missing
        self._max_cells = max_cells
        self._slots: dict[int, asyncio.Semaphore] = {}
        self._max_waiting = max_waiting
        self._waiting = 0
        self._jobs: dict[str, Job] = {}
        self._conversations: dict[str, Conversation] = {}
        self._doomed: dict[str, str] = {}
        self._closing = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def running(self) -> tuple[Job, ...]:
        """The calls that run or wait for a cell."""
        return tuple(self._jobs.values())

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

        `finish` is called when the cell is gone, with what it left on its disk, and gives the result in the end.

        Raises:
            OverloadedError: too many wait already; nothing ran.
            HostCannotKeepError: a barrier could not be raised; nothing ran.
        """
        if self._closing:
            raise UnavailableError("the gateway is shutting down")
        # WHY: cells of their own for each depth. A nested call that waited for a cell of its callers' depth could
        # wait for its own caller; without a number at all, few calls could start cells without end.
        slots = self._slots.setdefault(depth, asyncio.Semaphore(self._max_cells))
        if slots.locked() and self._waiting >= self._max_waiting:
            raise OverloadedError("too many calls are waiting for a cell", retry_after_s=_RETRY_AFTER_S)
        self._jobs[job.execution_id] = job
        self._idle.clear()
        try:
            await self._take(slots)
            try:
                return await self._run_in_cell(job, spec, ask, passing, finish)
            finally:
                slots.release()
        finally:
            self._jobs.pop(job.execution_id, None)
            if not self._jobs:
                self._idle.set()
            self._doomed.pop(job.execution_id, None)

    async def _take(self, slots: asyncio.Semaphore) -> None:
        self._waiting += 1
        try:
            await slots.acquire()
        finally:
            self._waiting -= 1

    async def _run_in_cell(
        self, job: Job, spec: Spec, ask: Ask, passing: Passing | None, finish: Finish | None
    ) -> RunResult:
        if (why := self._doomed.get(job.execution_id)) is not None:
            return _never_began(why)
        try:
            cell = await self._spawn(spec)
        except SandboxError as error:
            raise HostCannotKeepError(
                f"the sandbox could not be raised: {error}", way_out="`hearthgate doctor` says what is missing"
            ) from None
        conversation = Conversation(cell, replace(job, timeout_s=spec.limits.timeout_s), ask, passing)
        self._conversations[job.execution_id] = conversation
        try:
            # SECURITY: a revocation that came while the cell was made must not miss it.
            if (why := self._doomed.get(job.execution_id)) is not None:
                conversation.kill(why)
            result = await conversation.run()
            return result if finish is None else await finish(result, cell.disk)
        finally:
            cell.disk.close()
            self._conversations.pop(job.execution_id, None)

    async def _spawn(self, spec: Spec) -> Cell:
        spawning = asyncio.ensure_future(asyncio.to_thread(self._make, spec))
        try:
            return await asyncio.shield(spawning)
        except asyncio.CancelledError:
            # INVARIANT: a cell that is made for nobody is ended, not forgotten.
            spawning.add_done_callback(_end_unwanted)
            raise

    def _make(self, spec: Spec) -> Cell:
        self._launcher.start()
        offered = self._launcher.controllers
        # WHY: without control groups the limits of a process are the only ones, so there may be no second one.
        alone = not {"memory", "pids"} <= offered
        limits = spec.limits
        if "cpu" not in offered and "cg_cpu" in self._accept_missing:
            limits = replace(limits, cpu_percent=None)
        return self._launcher.spawn(replace(spec, single_process=alone, limits=limits))

    def kill(self, which: Callable[[Job], bool], why: str) -> int:
        """End every call that `which` names, running or waiting; gives how many."""
        doomed = [job.execution_id for job in self._jobs.values() if which(job)]
        for execution_id in doomed:
            self._doomed[execution_id] = why
            conversation = self._conversations.get(execution_id)
            if conversation is not None:
                conversation.kill(why)
        return len(doomed)

    async def close(self) -> None:
        """End every call and the zygote."""
        self._closing = True
        self.kill(lambda _job: True, "the gateway is shutting down")
        await self._idle.wait()
        await asyncio.to_thread(self._launcher.close)


def _end_unwanted(spawning: "asyncio.Future[Cell]") -> None:
    if not spawning.cancelled() and spawning.exception() is None:
        spawning.result().close()


def _never_began(why: str) -> RunResult:
    return RunResult(outcome=Outcome.KILLED, error=why, usage=Usage(wall_s=0.0))
