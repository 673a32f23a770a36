"""An event loop in a thread of its own, asked from blocking code."""

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class LoopThread:
    """A running event loop; `run` blocks the calling thread until a coroutine of it has ended."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="hearthgate-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Give what `work` returns; if this thread is interrupted, the work is cancelled."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Cancel what still runs, then end the loop and its thread."""
        self.run(_cancel_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


class Held(Generic[T]):
    """A context manager that stays open in a loop; one task enters and leaves it.

    WHY: cancel scopes and lifespans must be left by the task that entered them.
    """

    def __init__(self, loop: LoopThread, manager: AbstractAsyncContextManager[T]) -> None:
        self._loop = loop
        self._leave = asyncio.Event()
        self.value, self._task = loop.run(self._enter(manager))

    def close(self) -> None:
        """Leave the context manager."""
        self._loop.run(self._left())

    async def _enter(self, manager: AbstractAsyncContextManager[T]) -> tuple[T, asyncio.Task[None]]:
        entered: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._stay(manager, entered))
        either: list[asyncio.Future[Any]] = [task, entered]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not entered.done():
            entered.cancel()
            await task
        return entered.result(), task

    async def _stay(self, manager: AbstractAsyncContextManager[T], entered: asyncio.Future[T]) -> None:
        async with manager as value:
            entered.set_result(value)
            await self._leave.wait()

    async def _left(self) -> None:
        self._leave.set()
        await self._task


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
