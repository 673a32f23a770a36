"""To reload a plugin: its folder is read, compared, tried beside what is in force, and takes its place, or not.

What asks for more than is granted or was asked for waits for a person, while the generation before goes on serving.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from gateway.domain.caller import Caller
from gateway.domain.lifecycle import State, Verb
from gateway.domain.manifest import Manifest
from gateway.domain.permission import Level
from gateway.domain.record import Record
from gateway.domain.reloading import Flag, Trigger, version_flags
from gateway.domain.widening import Change
from gateway.errors import ConflictError, HearthgateError, HostCannotKeepError, LogUnavailableError, Problem
from gateway.flows.adopt_code import rebuild_packages
from gateway.flows.authorize import authorize
from gateway.flows.compare_generations import Difference, compare_generations
from gateway.flows.dependencies import check_dependencies
from gateway.flows.gates import check_gates, prepare_gates
from gateway.flows.hold_back import expire_held_back, hold_back, was_denied
from gateway.flows.lifecycle import check_legal, find
from gateway.flows.old_snapshots import retire_snapshot, trying
from gateway.flows.parts import Parts
from gateway.flows.read_generation import Read, keep_generation, read_generation
from gateway.flows.switch_generation import Following, check_follows, failed_event, switch_generation
from gateway.flows.try_generation import end_trial, try_generation
from gateway.registry.folder import store_snapshot
from gateway.registry.plugins import Plugin
from gateway.registry.requests import PermissionRequest

_log = logging.getLogger("hearthgate.plugins")
_NO_DIFFERENCE = Difference(wider=(), asked=(), dropped=(), narrowed=())


class ReloadOutcome(StrEnum):
    """What became of a reload."""

    RELOADED = "reloaded"
    UNCHANGED = "unchanged"
    HELD_BACK = "held_back"  # it waits for a person
    DENIED = "denied"  # a person denied this very content before; it was not asked for again
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reload:
    """What became of a reload; `plugin` is the generation in force now."""

    outcome: ReloadOutcome
    plugin: Plugin
    following: Following | None = None
    request: PermissionRequest | None = None
    error: str | None = None
    problems: Sequence[Problem] = ()
    event: Record | None = None


async def reload_plugin(parts: Parts, caller: Caller, plugin_id: str, reason: str) -> Reload:
    """Reload a plugin for a person.

    Raises:
        DeniedError: the caller may not.
        NotFoundError: there is no such plugin.
        IllegalTransitionError: it is in a state in which nothing is reloaded.
        ConflictError: a lockdown is in force on it.
        LogUnavailableError: it could not be recorded; nothing changed.
    """
    await authorize(parts, caller, Level.ADMIN, f"plugins/{plugin_id}", key_scope="admin")
    return await reload_changed(parts, caller, plugin_id, reason, Trigger.PERSON)


async def reload_changed(parts: Parts, caller: Caller, plugin_id: str, reason: str, trigger: Trigger) -> Reload:
    """Reload a plugin, one reload of it at a time; whoever may is asked before.

    Raises:
        Everything that `reload_plugin` raises, but for DeniedError.
    """
    check_legal(find(parts, plugin_id), Verb.RELOAD)
    async with parts.reloads.turn(plugin_id):
        plugin = find(parts, plugin_id)
        check_follows(parts, plugin)
        if plugin.state is State.FAILED:
            revived = await _revive(parts, caller, plugin, reason)
            if revived.outcome is ReloadOutcome.FAILED:
                return revived
            after = await _reload(parts, caller, revived.plugin, reason, trigger)
            return revived if after.outcome is ReloadOutcome.UNCHANGED else after
        return await _reload(parts, caller, plugin, reason, trigger)


async def _reload(parts: Parts, caller: Caller, plugin: Plugin, reason: str, trigger: Trigger) -> Reload:
    following = _following(plugin, plugin.manifest, None, reason, trigger)
    try:
        read = await read_generation(parts, plugin)
        if read.digest == plugin.digest:
            expire_held_back(parts, plugin, by=caller.user_id, why="the folder is again what is in force")
            return Reload(outcome=ReloadOutcome.UNCHANGED, plugin=find(parts, plugin.id))
        following = _following(plugin, read.manifest, read.digest, reason, trigger)
        async with trying(parts, read.digest):
            difference = await compare_generations(parts, plugin, read)
            gates = await _closed_gates(parts, caller, following, read)
            following = _with_difference(following, replace(difference, wider=(*difference.wider, *gates)))
            if following.difference.widens:
                return await _hold_back(parts, caller, following)
            following = numbered(parts, following)
            return await take_generation(parts, caller, following, read)
    except LogUnavailableError:
        raise
    except HearthgateError as error:
        return await _failed(parts, caller, following, error)


def numbered(parts: Parts, following: Following) -> Following:
    """Give a generation that is to be tried its number."""
    number = parts.registry.plugins.next_generation(following.plugin.id)
    return replace(following, plugin=replace(following.plugin, generation=number))


async def take_generation(parts: Parts, caller: Caller, following: Following, read: Read) -> Reload:
    """Keep what was read, try it beside the generation in force, and switch to it.

    Raises:
        HearthgateError: it did not pass, or could not come into force; what was in force still is.
    """
    number = following.plugin.generation
    try:
        check_dependencies(parts, following.plugin.manifest)
        await keep_generation(parts, read)
        await try_generation(parts, following.plugin, trace=caller.trace)
        switched = await switch_generation(parts, caller, following)
    except BaseException:
        there = parts.registry.plugins.get(following.plugin.id)
        if there is None or there.generation != number:
            end_trial(parts, following.plugin.id, number)
        raise
    await retire_snapshot(parts, following.follows)
    following = replace(following, plugin=switched)
    return Reload(outcome=ReloadOutcome.RELOADED, plugin=switched, following=following)


async def _closed_gates(parts: Parts, caller: Caller, following: Following, read: Read) -> tuple[Change, ...]:
    """Say which gates do not let a generation pass yet; its code is scanned if its manifest wants that.

    Raises:
        ConflictError: bandit is not installed.
    """
    # SECURITY: who brings the code does not open its gate.
    bringing = caller.user_id if following.trigger is Trigger.PERSON else None
    try:
        if read.manifest.security_scan:
            await asyncio.to_thread(store_snapshot, read.folder, parts.snapshots)
            await prepare_gates(parts, caller, following.plugin)
        check_gates(parts, following.plugin, read.digest, besides=bringing)
    except ConflictError as error:
        if "gate" not in error.extra:
            raise
        return (Change(what=str(error.extra["gate"]), text=error.message),)
    return ()


async def _hold_back(parts: Parts, caller: Caller, following: Following) -> Reload:
    plugin = following.follows
    if following.trigger is Trigger.WATCH and was_denied(parts, following):
        # WHY: a file that is saved again and again must not wear out who has answered.
        return Reload(outcome=ReloadOutcome.DENIED, plugin=plugin, following=following, error="it was denied before")
    request = await hold_back(parts, caller, following)
    return Reload(outcome=ReloadOutcome.HELD_BACK, plugin=plugin, following=following, request=request)


async def _revive(parts: Parts, caller: Caller, plugin: Plugin, reason: str) -> Reload:
    """Bring a failed plugin back, if the host can keep its promise again."""
    following = replace(
        _following(plugin, plugin.manifest, plugin.digest, reason, Trigger.PERSON), flags=(Flag.REVIVED,)
    )
    try:
        await _keep_promise(parts, plugin)
        following = numbered(parts, following)
        switched = await switch_generation(parts, caller, following)
    except LogUnavailableError:
        raise
    except HearthgateError as error:
        return await _failed(parts, caller, following, error)
    return Reload(outcome=ReloadOutcome.RELOADED, plugin=switched, following=replace(following, plugin=switched))


async def _keep_promise(parts: Parts, plugin: Plugin) -> None:
    """Prove the host anew, and have what the code in force depends on.

    Raises:
        HostCannotKeepError: it still cannot keep what every plugin is promised.
        MalformedError: the packages cannot be had.
    """
    await asyncio.to_thread(parts.host.prove)
    if parts.host.missing:
        told = "; ".join(f"{each.name}: {each.detail}" for each in parts.host.missing)
        raise HostCannotKeepError(f"the host cannot keep its promise: {told}", way_out="`hearthgate doctor`")
    await rebuild_packages(parts, plugin)


async def _failed(parts: Parts, caller: Caller, following: Following, error: HearthgateError) -> Reload:
    told = "\n".join((error.message, *map(str, error.problems)))
    record = failed_event(parts, caller, following, told)
    await parts.log.append(record)
    _log.warning("plugin %s: a new generation was not taken (%s)", following.plugin.id, type(error).__name__)
    return Reload(
        outcome=ReloadOutcome.FAILED,
        plugin=parts.registry.plugins.get(following.plugin.id) or following.follows,
        following=following,
        error=error.message,
        problems=error.problems,
        event=record,
    )


def _following(plugin: Plugin, manifest: Manifest, digest: str | None, reason: str, trigger: Trigger) -> Following:
    return Following(
        follows=plugin,
        plugin=replace(plugin, manifest=manifest, digest=digest),
        difference=_NO_DIFFERENCE,
        flags=() if digest in {None, plugin.digest} else version_flags(plugin.manifest.version, manifest.version),
        reason=reason,
        trigger=trigger,
    )


def _with_difference(following: Following, difference: Difference) -> Following:
    narrower = (Flag.NARROWED,) if difference.dropped else ()
    return replace(following, difference=difference, flags=(*following.flags, *narrower))
