"""To switch a plugin to another generation: recorded, then written and in force at once, or not at all.

Calls under way end on the generation that they began with.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from msgspec import structs

from gateway.domain.caller import Caller
from gateway.domain.grant import Grant
from gateway.domain.lifecycle import State, Verb
from gateway.domain.manifest import RequestedPermission
from gateway.domain.names import plugin_subject
from gateway.domain.permission import Kind, Level, Permission
from gateway.domain.record import Record, Resolution
from gateway.domain.reloading import Flag, Trigger
from gateway.domain.request import Json
from gateway.errors import ConflictError, HearthgateError
from gateway.flows.compare_generations import Difference
from gateway.flows.event import event, naming
from gateway.flows.grants import Giving, end_held, give_grants, take_grants
from gateway.flows.lifecycle import check_legal, find
from gateway.flows.parts import Parts
from gateway.flows.reload_policy import refresh_memberships
from gateway.flows.tell import tell
from gateway.registry.generations import Switch
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
            "new_generation": new.generation,
            "flags": [flag.value for flag in self.flags],
            "changes": list(self.difference.as_json()),
            "dropped": [grant.id for grant in self.difference.dropped],
        }


async def switch_generation(parts: Parts, caller: Caller, following: Following) -> Plugin:
    """Put a generation in force that was tried; in the same moment its grants are, and those it dropped are not.

    Raises:
        ConflictError: another generation came into force meanwhile, or a lockdown.
        IllegalTransitionError: the plugin was suspended, revoked or uninstalled meanwhile.
        PolicyBrokenError: grants are to be given, and the policy files have errors.
        LogUnavailableError: it could not be recorded; nothing changed.
    """
    held: list[Hold] = []
    async with parts.editing:
        check_follows(parts, following.follows)
        done = _told(parts, caller, following)
        given = (*following.given, *following.difference.narrowed)
        granted: tuple[Grant, ...] = ()
        if given:
            granted = await _give(parts, caller, following, given, done)
        else:
            await parts.log.append(*following.records, done)
        # INVARIANT: from the moment when its grants came into force nobody else had a turn.
        problem: HearthgateError | None = None
        try:
            switched = _switch(parts, caller, following, held)
        except HearthgateError as error:
            problem = error
        else:
            await refresh_memberships(parts, by=caller.user_id, why=f"{switched.id} was reloaded")
    if problem is not None:
        await _undo(parts, caller, following, granted, (done, problem))
        raise problem
    if held:
        await end_held(parts, caller, switched.id, (following.difference.dropped, held), reason=_NO_LONGER_ASKED)
        async with parts.editing:
            await refresh_memberships(parts, by=caller.user_id, why=f"{switched.id} asks for less")
    return switched


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
        raise ConflictError(f"`{there.id}` was never approved", way_out="uninstall it, and register it again")
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
        parts.registry.generations.begin(plugin_id, new)

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
    parts.pool.retire(switched.id, switched.generation)
    _log.info("plugin %s: generation %d is in force, digest %s", switched.id, switched.generation, switched.digest)
    return switched


def _told(parts: Parts, caller: Caller, following: Following) -> Record:
    facts: dict[str, Json] = {**following.as_json(), "success": True, "error": None}
    return event(parts, caller, "reloaded", following.plugin.id, {**facts, "reason": following.reason})


def failed_event(parts: Parts, caller: Caller, following: Following, error: str) -> Record:
    """Make the record of a generation that was not taken."""
    facts: dict[str, Json] = {**following.as_json(), "success": False, "reason": following.reason}
    record = event(parts, caller, "reloaded", following.plugin.id, facts)
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
