"""Runs calls in fresh cells, at most so many at once, and ends the ones that may no longer run."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from gateway.domain.outcome import Outcome, RunResult, Usage
from gateway.errors import HostCannotKeepError, OverloadedError, UnavailableError
from gateway.executor.broker import Ask, Conversation, Job
from sandbox.errors import SandboxError
from sandbox.launcher import Launcher
from sandbox.spec import Spec

_RETRY_AFTER_S = 1


class Pool:
    """The cells of one gateway: each call gets a new one, which is gone when the call is over."""

    def __init__(self, launcher: Launcher, *, max_cells: int, max_waiting: int) -> None:
        self._launcher = launcher
        self._slots = asyncio.Semaphore(max_cells)
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

    async def run(self, job: Job, spec: Spec, ask: Ask, *, nested: bool = False) -> RunResult:
        """Run one call to its end; a nested one, which another call waits for, takes no place in the queue.

        Raises:
            OverloadedError: too many wait already; nothing ran.
            HostCannotKeepError: a barrier could not be raised; nothing ran.
        """
        if self._closing:
            raise UnavailableError("the gateway is shutting down")
        if not nested and self._slots.locked() and self._waiting >= self._max_waiting:
            raise OverloadedError("too many calls are waiting for a cell", retry_after_s=_RETRY_AFTER_S)
        self._jobs[job.execution_id] = job
        self._idle.clear()
        try:
            # WHY: a nested call that waited for a place could wait for its own caller's.
            if nested:
                return await self._run_in_cell(job, spec, ask)
            await self._take_slot()
            try:
                return await self._run_in_cell(job, spec, ask)
            finally:
                self._slots.release()
        finally:
            self._jobs.pop(job.execution_id, None)
            if not self._jobs:
                self._idle.set()
            self._doomed.pop(job.execution_id, None)

    async def _take_slot(self) -> None:
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1

    async def _run_in_cell(self, job: Job, spec: Spec, ask: Ask) -> RunResult:
        if (why := self._doomed.get(job.execution_id)) is not None:
            return _never_began(why)
        try:
            cell = await asyncio.to_thread(self._launcher.spawn, spec)
        except SandboxError as error:
            raise HostCannotKeepError(
                f"the sandbox could not be raised: {error}", way_out="`hearthgate doctor` says what is missing"
            ) from None
        conversation = Conversation(cell, replace(job, timeout_s=spec.limits.timeout_s), ask)
        self._conversations[job.execution_id] = conversation
        try:
            # SECURITY: a revocation that came while the cell was made must not miss it.
            if (why := self._doomed.get(job.execution_id)) is not None:
                conversation.kill(why)
            return await conversation.run()
        finally:
            self._conversations.pop(job.execution_id, None)

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


def _never_began(why: str) -> RunResult:
    return RunResult(outcome=Outcome.KILLED, error=why, usage=Usage(wall_s=0.0))
