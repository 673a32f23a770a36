"""To register a plugin: its manifest is read, its code kept, and what it asks for waits for a person."""

import asyncio
import logging

from gateway.domain.caller import Caller
from gateway.domain.decision import timestamp
from gateway.domain.lifecycle import State, legal_verbs
from gateway.domain.manifest import Manifest
from gateway.domain.names import PluginId, parse_plugin_id
from gateway.domain.permission import Level
from gateway.domain.reloading import reload_wish
from gateway.domain.request import Json
from gateway.errors import ConflictError, MalformedError, NotFoundError
from gateway.flows.adopt_code import check_kept, read_code
from gateway.flows.authorize import authorize
from gateway.flows.automatic import approved_by_policy, split, waiting_for_activation
from gateway.flows.cool_down import check_cool_down
from gateway.flows.dependencies import check_no_circle
from gateway.flows.event import event, waiting
from gateway.flows.gates import check_sandbox_wish
from gateway.flows.inspection import check_functions
from gateway.flows.parts import Parts
from gateway.flows.plugin_risk import assessed, requested_risk
from gateway.flows.void_calls import void_calls_of
from gateway.registry.manifest import parse_manifest
from gateway.registry.plugins import Plugin
from gateway.registry.requests import PermissionRequest, RequestState
from gateway.registry.watched import check_watch_paths

_log = logging.getLogger("hearthgate.plugins")


async def register(parts: Parts, caller: Caller, raw: Json) -> Plugin:
    """Register a plugin by its manifest, or by the name of its folder (`{"folder": id}`).

    Raises:
        MalformedError: the manifest, or the folder, has problems.
        DeniedError: the caller may not.
        ConflictError: there is such a plugin already, its folder says something else, or a person denied what it asks
            for a short while ago.
    """
    plugin_id = _named(raw)
    await authorize(parts, caller, Level.ADMIN, f"plugins/{plugin_id}", key_scope="admin")
    async with parts.editing:
        manifest, digest = await _manifest_and_code(parts, plugin_id, raw)
        before = parts.registry.plugins.get(manifest.plugin_id)
        _check_registrable(caller, before)
        risk = requested_risk(parts, manifest)
        asked_for = tuple(each for each in manifest.permissions if not each.optional)
        check_cool_down(parts, manifest.plugin_id, asked_for)
        found = split(parts, manifest.plugin_id, asked_for, reviewed_first=manifest.code_review_required)
        by_policy = approved_by_policy(parts, caller, manifest.plugin_id, found) if found.covered else None
        request = PermissionRequest(
            id=parts.new_id(),
            plugin_id=manifest.plugin_id,
            type="register",
            permissions=found.rest,
            state=RequestState.PENDING,
            reason="its manifest asks for them",
            requested_by=caller.user_id,
            requested_at=timestamp(parts.now()),
        )
        asked: list[Json] = [each.as_json() for each in asked_for]
        facts: dict[str, Json] = {"version": manifest.version, "digest": digest, "sandbox": manifest.sandbox}
        await parts.log.append(
            event(parts, caller, "registered" if before is None else "updated", manifest.plugin_id, facts),
            event(
                parts,
                caller,
                "risk_assessment",
                manifest.plugin_id,
                assessed(manifest, risk),
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
            *(() if by_policy is None else (by_policy[1],)),
        )
        # INVARIANT: judged again, for while the records were written the plugin may have been revoked.
        _check_registrable(caller, parts.registry.plugins.get(manifest.plugin_id))
        check_kept(parts, digest)
        if before is not None:
            superseded = parts.registry.requests.find(state=RequestState.PENDING, plugin_id=manifest.plugin_id)
            parts.registry.requests.decide(
                (*superseded, *waiting_for_activation(parts, manifest.plugin_id)),
                RequestState.EXPIRED,
                by=caller.user_id,
                at=parts.now(),
                reason="registered anew",
            )
            # SECURITY: who consented knew another manifest and other code under this id.
            parts.registry.consents.end_all(before.id, at=parts.now(), reason="the plugin was registered anew")
        # SECURITY: also where it is new here, for calls of an id that nobody has may have been asked about.
        void_calls_of(parts, manifest.plugin_id, "the plugin was registered anew")
        if by_policy is not None:
            parts.registry.requests.add(by_policy[0])
        parts.registry.requests.add(request)
        made = parts.registry.plugins.register(manifest, digest=digest, by=caller.user_id, at=parts.now())
        _log.info("plugin %s: registered as generation %d, digest %s", made.id, made.generation, digest or "none yet")
        return made


def _named(raw: Json) -> PluginId:
    if not isinstance(raw, dict):
        raise MalformedError("a manifest is a JSON object")
    name = raw.get("folder") if set(raw) == {"folder"} else raw.get("plugin_id")
    try:
        if isinstance(name, str):
            return parse_plugin_id(name)
    except MalformedError:
        if "plugin_id" not in raw:
            raise
    if "plugin_id" in raw:
        # WHY: told with all else that is wrong, so that nobody mends a manifest one word at a time.
        parse_manifest(raw)
    raise MalformedError("plugin_id: text is needed", way_out='send a manifest, or {"folder": "<id>"}')


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
    await asyncio.to_thread(check_watch_paths, parts.home / "plugins" / plugin_id, reload_wish(manifest).watch_paths)
    check_sandbox_wish(parts, manifest)
    check_no_circle(parts, manifest)
    await check_functions(parts, manifest, code.digest)
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
