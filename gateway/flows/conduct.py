"""To hold against a plugin what it tried and its cell refused: its risk rises, and falls only by a person's word."""

import asyncio
import logging

from gateway.domain.record import Record, Resolution
from gateway.errors import HearthgateError
from gateway.flows.memberships import plugin_risk
from gateway.flows.parts import Parts
from gateway.flows.reload_policy import refresh_memberships
from gateway.registry.conduct import PER_STEP
from gateway.registry.plugins import Plugin

_log = logging.getLogger("hearthgate.execute")
_raising: set[asyncio.Task[None]] = set()
PROTOCOL = PER_STEP  # what breaking the protocol of a cell weighs, which no plugin does by mistake


async def count_try(parts: Parts, plugin: Plugin, tried: str, *, weight: int = 1) -> None:
    """Count a refused try, the same one once a day; a step that is reached is recorded and raises the plugin's tier.

    Raises:
        LogUnavailableError: it could not be recorded.
        UnavailableError: it could not be counted.
    """
    key = f"{parts.now():%Y-%m-%d} {tried}"
    step = await asyncio.to_thread(parts.registry.conduct.note, plugin.id, plugin.registration, key, weight=weight)
    if step == 0:
        return
    if not parts.editing.locked():
        await _raise(parts, plugin, step)
        return
    # WHY: whoever edits may wait for this very call, as a reload for its self-test.
    task = asyncio.create_task(_raise_later(parts, plugin, step))
    _raising.add(task)
    task.add_done_callback(_raising.discard)


async def _raise_later(parts: Parts, plugin: Plugin, step: int) -> None:
    try:
        await _raise(parts, plugin, step)
    except HearthgateError as error:
        # WHY: what was counted stays, and counts with the next policy set at the latest.
        _log.warning("the risk of %s was not raised yet: %s", plugin.id, error)


async def _raise(parts: Parts, plugin: Plugin, step: int) -> None:
    async with parts.editing:
        policy = parts.policy.get()
        if policy is None:
            return
        risk = plugin_risk(parts, policy.parsed, plugin.id)
        await parts.log.append(
            Record(
                event_id=parts.event_id(),
                at=parts.now(),
                event_type="risk_assessment",
                resolution=Resolution.COMPLETED,
                plugin_id=plugin.id,
                risk_score=risk.score,
                details={
                    "why": "its cells refused what it tried",
                    "step": step,
                    "generation": plugin.generation,
                    "computed": risk.tier.value,
                    "score": risk.score,
                },
            )
        )
        await refresh_memberships(parts, by=parts.owner, why=f"{plugin.id} tried what its cells refuse")
