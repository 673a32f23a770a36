"""To approve a plugin: what it asked for becomes grants, and it becomes active."""

import logging
from collections.abc import Sequence
from dataclasses import replace

from gateway.domain.caller import Caller
from gateway.domain.lifecycle import State, Verb
from gateway.domain.manifest import RequestedPermission
from gateway.domain.names import PluginId, same_person
from gateway.domain.permission import Kind, Level, Permission
from gateway.domain.record import Record
from gateway.domain.request import Json
from gateway.errors import ConflictError, DeniedError
from gateway.flows.authorize import authorize
from gateway.flows.automatic import still_covered, waiting_for_activation
from gateway.flows.dependencies import check_dependencies
from gateway.flows.event import event
from gateway.flows.gates import check_gates, prepare_gates
from gateway.flows.grants import Giving, give_grants
from gateway.flows.lifecycle import check_legal, find, move
from gateway.flows.parts import Parts
from gateway.flows.reload_policy import refresh_memberships
from gateway.registry.plugins import Plugin
from gateway.registry.requests import PermissionRequest, RequestState

_log = logging.getLogger("hearthgate.plugins")


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
    # WHY: before others are held up, for a scan takes seconds.
    await prepare_gates(parts, caller, find(parts, plugin_id))
    async with parts.editing:
        plugin = find(parts, plugin_id)
        check_legal(plugin, Verb.APPROVE)
        check_gates(parts, plugin, plugin.digest)
        check_dependencies(parts, plugin.manifest)
        pending = parts.registry.requests.find(state=RequestState.PENDING, plugin_id=plugin.id)
        if given is not None:
            pending = tuple(each for each in pending if each.type == "register")
        if answered is not None and answered not in pending:
            # SECURITY: a person approves what they looked at; by now other code may stand behind the same id.
            raise ConflictError(f"`{plugin.id}` was registered anew meanwhile", way_out="look at its new request")
        wanted = [each for request in pending for each in request.permissions] if given is None else list(given)
        # WHY: what the policy approved at registration is granted with the rest, and was never a person's to answer.
        waiting = [asked for request in waiting_for_activation(parts, plugin.id) for asked in request.permissions]
        wanted += still_covered(parts, plugin, waiting)
        check_four_eyes(parts, caller, plugin.registered_by, wanted)
        for request in pending:
            # SECURITY: each by who asked for it; another may have registered the plugin. What is left out needs nobody.
            check_four_eyes(parts, caller, request.requested_by, request.permissions if given is None else given)
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
                        parts, caller, each if given is None else replace(each, permissions=tuple(given)), reason
                    )
                    for each in pending
                ),
            ),
            noted=lambda: _note_approved(parts, caller, plugin.id, pending, reason, given),
            undone=lambda: _undo_approved(parts, plugin.id, pending),
        )
        active = move(parts, plugin.id, Verb.ACTIVATE, reason)
        await refresh_memberships(parts, by=caller.user_id, why=f"{plugin.id} became active")
        return active


def check_four_eyes(parts: Parts, caller: Caller, asked_by: str, wanted: Sequence[RequestedPermission]) -> None:
    """Refuse an approval that needs a second person.

    Raises:
        DeniedError: approval.toml wants two people, and the caller is the one who asked.
    """
    policy = parts.policy.get()
    needs = [str(each.permission) for each in wanted if policy is None or policy.approval.four_eyes(each.permission)]
    if needs and same_person(caller.user_id, asked_by):
        raise DeniedError(
            f"{', '.join(sorted(set(needs)))}: a second person must approve what `{asked_by}` asked for",
            way_out="another user with a key of scope approve can; approval.toml says what needs two",
            extra={"reason": "four_eyes"},
        )


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


def _to_run(plugin_id: PluginId) -> RequestedPermission:
    """Give what activation itself grants: to be executed."""
    return RequestedPermission(
        permission=Permission(Kind.PLUGIN, Level.EXECUTE), scope=plugin_id, condition="-", purpose="given by activation"
    )


def _note_approved(
    parts: Parts,
    caller: Caller,
    plugin_id: PluginId,
    pending: Sequence[PermissionRequest],
    reason: str,
    given: Sequence[RequestedPermission] | None,
) -> None:
    move(parts, plugin_id, Verb.APPROVE, reason)
    by, at = caller.user_id, parts.now()
    parts.registry.requests.decide(pending, RequestState.APPROVED, by=by, at=at, reason=reason, given=given)


def _undo_approved(parts: Parts, plugin_id: PluginId, pending: Sequence[PermissionRequest]) -> None:
    plugin = parts.registry.plugins.get(plugin_id)
    if plugin is not None and plugin.state is State.APPROVED:
        parts.registry.plugins.move(plugin, State.REGISTERED, reason="its approval was undone", at=parts.now())
        _log.warning("plugin %s: its approval could not be finished and was undone: approve it again", plugin.id)
        parts.registry.requests.reopen(pending)
