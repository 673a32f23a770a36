"""Permissions beyond the manifest's first ones: asked for, approved, denied, taken back, listed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from msgspec import structs

from gateway.domain.caller import Caller
from gateway.domain.decision import Effect, timestamp
from gateway.domain.grant import Grant
from gateway.domain.lifecycle import State
from gateway.domain.manifest import RequestedPermission
from gateway.domain.names import plugin_subject
from gateway.domain.permission import Kind, Level, Permission, includes
from gateway.domain.record import Resolution
from gateway.domain.request import Json
from gateway.errors import ConflictError, IllegalTransitionError, NotFoundError
from gateway.flows.approval import approval_event, approve, check_four_eyes
from gateway.flows.approve_update import approve_update
from gateway.flows.authorize import authorize
from gateway.flows.automatic import grant_now
from gateway.flows.cool_down import check_cool_down
from gateway.flows.event import event, waiting
from gateway.flows.grants import Giving, give_grants, take_grants
from gateway.flows.lifecycle import find
from gateway.flows.parts import Parts
from gateway.flows.reload_policy import refresh_memberships
from gateway.registry.plugins import Plugin
from gateway.registry.requests import PermissionRequest, RequestState


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Permissions that somebody asks for on behalf of a plugin."""

    plugin_id: str
    permissions: tuple[RequestedPermission, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A yes to a request: `chosen` are permissions with their scopes, None for all; `until` ends what is granted."""

    reason: str
    chosen: tuple[tuple[str, str | None], ...] | None = None
    until: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it answers all that was asked, for good."""
        return self.chosen is None and self.until is None


async def request_permissions(parts: Parts, caller: Caller, wanted: Wanted) -> PermissionRequest:
    """Put permissions for a plugin into the approval queue; what approval.toml covers is granted at once.

    Gives the request that waits, or, where all is granted, the one that the policy approved.

    Raises:
        DeniedError: the caller may not.
        IllegalTransitionError: the plugin is revoked.
        ConflictError: a person denied the same a short while ago.
    """
    await authorize(parts, caller, Level.ADMIN, f"plugins/{wanted.plugin_id}", key_scope="admin")
    plugin = _not_revoked(parts, wanted.plugin_id)
    check_cool_down(parts, plugin.id, wanted.permissions)
    granted, permissions = await grant_now(parts, caller, plugin.id, wanted.permissions)
    if granted is not None and not permissions:
        return granted
    request = PermissionRequest(
        id=parts.new_id(),
        plugin_id=plugin.id,
        type="more",
        permissions=permissions,
        state=RequestState.PENDING,
        reason=wanted.reason,
        requested_by=caller.user_id,
        requested_at=timestamp(parts.now()),
    )
    asked: list[Json] = [each.as_json() for each in request.permissions]
    await parts.log.append(
        waiting(
            event(
                parts,
                caller,
                "permission_requested",
                plugin.id,
                {"request_id": request.id, "permissions": asked, "reason": wanted.reason},
            )
        )
    )
    # INVARIANT: judged again, for while the record was written the plugin may have been taken away.
    if _not_revoked(parts, plugin.id).generation != plugin.generation:
        raise ConflictError(f"`{plugin.id}` was registered anew meanwhile", way_out="ask again")
    parts.registry.requests.add(request)
    return request


async def approve_request(parts: Parts, caller: Caller, request_id: str, answer: Answer) -> PermissionRequest:
    """Approve a request: whole, a part of it, or for a time.

    Raises:
        DeniedError: the caller may not, or a second person is needed.
        ConflictError: it was answered already, or what was chosen was not asked for.
        PolicyBrokenError: the policy files have errors, so no grant can be added.
    """
    request = await _answerable(parts, caller, request_id)
    if request.held_back is not None:
        await approve_update(parts, caller, request, answer.reason, is_whole=answer.is_whole)
        return parts.registry.requests.get(request_id) or request
    plugin = find(parts, request.plugin_id)
    given = _given(request, answer)
    if plugin.state is State.REGISTERED and request.type == "register":
        await approve(parts, caller, plugin.id, answer.reason, answered=request, given=given)
        return parts.registry.requests.get(request_id) or request
    async with parts.editing:
        request = _pending(parts, request_id)
        _not_revoked(parts, request.plugin_id)
        check_four_eyes(parts, caller, request.requested_by, given)
        await give_grants(
            parts,
            Giving(plugin_id=plugin.id, wanted=given, reason=answer.reason),
            caller,
            records=(approval_event(parts, caller, replace(request, permissions=given), answer.reason),),
            noted=lambda: _note(parts, caller, request, RequestState.APPROVED, answer.reason, given),
            undone=lambda: parts.registry.requests.reopen([request]),
        )
        await refresh_memberships(parts, by=caller.user_id, why=f"{plugin.id} was granted more")
    return parts.registry.requests.get(request_id) or request


async def deny_request(parts: Parts, caller: Caller, request_id: str, reason: str) -> PermissionRequest:
    """Deny a request.

    Raises:
        DeniedError: the caller may not.
        ConflictError: it was answered already.
    """
    request = await _answerable(parts, caller, request_id)
    await parts.log.append(
        structs.replace(
            event(parts, caller, "permission_denied", request.plugin_id, {"request_id": request.id, "reason": reason}),
            resolution=Resolution.DENIED,
        )
    )
    _note(parts, caller, _pending(parts, request_id), RequestState.DENIED, reason)
    return parts.registry.requests.get(request_id) or request


async def revoke_permissions(
    parts: Parts, caller: Caller, plugin_id: str, permission: Permission | None, scope: str | None, reason: str
) -> tuple[Grant, ...]:
    """Take back one grant, or all, of a plugin; what runs of it is killed.

    With a permission go the higher ones of its kind, for each of them includes it; but what activation itself gave,
    to be executed, goes only by its own name, or with all.

    Raises:
        DeniedError: the caller may not.
        NotFoundError: it holds no such grant.
    """
    await authorize(parts, caller, Level.ADMIN, f"plugins/{plugin_id}", key_scope="admin")
    plugin = find(parts, plugin_id)
    taken = tuple(
        grant
        for grant in parts.registry.grants.live(plugin.id)
        if (permission is None or _goes_with(grant, permission)) and (scope is None or grant.scope == scope)
    )
    if not taken:
        raise NotFoundError(f"`{plugin.id}` holds no such grant")
    await take_grants(parts, caller, plugin.id, taken, reason=reason)
    async with parts.editing:
        await refresh_memberships(parts, by=caller.user_id, why=f"grants of {plugin.id} were revoked")
    return taken


def _goes_with(grant: Grant, permission: Permission) -> bool:
    of_activation = grant.permission == Permission(Kind.PLUGIN, Level.EXECUTE) and grant.scope == grant.plugin_id
    return grant.permission == permission if of_activation else includes(grant.permission, permission)


def grants_in_force(parts: Parts, plugin_id: str | None = None) -> list[dict[str, Json]]:
    """Give what is granted now, read from the policy in force."""
    policy = parts.policy.get()
    if policy is None:
        return []
    held = parts.registry.holds
    return [
        {
            "id": rule.id,
            "plugin_id": rule.subject.removeprefix("plugin:"),
            "permission": f"{rule.kind}_{rule.level}",
            "level": rule.level,
            "scope": rule.scope,
            "condition": rule.fields[5],
            "why": rule.why,
            "file": rule.file,
            "line": rule.line,
            "granted": rule.is_grant,
        }
        for rule in policy.rules
        if rule.effect is Effect.ALLOW
        and rule.subject.startswith("plugin:")
        and (plugin_id is None or rule.subject == plugin_subject(find(parts, plugin_id).id))
        and rule.id not in held.held_grants(rule.subject.removeprefix("plugin:"))
    ]


async def _answerable(parts: Parts, caller: Caller, request_id: str) -> PermissionRequest:
    request = parts.registry.requests.get(request_id)
    # SECURITY: asked before it is told whether the request exists.
    scope = f"plugins/{request.plugin_id}" if request is not None else "plugins"
    await authorize(parts, caller, Level.ADMIN, scope, key_scope="approve")
    return _pending(parts, request_id)


def _pending(parts: Parts, request_id: str) -> PermissionRequest:
    request = parts.registry.requests.get(request_id)
    if request is None:
        raise NotFoundError(f"there is no request `{request_id[:80]}`")
    if request.state is not RequestState.PENDING:
        raise ConflictError(f"the request is {request.state.value} already", extra={"state": request.state.value})
    return request


def _note(
    parts: Parts,
    caller: Caller,
    request: PermissionRequest,
    state: RequestState,
    reason: str,
    given: Sequence[RequestedPermission] | None = None,
) -> None:
    current = _pending(parts, request.id)
    if state is RequestState.APPROVED:
        # SECURITY: taking away waits for nobody, so the plugin may have been revoked since the approval began.
        _not_revoked(parts, current.plugin_id)
    parts.registry.requests.decide([current], state, by=caller.user_id, at=parts.now(), reason=reason, given=given)


def _not_revoked(parts: Parts, plugin_id: str) -> Plugin:
    plugin = find(parts, plugin_id)
    if plugin.state is State.REVOKED:
        raise IllegalTransitionError(f"`{plugin.id}` is revoked", extra={"state": "revoked", "legal": ["uninstall"]})
    return plugin


def _given(request: PermissionRequest, answer: Answer) -> tuple[RequestedPermission, ...]:
    # SECURITY: what was asked is granted, with its conditions; an answer can leave out and end, never loosen.
    given = request.permissions if answer.chosen is None else _chosen(request, answer.chosen)
    if answer.until is None:
        return given
    end = f"until({answer.until})"
    return tuple(
        replace(each, condition=end if each.condition == "-" else f"{each.condition}; {end}") for each in given
    )


def _chosen(request: PermissionRequest, chosen: Sequence[tuple[str, str | None]]) -> tuple[RequestedPermission, ...]:
    found: list[RequestedPermission] = []
    for name, scope in chosen:
        matching = [
            each for each in request.permissions if str(each.permission) == name and scope in {None, each.scope}
        ]
        if not matching:
            raise ConflictError(
                f"`{name[:80]}` on `{scope or 'any scope'}`: not what was asked for",
                way_out="choose among the request's permissions",
            )
        found += [each for each in matching if each not in found]
    if not found:
        raise ConflictError("nothing was chosen", way_out="deny the request instead")
    return tuple(found)
