"""To start where a stop, or a crash, left the home: what was begun is ended on the refusing side, and recorded."""

import asyncio
from datetime import UTC, datetime, timedelta

from gateway.audit.query import LogReader
from gateway.domain.caller import Caller
from gateway.domain.lifecycle import State
from gateway.domain.record import Record, Resolution
from gateway.domain.request import Json
from gateway.flows.event import event
from gateway.flows.grants import drop_from_file, drop_lines, take_grants
from gateway.flows.parts import Parts
from gateway.flows.spend import facts_of
from gateway.flows.switch_generation import unfinished_event
from gateway.registry.requests import RequestState

_MOST_LOST = 100  # calls that were being decided when it stopped


async def mend_grants_file(parts: Parts) -> None:
    """Take out of grants.csv what was held when the gateway stopped, so that its lines do not break the policy."""
    held = frozenset(f"grant-{each.grant_number}" for each in parts.registry.holds.holds.values())
    if held:
        await drop_from_file(parts, held)


async def recover(parts: Parts, caller: Caller) -> None:
    """Close every intent without an outcome, undo half approvals, and finish revocations.

    Raises:
        LogUnavailableError: it could not be recorded.
    """
    await _close_lost(parts)
    await _tell_lost_uses(parts)
    await _finish_revocations(parts, caller)
    await _undo_half_approvals(parts, caller)
    await _undo_half_switches(parts, caller)


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


async def _tell_lost_uses(parts: Parts) -> None:
    """Tell of approvals that were used up by a decision that was never recorded, and so let nothing happen."""
    reader = LogReader(parts.home / "data")
    # WHY: what the log once had and keeps no longer was not lost.
    since = await asyncio.to_thread(_first_kept, reader)
    for each in () if since is None else parts.registry.approvals.used_since(since, _MOST_LOST):
        if await asyncio.to_thread(reader.get, f"audit-{each.used_decision}") is not None:
            continue
        details: dict[str, Json] = {
            **facts_of(each),
            "why": "the gateway stopped before this use was recorded: nothing was done by it, and it is used up",
        }
        record = Record(
            event_id=parts.event_id(),
            at=parts.now(),
            event_type="call_approval_used",
            resolution=Resolution.UNKNOWN,
            plugin_id=each.plugin_id,
            details=details,
        )
        await parts.log.append(record)
        parts.registry.approvals.note_lost(each)


def _first_kept(reader: LogReader) -> datetime | None:
    with reader.whole() as whole:
        (first_us,) = whole.parts[0].connection.execute("SELECT min(ts_us) FROM record").fetchone()
    return None if first_us is None else datetime.fromtimestamp(0, UTC) + timedelta(microseconds=first_us)


async def _finish_revocations(parts: Parts, caller: Caller) -> None:
    holds = tuple(parts.registry.holds.holds.values())
    held = {each.grant_number for each in holds}
    unfinished = [grant for grant in parts.registry.grants.live() if grant.number in held]
    if unfinished:
        ids: list[Json] = [grant.id for grant in unfinished]
        facts: dict[str, Json] = {"why": "the gateway stopped while these were revoked", "grants": ids}
        await parts.log.append(event(parts, caller, "recovered", None, facts))
        parts.registry.grants.end(
            [grant.number for grant in unfinished], by=caller.user_id, at=parts.now(), reason="its revocation was begun"
        )
    if holds and await drop_lines(parts, frozenset(f"grant-{number}" for number in held), by=parts.owner):
        parts.registry.holds.lift(holds)
    for plugin in parts.registry.plugins.all():
        if plugin.state is State.REVOKED:
            left = parts.registry.grants.live(plugin.id)
            await take_grants(parts, caller, plugin.id, left, reason="the plugin was revoked before")


async def _undo_half_approvals(parts: Parts, caller: Caller) -> None:
    for plugin in parts.registry.plugins.all():
        if plugin.state is not State.APPROVED:
            continue
        live = parts.registry.grants.live(plugin.id)
        ids: list[Json] = [grant.id for grant in live]
        facts: dict[str, Json] = {"why": "the gateway stopped during an approval: approve it again", "grants": ids}
        await parts.log.append(event(parts, caller, "recovered", plugin.id, facts))
        await take_grants(parts, caller, plugin.id, live, reason="the approval was not finished")
        parts.registry.plugins.move(plugin, State.REGISTERED, reason="its approval was not finished", at=parts.now())
        approved = parts.registry.requests.find(state=RequestState.APPROVED, plugin_id=plugin.id)
        # SECURITY: the last one alone; an earlier one is of an earlier life of this id.
        parts.registry.requests.reopen([each for each in approved if each.type == "register"][-1:])


async def _undo_half_switches(parts: Parts, caller: Caller) -> None:
    """Take back what was granted for a reload that was not finished; the generation before is in force."""
    for each in parts.registry.generations.begun():
        live = [grant for grant in parts.registry.grants.live(each.plugin_id) if grant.number in each.grants]
        await parts.log.append(unfinished_event(parts, caller, each))
        await take_grants(parts, caller, each.plugin_id, live, reason="the reload was not finished")
        parts.registry.generations.give_up(each.plugin_id)
