"""To grant without asking: what approval.toml covers is approved by the policy, and recorded as that.

Nothing that a plugin's author says of approval counts, and no plugin becomes active by it: what is approved at its
registration becomes grants when a person approves the plugin.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.domain.caller import Caller
from gateway.domain.decision import timestamp
from gateway.domain.lifecycle import State
from gateway.domain.manifest import RequestedPermission
from gateway.domain.names import PluginId
from gateway.domain.record import Record
from gateway.domain.request import Json
from gateway.errors import ConflictError, HearthgateError, LogUnavailableError
from gateway.flows.event import event
from gateway.flows.grants import Giving, give_grants, resolved
from gateway.flows.memberships import plugin_risk
from gateway.flows.parts import Parts
from gateway.flows.reload_policy import refresh_memberships
from gateway.policy.approval import AutoGrant
from gateway.registry.plugins import Plugin
from gateway.registry.requests import PermissionRequest, RequestState

AUTOMATIC = "automatic"  # the type of a request that the policy itself approved
_BY = "policy"
_ALIVE = frozenset({State.ACTIVE, State.SUSPENDED})  # a person has approved it, and nobody took that back
_log = logging.getLogger("hearthgate.plugins")


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """What is asked for, apart: what the policy approves, each with its entry, and what a person must."""

    covered: tuple[tuple[RequestedPermission, AutoGrant], ...] = ()
    rest: tuple[RequestedPermission, ...] = ()

    @property
    def permissions(self) -> tuple[RequestedPermission, ...]:
        """What the policy approves."""
        return tuple(asked for asked, _ in self.covered)

    @property
    def entries(self) -> str:
        """The entries of approval.toml that do."""
        return "; ".join(dict.fromkeys(str(entry) for _, entry in self.covered))


def split(
    parts: Parts, plugin_id: PluginId, permissions: Sequence[RequestedPermission], *, reviewed_first: bool
) -> Split:
    """Tell what of `permissions` approval.toml grants; nothing where the plugin's code must be reviewed first."""
    policy = parts.policy.get()
    if policy is None or reviewed_first or not policy.approval.autos:
        return Split(rest=tuple(permissions))
    asked = [(each.permission, each.scope) for each in permissions if each.scope is not None]
    tier = plugin_risk(parts, policy, plugin_id, asked=asked).tier
    # SECURITY: a file's scope is granted where its links lead, so there it must be covered, too.
    found = [
        (
            each,
            policy.approval.auto(each, plugin_id=plugin_id, plugin_tier=tier)
            and policy.approval.auto(real, plugin_id=plugin_id, plugin_tier=tier),
        )
        for each, real in zip(permissions, resolved(parts, permissions), strict=True)
    ]
    return Split(
        covered=tuple((each, entry) for each, entry in found if entry is not None),
        rest=tuple(each for each, entry in found if entry is None),
    )


def approved_by_policy(
    parts: Parts, caller: Caller, plugin_id: PluginId, found: Split
) -> tuple[PermissionRequest, Record]:
    """Make the request that the policy approved, and the record of it."""
    at = timestamp(parts.now())
    request = PermissionRequest(
        id=parts.new_id(),
        plugin_id=plugin_id,
        type=AUTOMATIC,
        permissions=found.permissions,
        state=RequestState.APPROVED,
        reason="approval.toml covers them",
        requested_by=caller.user_id,
        requested_at=at,
        decided_by=_BY,
        decided_at=at,
        decision_reason=found.entries,
    )
    given: list[Json] = [each.as_json() for each in found.permissions]
    entries: list[Json] = [*dict.fromkeys(str(entry) for _, entry in found.covered)]
    facts: dict[str, Json] = {"request_id": request.id, "permissions": given, "by": _BY, "entries": entries}
    return request, event(parts, caller, "permission_approved", plugin_id, facts)


def waiting_for_activation(parts: Parts, plugin_id: PluginId) -> tuple[PermissionRequest, ...]:
    """Give what the policy approved at a plugin's present registration."""
    found = parts.registry.requests.find(state=RequestState.APPROVED, plugin_id=plugin_id)
    return tuple(each for each in found if each.type == AUTOMATIC)


def still_covered(parts: Parts, plugin: Plugin, waiting: Sequence[RequestedPermission]) -> list[RequestedPermission]:
    """Give what the policy approved at a registration, to be granted now.

    Raises:
        ConflictError: approval.toml does not cover it any more.
    """
    asked = tuple(each for each in plugin.manifest.permissions if not each.optional)
    covered = split(parts, plugin.id, asked, reviewed_first=False).permissions
    if left := [str(each.permission) for each in waiting if each not in covered]:
        raise ConflictError(
            f"{', '.join(left)}: approval.toml covered this when `{plugin.id}` was registered, and does not any more",
            way_out="register it again: what a person must approve is asked then",
        )
    return [*waiting]


async def grant_now(
    parts: Parts, caller: Caller, plugin_id: PluginId, asked: Sequence[RequestedPermission]
) -> tuple[PermissionRequest | None, tuple[RequestedPermission, ...]]:
    """Grant what the policy approves to a plugin that a person has approved.

    Gives the request that the policy approved, None if it approved none or it could not be granted, and what is left
    for a person.

    Raises:
        LogUnavailableError: it could not be recorded, and is not granted.
    """
    left = tuple(asked)
    if not _covered(parts, plugin_id, left).covered:
        return None, left
    async with parts.editing:
        # SECURITY: judged by what is in force now, for what is asked for at once counts together.
        found, generation = _covered(parts, plugin_id, left), _generation(parts, plugin_id)
        if not found.covered:
            return None, left
        request, record = approved_by_policy(parts, caller, plugin_id, found)

        def noted() -> None:
            # SECURITY: judged again, for while the record was written the plugin may have been taken away.
            if _generation(parts, plugin_id) != generation:
                raise ConflictError(f"`{plugin_id}` was taken away or registered anew meanwhile")
            parts.registry.requests.add(request)

        try:
            await give_grants(
                parts,
                Giving(plugin_id=plugin_id, wanted=found.permissions, reason="granted by approval.toml"),
                caller,
                records=(record,),
                noted=noted,
                undone=lambda: parts.registry.requests.drop(request),
            )
        except LogUnavailableError:
            raise
        except HearthgateError as error:
            _log.warning("what approval.toml grants %s could not be granted, a person is asked: %s", plugin_id, error)
            return None, left
        await refresh_memberships(parts, by=caller.user_id, why=f"{plugin_id} was granted more")
        return request, found.rest


def _covered(parts: Parts, plugin_id: PluginId, asked: Sequence[RequestedPermission]) -> Split:
    plugin = parts.registry.plugins.get(plugin_id)
    if plugin is None or plugin.state not in _ALIVE:
        return Split(rest=tuple(asked))
    return split(parts, plugin_id, asked, reviewed_first=plugin.manifest.code_review_required)


def _generation(parts: Parts, plugin_id: PluginId) -> int | None:
    plugin = parts.registry.plugins.get(plugin_id)
    return None if plugin is None or plugin.state not in _ALIVE else plugin.generation
