"""To switch a plugin to another generation: recorded, then written and in force at once, or not at all.

Calls under way end on the generation that they began with.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from msgspec import structs

from gateway.domain.caller import Caller
from gateway.domain.grant import Grant
from gateway.domain.lifecycle import State, Verb
from gateway.domain.manifest import RequestedPermission
from gateway.domain.names import PluginId, plugin_subject
from gateway.domain.permission import Kind, Level, Permission
from gateway.domain.record import Record, Resolution
from gateway.domain.reloading import Flag, Trigger
from gateway.domain.request import Json
from gateway.errors import ConflictError, HearthgateError, LogUnavailableError
from gateway.flows.compare_generations import Difference
from gateway.flows.event import event, naming
from gateway.flows.grants import Giving, end_held, give_grants, take_grants
from gateway.flows.lifecycle import check_legal, find
from gateway.flows.parts import Parts
from gateway.flows.reload_policy import refresh_memberships
from gateway.flows.tell import tell
from gateway.flows.void_calls import void_calls_of
from gateway.registry.generations import Switch, Switching
from gateway.registry.holds import Hold, new_hold
from gateway.registry.plugins import Plugin
from gateway.registry.requests import PermissionRequest

_log = logging.getLogger("hearthgate.plugins")
_NO_LONGER_ASKED = "the new generation no longer asks for it"
_TOLD_CHARACTERS = 2000
_TO_RUN = Permission(Kind.PLUGIN, Level.EXECUTE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """One generation that follows another; `given` are what is granted for it, besides what is narrowed."""

    follows: Plugin
    plugin: Plugin
    difference: Difference
    flags: tuple[Flag, ...]
    reason: str
    trigger: Trigger
    given: tuple[RequestedPermission, ...] = ()
    request: PermissionRequest | None = None  # whose approval it is
    records: tuple[Record, ...] = ()  # that belong to that approval

    def as_json(self) -> dict[str, Json]:
        """Give what the event of a reload says of it, whether it came into force or not."""
        old, new = self.follows, self.plugin
        return {
            "trigger": self.trigger.value,
            "previous_version": old.manifest.version,
            "new_version": new.manifest.version,
            "previous_digest": old.digest,
            "new_digest": new.digest,
            "previous_generation": old.generation,
            "new_generation": None if new.generation == old.generation else new.generation,
            "flags": [flag.value for flag in self.flags],
            "changes": list(self.difference.as_json()),
            "dropped": [grant.id for grant in self.difference.dropped],
        }


async def switch_generation(parts: Parts, caller: Caller, following: Following) -> Plugin:
    """Put a generation in force that was tried; in the same moment its grants are, and those it dropped are not.

    Who is cancelled meanwhile waits until it is done, or undone.

    Raises:
        ConflictError: another generation came into force meanwhile, or a lockdown.
        IllegalTransitionError: the plugin was suspended or revoked meanwhile.
        NotFoundError: it was uninstalled meanwhile.
        PolicyBrokenError: grants are to be given, and the policy files have errors.
        LogUnavailableError: it could not be recorded; nothing changed.
    """
    switching = asyncio.create_task(_to_the_end(parts, caller, following))
    try:
        return await asyncio.shield(switching)
    except asyncio.CancelledError:
        await asyncio.wait({switching})
        raise


async def _to_the_end(parts: Parts, caller: Caller, following: Following) -> Plugin:
    held: list[Hold] = []
    problem: HearthgateError | None = None
    async with parts.editing:
        check_follows(parts, following.follows)
        done = _told(parts, caller, following)
        granted = await _record(parts, caller, following, done)
        # INVARIANT: since the record was durable, and the grants in force, nobody else had a turn.
        try:
            switched = _switch(parts, caller, following, held)
        except HearthgateError as error:
            problem = error
        else:
            await _refresh(parts, caller, f"{switched.id} was reloaded")
    if problem is not None:
        await _undo(parts, caller, following, granted, (done, problem))
        raise problem
    if held:
        await end_held(parts, caller, switched.id, (following.difference.dropped, held), reason=_NO_LONGER_ASKED)
        async with parts.editing:
            await _refresh(parts, caller, f"{switched.id} asks for less")
    return switched


async def _refresh(parts: Parts, caller: Caller, why: str) -> None:
    refresh = partial(refresh_memberships, parts, by=caller.user_id, why=why)
    try:
        await refresh()
    except LogUnavailableError as error:
        # WHY: the generation is in force; its tier follows as soon as that can be recorded.
        _log.error("a change of tiers has to wait: %s", error)
        parts.unfinished.append(refresh)


async def _record(parts: Parts, caller: Caller, following: Following, done: Record) -> tuple[Grant, ...]:
    """Record the switch, with the grants that it needs in force; gives those."""
    given = (*following.given, *following.difference.narrowed)
    if given:
        return await _give(parts, caller, following, given, done)
    parts.registry.generations.begin(_begun(following, done, ()))
    try:
        await parts.log.append(*following.records, done)
    except LogUnavailableError:
        parts.registry.generations.give_up(following.plugin.id)
        raise
    return ()


def _begun(following: Following, done: Record, grants: Sequence[int]) -> Switching:
    told: dict[str, Json] = {**following.as_json(), "reason": following.reason, "event_id": done.event_id}
    return Switching(plugin_id=following.plugin.id, grants=tuple(grants), told=told)


def check_follows(parts: Parts, follows: Plugin) -> Plugin:
    """Refuse to go on from a generation that may not be reloaded by now.

    Raises:
        ConflictError: it is in force no longer, or locked down, or was never approved.
        IllegalTransitionError: its plugin is in a state in which nothing is reloaded.
        NotFoundError: it was uninstalled.
    """
    there = find(parts, follows.id)
    check_legal(there, Verb.RELOAD)
    if (there.generation, there.registration) != (follows.generation, follows.registration):
        raise ConflictError(f"another generation of `{there.id}` came into force meanwhile", way_out="try again")
    lockdown = parts.registry.holds.locked(subject=plugin_subject(there.id), user=None, kind="")
    if lockdown is not None:
        raise ConflictError(f"a lockdown is in force: `{there.id}` is not reloaded", extra={"lockdown": lockdown.id})
    # SECURITY: a plugin that failed before anybody approved it would become active without approval.
    if there.state is State.FAILED and not _was_approved(parts, there):
        raise ConflictError(f"`{there.id}` was not approved to run", way_out="uninstall it, and register it again")
    return there


def _was_approved(parts: Parts, plugin: Plugin) -> bool:
    return any(each.permission == _TO_RUN and each.scope == plugin.id for each in parts.registry.grants.live(plugin.id))


async def _give(
    parts: Parts, caller: Caller, following: Following, given: Sequence[RequestedPermission], done: Record
) -> tuple[Grant, ...]:
    plugin_id, live = following.plugin.id, {each.number for each in parts.registry.grants.live(following.plugin.id)}

    def begin() -> None:
        # SECURITY: taking away waits for nobody, so the plugin may have been stopped since.
        check_follows(parts, following.follows)
        new = [each.number for each in parts.registry.grants.live(plugin_id) if each.number not in live]
        parts.registry.generations.begin(_begun(following, done, new))

    return await give_grants(
        parts,
        Giving(plugin_id=plugin_id, wanted=given, reason=following.reason, in_force=lambda _granted: [done]),
        caller,
        records=following.records,
        noted=begin,
        undone=lambda: parts.registry.generations.give_up(plugin_id),
    )


def _switch(parts: Parts, caller: Caller, following: Following, held: list[Hold]) -> Plugin:
    """Write the switch; judged by what is there at this very moment."""
    there, at = check_follows(parts, following.follows), parts.now()
    new = [
        new_hold(parts.new_id(), there.id, each.number, reason=_NO_LONGER_ASKED, by=caller.user_id, at=at)
        for each in following.difference.dropped
    ]
    switched = parts.registry.generations.switch(
        Switch(
            plugin=replace(
                following.plugin,
                state=check_legal(there, Verb.RELOAD),
                reason=following.reason,
                registered_by=there.registered_by,
                registered_at=there.registered_at,
            ),
            follows=there,
            held=new,
            request=following.request,
            reason=following.reason,
            # SECURITY: who consented knew a plugin that could do less.
            ends_consents=following.request is not None,
            by=caller.user_id,
            at=at,
        )
    )
    held += new
    if switched.digest != there.digest:
        void_calls_of(parts, switched.id, "the plugin's code is another")
    parts.pool.retire(switched.id, switched.generation)
    _log.info("plugin %s: generation %d is in force, digest %s", switched.id, switched.generation, switched.digest)
    return switched


def _told(parts: Parts, caller: Caller, following: Following) -> Record:
    facts: dict[str, Json] = {**following.as_json(), "success": True, "error": None}
    return event(parts, caller, "reloaded", following.plugin.id, {**facts, "reason": following.reason})


def failed_event(parts: Parts, caller: Caller, following: Following, error: str) -> Record:
    """Make the record of a generation that was not taken."""
    return _failed(parts, caller, following.plugin.id, {**following.as_json(), "reason": following.reason}, error)


def unfinished_event(parts: Parts, caller: Caller, switching: Switching) -> Record:
    """Make the record that corrects what was told of a switch that the gateway's end came before."""
    facts = {name: value for name, value in switching.told.items() if name != "event_id"}
    record = _failed(parts, caller, switching.plugin_id, facts, "the gateway stopped before it was in force")
    return structs.replace(record, ref=str(switching.told["event_id"]))


def _failed(parts: Parts, caller: Caller, plugin_id: PluginId, facts: Mapping[str, Json], error: str) -> Record:
    record = event(parts, caller, "reloaded", plugin_id, {**facts, "success": False})
    # WHY: personal, for the words of a plugin's exception may be a user's.
    return structs.replace(naming(record, error=error[:_TOLD_CHARACTERS]), resolution=Resolution.FAILED)


async def _undo(
    parts: Parts,
    caller: Caller,
    following: Following,
    granted: Sequence[Grant],
    told: tuple[Record, HearthgateError],
) -> None:
    """Take back what was granted for a switch that could not be made, and correct the record."""
    done, problem = told
    if granted:
        await take_grants(parts, caller, following.plugin.id, granted, reason="the reload could not be finished")
    parts.registry.generations.give_up(following.plugin.id)
    await tell(parts, structs.replace(failed_event(parts, caller, following, problem.message), ref=done.event_id))
