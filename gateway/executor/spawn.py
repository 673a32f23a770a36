"""Makes cells without making the event loop wait."""

import asyncio
import contextlib
from dataclasses import replace

from gateway.domain.isolation import Isolation
from gateway.executor.once import unblock
from sandbox.errors import SandboxError
from sandbox.launcher import Birth, Cell, Launcher
from sandbox.spec import RUNSC, Spec

_SPAWN_S = 15.0


class Spawner:
    """Makes cells as this host can have them."""

    def __init__(self, launcher: Launcher, accept_missing: frozenset[str]) -> None:
        self._launcher = launcher
        self._accept_missing = accept_missing

    async def ready(self) -> None:
        """Start what cells are forked from, unless it runs.

        Raises:
            SandboxError: it cannot be started here.
        """
        if not self._launcher.is_running:
            await asyncio.to_thread(self._launcher.start)

    def can_keep(self, isolation: Isolation, backend: str) -> bool:
        """Tell whether a mode is possible on this host, in cells made by a backend."""
        return isolation is not Isolation.FORK or not self._is_alone(backend)

    def _is_alone(self, backend: str) -> bool:
        # WHY: without control groups the limits of a process are the only ones, so there may be no second one;
        # gVisor's processes are the host's only in sum.
        return backend == RUNSC or not {"memory", "pids"} <= self._launcher.controllers

    async def spawn(self, spec: Spec) -> Cell:
        """Make a cell; one that is made for nobody, for the caller went away, is ended.

        Raises:
            SandboxError: a barrier could not be raised; nothing ran.
        """
        await self.ready()
        limits = spec.limits
        if "cpu" not in self._launcher.controllers and "cg_cpu" in self._accept_missing:
            limits = replace(limits, cpu_percent=None)
        fitting = replace(spec, single_process=self._is_alone(spec.backend), limits=limits)
        birth = self._launcher.order(fitting)
        if birth is not None and (cell := await self._await_birth(birth)) is not None:
            return cell
        return await self._spawn_in_thread(fitting)

    async def _await_birth(self, birth: Birth) -> Cell | None:
        loop = asyncio.get_running_loop()
        told = loop.create_future()
        loop.add_reader(birth.status, _tell, told)
        try:
            async with asyncio.timeout(_SPAWN_S):
                await told
        except TimeoutError:
            pass
        finally:
            loop.remove_reader(birth.status)
            if not told.done() or told.cancelled():
                birth.give_up()
        # WHY: without an answer the other way finds out whether the zygote stands still, and replaces it.
        return unblock(birth.finish()) if told.done() and not told.cancelled() else None

    async def _spawn_in_thread(self, spec: Spec) -> Cell:
        spawning = asyncio.ensure_future(asyncio.to_thread(self._launcher.spawn, spec))
        try:
            return unblock(await asyncio.shield(spawning))
        except asyncio.CancelledError:
            # INVARIANT: a cell that is made for nobody is ended, not forgotten.
            spawning.add_done_callback(_end_unwanted)
            raise


def _tell(told: "asyncio.Future[None]") -> None:
    if not told.done():
        told.set_result(None)


def _end_unwanted(spawning: "asyncio.Future[Cell]") -> None:
    with contextlib.suppress(SandboxError, asyncio.CancelledError):
        spawning.result().close()
