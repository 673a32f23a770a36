"""What a house does again and again while it is open: it writes, tells, watches and goes on."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from gateway.config import LogSettings
from gateway.domain.record import Record, Resolution
from gateway.errors import HearthgateError, LogUnavailableError, UnavailableError
from gateway.flows.erase import resume_erasures
from gateway.flows.keep_log import Keeping, keep_log
from gateway.flows.parts import Parts
from gateway.flows.reload_policy import reload_policy
from gateway.http.doors import Refusals
from gateway.watch import FolderWatch

_log = logging.getLogger("hearthgate")
_EDIT_AGAIN_S = 1.0


def begin(work: Coroutine[Any, Any, None]) -> Callable[[], Awaitable[None]]:
    """Begin something that goes on; gives what stops it."""
    task = asyncio.create_task(work)

    async def stop() -> None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    return stop


def every(period_s: float, work: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """Do something again and again; gives what stops that, after doing it once more."""

    async def run() -> None:
        while True:
            await asyncio.sleep(period_s)
            await work()

    task = asyncio.create_task(run())

    async def stop() -> None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await work()

    return stop


def watch_policy(parts: Parts) -> Callable[[], None]:
    """Judge the policy files whenever they are edited; gives what stops that."""
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    async def reload() -> None:
        while True:
            try:
                await reload_policy(parts, by=None, why="files were edited")
            except LogUnavailableError as error:
                _log.error("an edit of the policy files waits for the decision log: %s", error)
                # INVARIANT: it is not forgotten meanwhile, for it may take something away.
                await asyncio.sleep(_EDIT_AGAIN_S)
            except HearthgateError as error:
                _log.error("an edit of the policy files could not be judged: %s", error)
                return
            else:
                return

    def start() -> None:
        task = loop.create_task(reload())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def changed() -> None:
        with contextlib.suppress(RuntimeError):  # WHY: the loop closed between the edit and this call
            loop.call_soon_threadsafe(start)

    folders = [parts.policies, parts.policies / "rules", parts.policies / "tests"]
    watch = FolderWatch(folders, changed)
    watch.start()
    # WHY: an edit made between the reading at start and the watch's beginning is told by nobody.
    start()

    def stop() -> None:
        watch.stop()
        for task in tasks:
            task.cancel()

    return stop


async def write_key_uses(parts: Parts) -> None:
    """Write when keys and consents were last used, off the requests' path."""
    with contextlib.suppress(UnavailableError):  # WHY: what could not be written is written a minute later
        await asyncio.to_thread(parts.registry.keys.write_uses)
        await asyncio.to_thread(parts.registry.consents.write_uses)


async def write_traffic(parts: Parts) -> None:
    """Write the traffic of the last moments, off the calls' path."""
    await asyncio.to_thread(parts.traffic.flush, parts.now())


async def keep_up_log(parts: Parts, settings: LogSettings) -> None:
    """Close, ship and drop files of the decision log as the settings say."""
    keeping = Keeping(
        segment_bytes=settings.segment_bytes,
        segment_days=settings.segment_days,
        keep_days=settings.keep_days,
        keep_segments=settings.keep_segments,
    )
    try:
        await keep_log(parts, keeping)
    except LogUnavailableError as error:
        _log.error("the log's files could not be looked after: %s", error)


async def go_on_erasing(parts: Parts) -> None:
    """Go on with erasures that were begun and not finished."""
    try:
        await resume_erasures(parts)
    except HearthgateError as error:
        _log.error("an erasure could not be finished and will be tried again: %s", error)


async def tell_refusals(parts: Parts, refusals: Refusals) -> None:
    """Record how many requests were turned away undecided, if any were."""
    counts = refusals.take()
    if not counts:
        return
    try:
        await parts.log.append(
            Record(
                event_id=parts.event_id(),
                at=parts.now(),
                event_type="requests_refused",
                resolution=Resolution.REFUSED,
                details={"by_status": dict(counts)},
            )
        )
    except LogUnavailableError:
        refusals.put_back(counts)
