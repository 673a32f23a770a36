"""The life of a plugin: register, approve, suspend, resume, revoke, uninstall.

Where something is given the record comes before the change; where something is taken away nothing comes before it.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from gateway.domain.caller import Caller
from gateway.domain.decision import timestamp
from gateway.domain.lifecycle import State, Verb, after, legal_verbs
from gateway.domain.manifest import Manifest, RequestedPermission
from gateway.domain.names import PluginId, parse_plugin_id
from gateway.domain.permission import Kind, Level, Permission
from gateway.domain.record import Record
from gateway.domain.request import Json
from gateway.errors import ConflictError, DeniedError, IllegalTransitionError, MalformedError, NotFoundError
from gateway.flows.adopt_code import read_code
from gateway.flows.authorize import authorize
from gateway.flows.event import event, waiting
from gateway.flows.grants import Giving, give_grants, take_grants
from gateway.flows.memberships import plugin_risk
from gateway.flows.parts import Parts
from gateway.flows.reload_policy import refresh_memberships
from gateway.flows.tell import tell
from gateway.registry.manifest import parse_manifest
from gateway.registry.plugins import Plugin
from gateway.registry.requests import PermissionRequest, RequestState

_log = logging.getLogger("hearthgate.plugins")


async def register(parts: Parts, caller: Caller, raw: Json) -> Plugin:
    """Register a plugin by its manifest, or by the name of its folder (`{"folder": id}`).

    Raises:
        MalformedError: the manifest, or the folder, has problems.
        DeniedError: the caller may not.
        ConflictError: there is such a plugin already, or its folder says something else.
    """
    plugin_id = _named(raw)
    await authorize(parts, caller, Level.ADMIN, f"plugins/{plugin_id}", key_scope="admin")
    async with parts.editing:
        manifest, digest = await _manifest_and_code(parts, plugin_id, raw)
        before = parts.registry.plugins.get(manifest.plugin_id)
        _check_registrable(caller, before)
        risk = _requested_risk(parts, manifest)
        request = PermissionRequest(
            id=parts.new_id(),
            plugin_id=manifest.plugin_id,
            type="register",
            permissions=tuple(each for each in manifest.permissions if not each.optional),
            state=RequestState.PENDING,
            reason="its manifest asks for them",
            requested_by=caller.user_id,
            requested_at=_stamp(parts),
        )
        asked: list[Json] = [each.as_json() for each in request.permissions]
        facts: dict[str, Json] = {"version": manifest.version, "digest": digest}
        await parts.log.append(
            event(parts, caller, "registered" if before is None else "updated", manifest.plugin_id, facts),
            event(
                parts,
                caller,
                "risk_assessment",
                manifest.plugin_id,
                {"declared": manifest.declared_tier.value, "computed": risk["tier"], "score": risk["score"]},
            ),
            waiting(
                event(
                    parts,
                    caller,
                    "permission_requested",
                    manifest.plugin_id,
                    {"request_id": request.id, "permissions": asked},
                )
            ),
        )
        # INVARIANT: judged again, for while the records were written the plugin may have been revoked.
        _check_registrable(caller, parts.registry.plugins.get(manifest.plugin_id))
        if before is not None:
            superseded = parts.registry.requests.find(state=RequestState.PENDING, plugin_id=manifest.plugin_id)
            parts.registry.requests.decide(
                superseded, RequestState.EXPIRED, by=caller.user_id, at=parts.now(), reason="registered anew"
            )
            # SECURITY: who consented knew another manifest and other code under this id.
            parts.registry.consents.end_all(before.id, at=parts.now(), reason="the plugin was registered anew")
        parts.registry.requests.add(request)
        made = parts.registry.plugins.register(manifest, digest=digest, by=caller.user_id, at=parts.now())
        _log.info("plugin %s: registered as generation %d, digest %s", made.id, made.generation, digest or "none yet")
        return made


async def approve(
    parts: Parts,
    caller: Caller,
    plugin_id: str,
    reason: str,
    *,
    answered: PermissionRequest | None = None,
    given: Sequence[RequestedPermission] | None = None,
) -> Plugin:
    """Approve a plugin: its requests, or what is `given` for the one `answered`, become grants, and it becomes active.

    Raises:
        ConflictError: the plugin was registered anew since that request was looked at.
        DeniedError: the caller may not, or a second person is needed.
        IllegalTransitionError: it is not waiting for an approval.
        PolicyBrokenError: the policy files have errors, so no grant can be added.
    """
    await authorize(parts, caller, Level.ADMIN, f"plugins/{plugin_id}", key_scope="approve")
    async with parts.editing:
        plugin = find(parts, plugin_id)
        _check(plugin, Verb.APPROVE)
        pending = parts.registry.requests.find(state=RequestState.PENDING, plugin_id=plugin.id)
        if given is not None:
            pending = tuple(each for each in pending if each.type == "register")
        if answered is not None and answered not in pending:
            # SECURITY: a person approves what they looked at; by now other code may stand behind the same id.
            raise ConflictError(f"`{plugin.id}` was registered anew meanwhile", way_out="look at its new request")
        wanted = [each for request in pending for each in request.permissions] if given is None else list(given)
        check_four_eyes(parts, caller, plugin.registered_by, wanted)
        for request in pending:
            # SECURITY: each by who asked for it; another may have registered the plugin.
            check_four_eyes(parts, caller, request.requested_by, request.permissions)
        await give_grants(
            parts,
            Giving(
                plugin_id=plugin.id,
                wanted=[_to_run(plugin.id), *wanted],
                reason=reason,
                joining=True,
                in_force=lambda given: [
                    event(parts, caller, "activated", plugin.id, {"grants": [grant.id for grant in given]})
                ],
            ),
            caller,
            records=(
                event(parts, caller, "approved", plugin.id, {"reason": reason, "digest": plugin.digest}),
                *(
                    approval_event(
                        parts, caller, each if given is None else replace(each, permissions=tuple(wanted)), reason
                    )
                    for each in pending
                ),
            ),
            noted=lambda: _note_approved(parts, caller, plugin.id, pending, reason),
            undone=lambda: _undo_approved(parts, plugin.id, pending),
        )
        active = _move(parts, plugin.id, Verb.ACTIVATE, reason)
        await refresh_memberships(parts, by=caller.user_id, why=f"{plugin.id} became active")
        return active


def _to_run(plugin_id: PluginId) -> RequestedPermission:
    """Give what activation itself grants: to be executed."""
    return RequestedPermission(
        permission=Permission(Kind.PLUGIN, Level.EXECUTE), scope=plugin_id, condition="-", purpose="given by activation"
    )


def _note_approved(
    parts: Parts, caller: Caller, plugin_id: PluginId, pending: Sequence[PermissionRequest], reason: str
) -> None:
    _move(parts, plugin_id, Verb.APPROVE, reason)
    parts.registry.requests.decide(pending, RequestState.APPROVED, by=caller.user_id, at=parts.now(), reason=reason)


def _undo_approved(parts: Parts, plugin_id: PluginId, pending: Sequence[PermissionRequest]) -> None:
    plugin = parts.registry.plugins.get(plugin_id)
    if plugin is not None and plugin.state is State.APPROVED:
        parts.registry.plugins.move(plugin, State.REGISTERED, reason="its approval was undone", at=parts.now())
        _log.warning("plugin %s: its approval could not be finished and was undone: approve it again", plugin.id)
        parts.registry.requests.reopen(pending)


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
        _check(plugin, Verb.RESUME)
        await parts.log.append(event(parts, caller, "activated", plugin.id, {"reason": reason, "from": "suspended"}))
        resumed = _move(parts, plugin.id, Verb.RESUME, reason)
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
    parts.pool.kill(lambda job: job.plugin_id == plugin.id, "the plugin was uninstalled")
    await tell(parts, event(parts, caller, "uninstalled", plugin.id, {"reason": reason}))
    await take_grants(parts, caller, plugin.id, parts.registry.grants.live(plugin.id), reason=reason)
    async with parts.editing:
        parts.registry.plugins.forget(stopped)
        parts.registry.consents.forget(plugin.id)
        parts.registry.benchmarks.forget(plugin.id)
        parts.bench.forget(plugin.id)
        _log.info("plugin %s: uninstalled", plugin.id)
        await refresh_memberships(parts, by=caller.user_id, why=f"{plugin.id} was uninstalled")


async def _take_away(parts: Parts, caller: Caller, plugin_id: str, verb: Verb, event_type: str, reason: str) -> Plugin:
    await authorize(parts, caller, Level.ADMIN, f"plugins/{plugin_id}", key_scope="admin")
    plugin = find(parts, plugin_id)
    # INVARIANT: waits for no edit of the policy and for no record; the new state denies at once.
    moved = _move(parts, plugin.id, verb, reason)
    parts.pool.kill(lambda job: job.plugin_id == plugin.id, f"the plugin was {event_type}")
    await tell(parts, event(parts, caller, event_type, plugin.id, {"reason": reason}))
    async with parts.editing:
        await refresh_memberships(parts, by=caller.user_id, why=f"{plugin.id} was {event_type}")
    return moved


def _move(parts: Parts, plugin_id: PluginId, verb: Verb, reason: str) -> Plugin:
    # INVARIANT: judged by the state of this very moment; while a record was written it may have become another,
    # and nothing may bring a revoked plugin back.
    plugin = find(parts, plugin_id)
    moved = parts.registry.plugins.move(plugin, _check(plugin, verb), reason=reason, at=parts.now())
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


def approval_event(parts: Parts, caller: Caller, request: PermissionRequest, reason: str) -> Record:
    """Make the record of an approved request."""
    given: list[Json] = [each.as_json() for each in request.permissions if each.scope is not None]
    left: list[Json] = [str(each.permission) for each in request.permissions if each.scope is None]
    return event(
        parts,
        caller,
        "permission_approved",
        request.plugin_id,
        {"request_id": request.id, "permissions": given, "without_scope": left, "reason": reason},
    )


def check_four_eyes(parts: Parts, caller: Caller, asked_by: str, wanted: Sequence[RequestedPermission]) -> None:
    """Refuse an approval that needs a second person.

    Raises:
        DeniedError: approval.toml wants two people, and the caller is the one who asked.
    """
    policy = parts.policy.get()
    needs = [str(each.permission) for each in wanted if policy is None or policy.approval.four_eyes(each.permission)]
    if needs and caller.user_id == asked_by:
        raise DeniedError(
            f"{', '.join(sorted(set(needs)))}: a second person must approve what `{asked_by}` asked for",
            way_out="another user with a key of scope approve can; approval.toml says what needs two",
            extra={"reason": "four_eyes"},
        )


def _named(raw: Json) -> PluginId:
    if not isinstance(raw, dict):
        raise MalformedError("a manifest is a JSON object")
    name = raw.get("folder") if set(raw) == {"folder"} else raw.get("plugin_id")
    if not isinstance(name, str):
        raise MalformedError("plugin_id: text is needed", way_out='send a manifest, or {"folder": "<id>"}')
    return parse_plugin_id(name)


async def _manifest_and_code(parts: Parts, plugin_id: PluginId, raw: Json) -> tuple[Manifest, str | None]:
    by_folder = isinstance(raw, dict) and set(raw) == {"folder"}
    code = await read_code(parts, plugin_id)
    if by_folder and code.manifest is None:
        raise NotFoundError(f"plugins/{plugin_id}/ has no manifest.json", way_out="put one there, or send the manifest")
    manifest = parse_manifest(code.manifest if by_folder else raw)
    if manifest.plugin_id != plugin_id:
        raise MalformedError(f"the manifest in plugins/{plugin_id}/ is of `{manifest.plugin_id}`")
    if not by_folder and code.manifest is not None and code.manifest != raw:
        raise ConflictError(
            f"plugins/{plugin_id}/manifest.json is not the manifest that was sent",
            way_out='register the folder ({"folder": id}), or make them the same',
        )
    if not manifest.sandbox:
        raise MalformedError("sandbox: this gateway runs no plugin without its sandbox", way_out="remove it, or true")
    return manifest, code.digest


def _check_registrable(caller: Caller, before: Plugin | None) -> None:
    if before is None or before.state is State.REGISTERED:
        return
    if before.state is State.REVOKED and caller.owner:
        return
    raise ConflictError(
        f"`{before.id}` is {before.state.value} already",
        way_out="the owner can register it again" if before.state is State.REVOKED else "uninstall it first",
        extra={"state": before.state.value, "legal": list(legal_verbs(before.state))},
    )


def _requested_risk(parts: Parts, manifest: Manifest) -> Mapping[str, Json]:
    policy = parts.policy.get()
    if policy is None:
        return {"score": 100, "tier": "critical"}
    asked = [(each.permission, each.scope) for each in manifest.permissions if each.scope is not None]
    risk = plugin_risk(parts, policy.parsed, manifest.plugin_id, asked=asked)
    return {"score": risk.score, "tier": risk.tier.value}


def _check(plugin: Plugin, verb: Verb) -> State:
    state = after(plugin.state, verb)
    if state is None:
        legal = legal_verbs(plugin.state)
        raise IllegalTransitionError(
            f"`{plugin.id}` is {plugin.state.value}: {verb.value} is not possible",
            way_out=f"what can be done: {', '.join(legal) or 'nothing'}",
            extra={"state": plugin.state.value, "legal": list(legal)},
        )
    return state


def _stamp(parts: Parts) -> str:
    return timestamp(parts.now())
