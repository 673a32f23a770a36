"""To start where a stop, or a crash, left the home: what was begun is ended on the refusing side, and recorded."""

from gateway.domain.caller import Caller
from gateway.domain.lifecycle import State
from gateway.domain.record import Record, Resolution
from gateway.domain.request import Json
from gateway.flows.event import event
from gateway.flows.grants import drop_lines
from gateway.flows.parts import Parts
from gateway.registry.requests import RequestState


async def recover(parts: Parts, caller: Caller) -> None:
    """Close every intent without an outcome, undo half approvals, and finish revocations.

    Raises:
        LogUnavailableError: it could not be recorded.
    """
    await _close_lost(parts)
    await _undo_half_approvals(parts, caller)
    await _finish_revocations(parts)


async def _close_lost(parts: Parts) -> None:
    lost = [
        Record(
            event_id=parts.event_id(),
            at=parts.now(),
            event_type="execution_lost",
            resolution=Resolution.UNKNOWN,
            plugin_id=intent["plugin_id"],
            details={"why": "the gateway stopped before the outcome was recorded"},
            ref=str(intent["event_id"]),
        )
        for intent in parts.log.lost
    ]
    if lost:
        await parts.log.append(*lost)


async def _undo_half_approvals(parts: Parts, caller: Caller) -> None:
    for plugin in parts.registry.plugins.all():
        if plugin.state is not State.APPROVED:
            continue
        live = parts.registry.grants.live(plugin.id)
        ids: list[Json] = [grant.id for grant in live]
        facts: dict[str, Json] = {"why": "the gateway stopped during an approval: approve it again", "grants": ids}
        await parts.log.append(event(parts, caller, "recovered", plugin.id, facts))
        parts.registry.grants.end(
            [grant.number for grant in live], by=caller.user_id, at=parts.now(), reason="the approval was not finished"
        )
        await drop_lines(parts, frozenset(grant.id for grant in live), by=caller.user_id)
        parts.registry.plugins.move(plugin, State.REGISTERED, reason="its approval was not finished", at=parts.now())
        approved = parts.registry.requests.find(state=RequestState.APPROVED, plugin_id=plugin.id)
        parts.registry.requests.reopen([each for each in approved if each.type == "register"])


async def _finish_revocations(parts: Parts) -> None:
    holds = tuple(parts.registry.holds.holds.values())
    if holds and await drop_lines(parts, frozenset(f"grant-{each.grant_number}" for each in holds), by=parts.owner):
        parts.registry.holds.lift(holds)
