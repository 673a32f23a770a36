"""The life of an approved plugin: suspend, resume, revoke, uninstall.

Where something is given the record comes before the change; where something is taken away nothing comes before it.
"""

import logging

from gateway.domain.caller import Caller
from gateway.domain.lifecycle import State, Verb, after, legal_verbs
from gateway.domain.names import PluginId
from gateway.domain.permission import Level
from gateway.errors import IllegalTransitionError, NotFoundError
from gateway.flows.authorize import authorize
from gateway.flows.event import event
from gateway.flows.grants import take_grants
from gateway.flows.parts import Parts
from gateway.flows.reload_policy import refresh_memberships
from gateway.flows.tell import tell
from gateway.flows.void_calls import void_calls_of
from gateway.registry.plugins import Plugin
from gateway.registry.requests import RequestState

_log = logging.getLogger("hearthgate.plugins")


async def suspend(parts: Parts, caller: Caller, plugin_id: str, reason: str) -> Plugin:
    """Stop a plugin for now: it may do nothing, and what runs is killed.

    Raises:
        DeniedError: the caller may not.
        IllegalTransitionError: it is not active.
    """
    return await _take_away(parts, caller, plugin_id, Verb.SUSPEND, "suspended", reason)


async def resume(parts: Parts, caller: Caller, plugin_id: str, reason: str) -> Plugin:
    """Let a suspended plugin act again, with what it was granted.

    Raises:
        DeniedError: the caller may not.
        IllegalTransitionError: it is not suspended.
    """
    await authorize(parts, caller, Level.ADMIN, f"plugins/{plugin_id}", key_scope="admin")
    async with parts.editing:
        plugin = find(parts, plugin_id)
        check_legal(plugin, Verb.RESUME)
        await parts.log.append(event(parts, caller, "activated", plugin.id, {"reason": reason, "from": "suspended"}))
        resumed = move(parts, plugin.id, Verb.RESUME, reason)
        # WHY: a person has looked at what it tried; what counts against it begins anew.
        parts.registry.conduct.forget(plugin.id)
        await refresh_memberships(parts, by=caller.user_id, why=f"{plugin.id} was resumed")
        return resumed


async def revoke(parts: Parts, caller: Caller, plugin_id: str, reason: str) -> Plugin:
    """Take everything away from a plugin for good: it may do nothing, what runs is killed, its grants go.

    Raises:
        DeniedError: the caller may not.
        IllegalTransitionError: it is revoked already.
    """
    plugin = await _take_away(parts, caller, plugin_id, Verb.REVOKE, "revoked", reason)
    await take_grants(parts, caller, plugin.id, parts.registry.grants.live(plugin.id), reason=reason)
    async with parts.editing:
        pending = parts.registry.requests.find(state=RequestState.PENDING, plugin_id=plugin.id)
        parts.registry.requests.decide(pending, RequestState.REVOKED, by=caller.user_id, at=parts.now(), reason=reason)
        parts.registry.consents.end_all(plugin.id, at=parts.now(), reason="the plugin was revoked")
    return plugin


async def uninstall(parts: Parts, caller: Caller, plugin_id: str, reason: str) -> None:
    """Remove a plugin with its grants, consents and requests; its folder stays.

    Its holds go with the lines that they hold; one whose line cannot be taken out yet stays until it is.

    Raises:
        DeniedError: the caller may not.
        NotFoundError: there is no such plugin.
    """
    await authorize(parts, caller, Level.ADMIN, f"plugins/{plugin_id}", key_scope="admin")
    plugin = find(parts, plugin_id)
    stopped = parts.registry.plugins.move(plugin, State.REVOKED, reason="being uninstalled", at=parts.now())
    void_calls_of(parts, plugin.id, "the plugin was uninstalled")
    parts.pool.kill(lambda job: job.plugin_id == plugin.id, "the plugin was uninstalled")
    await tell(parts, event(parts, caller, "uninstalled", plugin.id, {"reason": reason}))
    await take_grants(parts, caller, plugin.id, parts.registry.grants.live(plugin.id), reason=reason)
    async with parts.editing:
        parts.registry.plugins.forget(stopped)
        parts.registry.consents.forget(plugin.id)
        parts.registry.approvals.forget(plugin.id)
        parts.registry.benchmarks.forget(plugin.id)
        parts.registry.vetting.forget(plugin.id)
        parts.registry.changed_tools.forget(plugin.id)
        parts.bench.forget(plugin.id)
        parts.meter.forget(plugin.id)
        _log.info("plugin %s: uninstalled", plugin.id)
        await refresh_memberships(parts, by=caller.user_id, why=f"{plugin.id} was uninstalled")


async def _take_away(parts: Parts, caller: Caller, plugin_id: str, verb: Verb, event_type: str, reason: str) -> Plugin:
    await authorize(parts, caller, Level.ADMIN, f"plugins/{plugin_id}", key_scope="admin")
    plugin = find(parts, plugin_id)
    # INVARIANT: waits for no edit of the policy and for no record; the new state denies at once.
    moved = move(parts, plugin.id, verb, reason)
    void_calls_of(parts, plugin.id, f"the plugin was {event_type}")
    parts.pool.kill(lambda job: job.plugin_id == plugin.id, f"the plugin was {event_type}")
    await tell(parts, event(parts, caller, event_type, plugin.id, {"reason": reason}))
    async with parts.editing:
        await refresh_memberships(parts, by=caller.user_id, why=f"{plugin.id} was {event_type}")
    return moved


def move(parts: Parts, plugin_id: PluginId, verb: Verb, reason: str) -> Plugin:
    """Move a plugin to the state that a verb leads to.

    Raises:
        IllegalTransitionError: that verb is not possible now.
    """
    # INVARIANT: judged by the state of this very moment; while a record was written it may have become another,
    # and nothing may bring a revoked plugin back.
    plugin = find(parts, plugin_id)
    moved = parts.registry.plugins.move(plugin, check_legal(plugin, verb), reason=reason, at=parts.now())
    _log.info("plugin %s: %s, so it is %s (it was %s)", plugin.id, verb.value, moved.state.value, plugin.state.value)
    return moved


def find(parts: Parts, plugin_id: str) -> Plugin:
    """Find a plugin.

    Raises:
        NotFoundError: there is none of that id.
    """
    plugin = parts.registry.plugins.get(plugin_id)
    if plugin is None:
        raise NotFoundError(f"there is no plugin `{plugin_id[:80]}`")
    return plugin


def check_legal(plugin: Plugin, verb: Verb) -> State:
    """Give the state that a verb leads to.

    Raises:
        IllegalTransitionError: it is not possible in the state that the plugin is in.
    """
    state = after(plugin.state, verb)
    if state is None:
        legal = legal_verbs(plugin.state)
        raise IllegalTransitionError(
            f"`{plugin.id}` is {plugin.state.value}: {verb.value} is not possible",
            way_out=f"what can be done: {', '.join(legal) or 'nothing'}",
            extra={"state": plugin.state.value, "legal": list(legal)},
        )
    return state
