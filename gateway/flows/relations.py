"""What comes with permissions, and what they lack: told to who approves, so that nobody grants more than they see."""

from collections.abc import Sequence

from gateway.domain.manifest import RequestedPermission
from gateway.domain.permission import Permission, included, includes
from gateway.domain.request import Json
from gateway.domain.scope import covers_pattern
from gateway.flows.parts import Parts
from gateway.registry.requests import PermissionRequest, RequestState


def request_json(parts: Parts, request: PermissionRequest) -> dict[str, Json]:
    """Give the wire shape of a request, with what each permission includes and what the plugin's capabilities need."""
    asked = request.permissions
    permissions: list[Json] = [{**each.as_json(), **_relations(each, asked)} for each in asked]
    return {**request.as_json(), "permissions": permissions, "requires": _requires(parts, request)}


def _relations(one: RequestedPermission, asked: Sequence[RequestedPermission]) -> dict[str, Json]:
    comes_with: list[Json] = [str(each) for each in included(one.permission)]
    by: list[Json] = [
        f"{each.permission} {each.scope}"
        for each in asked
        if each.permission != one.permission and _gives(each, one.permission, one.scope)
    ]
    return {"includes": comes_with, "implied_by": by}


def _requires(parts: Parts, request: PermissionRequest) -> list[Json]:
    """Tell what the capabilities need for each call, and whether the request, or a grant, gives it."""
    plugin = parts.registry.plugins.get(request.plugin_id)
    if plugin is None or request.state is not RequestState.PENDING:
        return []
    held = [(grant.permission, grant.scope) for grant in parts.registry.grants.live(plugin.id)]
    by_policy = parts.registry.requests.find(state=RequestState.APPROVED, plugin_id=plugin.id)
    asked = [*request.permissions, *(each for other in by_policy for each in other.permissions)]
    return [
        {
            "capability": capability.name,
            "permission": str(permission),
            "scope": scope,
            "given": any(_gives(each, permission, scope) for each in asked)
            or any(includes(own, permission) and covers_pattern(where, scope) for own, where in held),
        }
        for capability in plugin.manifest.capabilities
        for permission, scope in capability.requires
    ]


def _gives(one: RequestedPermission, permission: Permission, scope: str | None) -> bool:
    return (
        includes(one.permission, permission)
        and one.scope is not None
        and scope is not None
        and covers_pattern(one.scope, scope)
    )
