"""Snapshots that nothing runs any more: they go when their generation was not taken, or its last call is over."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.flows.parts import Parts
from gateway.registry.folder import forget_snapshot, remove_forgotten, remove_unfinished, stored_snapshots
from gateway.registry.plugins import Plugin

_GRACE_S = 10.0  # from the moment when a call chose its generation until it is among those that run


@asynccontextmanager
async def trying(parts: Parts, digest: str) -> AsyncIterator[None]:
    """Keep the snapshot of code that may come into force; remove it if it did not."""
    parts.reloads.trying.add(digest)
    try:
        yield
    finally:
        parts.reloads.trying.discard(digest)
        await drop_snapshot(parts, digest)


async def drop_snapshot(parts: Parts, digest: str | None) -> None:
    """Remove a snapshot, unless it is some plugin's code or is about to be."""
    if digest is None or digest in _needed(parts):
        return
    # INVARIANT: gone before anybody else has a turn, so that whoever needs it by now makes it anew.
    forgotten = forget_snapshot(parts.snapshots, digest)
    if forgotten is not None:
        await asyncio.to_thread(remove_forgotten, forgotten)


async def retire_snapshot(parts: Parts, follows: Plugin) -> None:
    """Note that a generation is no longer in force, and remove the code of those whose calls are over."""
    if follows.digest is not None:
        parts.reloads.retired.append((time.monotonic(), follows))
    for entry in list(parts.reloads.retired):
        since, plugin = entry
        running = any(job.plugin_id == plugin.id and job.generation <= plugin.generation for job in parts.pool.running)
        if not running and time.monotonic() - since > _GRACE_S:
            parts.reloads.retired.remove(entry)
            await drop_snapshot(parts, plugin.digest)


def drop_old_snapshots(parts: Parts) -> None:
    """Remove every snapshot that is no plugin's code, and what a kill left halfway; to be called while nothing runs."""
    for store in (parts.snapshots, parts.packages):
        remove_unfinished(store)
    needed = _needed(parts)
    for digest in stored_snapshots(parts.snapshots):
        if digest not in needed and (forgotten := forget_snapshot(parts.snapshots, digest)) is not None:
            remove_forgotten(forgotten)


def _needed(parts: Parts) -> frozenset[str | None]:
    return frozenset({*parts.reloads.trying, *(each.digest for each in parts.registry.plugins.all())})
