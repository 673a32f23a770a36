"""To import grants: what an export holds and this home lacks is granted, all of it or nothing.

An import is a person's approval like any other. It never takes anything away: what is granted here and not in the
file is told, and stays.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.domain.caller import Caller
from gateway.domain.lifecycle import State
from gateway.domain.manifest import RequestedPermission
from gateway.domain.names import PluginId, parse_plugin_id
from gateway.domain.permission import Level, parse_permission
from gateway.domain.request import Json
from gateway.domain.scope import canonical_pattern
from gateway.errors import ConflictError, MalformedError, Place, Problem
from gateway.flows.authorize import authorize
from gateway.flows.event import event
from gateway.flows.grants import Giving, give_grants
from gateway.flows.parts import Parts
from gateway.flows.permissions import grants_in_force
from gateway.flows.reload_policy import refresh_memberships
from gateway.policy.engine import PolicySet
from gateway.policy.terms import parse_condition

_GRANTABLE = frozenset({State.ACTIVE, State.SUSPENDED})
_NOT_IN_A_FIELD = frozenset(',"#')
Key = tuple[str, str, str, str]  # plugin, permission, scope, condition


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """One grant of an export, as it was sent."""

    plugin_id: str
    permission: str
    scope: str
    condition: str
    why: str
    granted: bool  # False: a rule that a person wrote, which is told and not granted

    @property
    def key(self) -> Key:
        """What makes it the same grant in another home."""
        return (self.plugin_id, self.permission, self.scope, self.condition)

    def as_json(self) -> dict[str, Json]:
        """Give the wire shape."""
        return {
            "plugin_id": self.plugin_id,
            "permission": self.permission,
            "scope": self.scope,
            "condition": self.condition,
            "why": self.why,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What an import would do, or did."""

    add: tuple[Exported, ...] = ()
    same: tuple[Exported, ...] = ()
    by_rule: tuple[Exported, ...] = ()  # by a rule of a rules file there: a person writes it here
    only_here: tuple[dict[str, Json], ...] = ()  # granted here, not in the file: it stays
    applied: bool = False
    wishes: tuple[tuple[PluginId, RequestedPermission], ...] = field(default=(), repr=False)

    def as_json(self) -> dict[str, Json]:
        """Give the wire shape."""
        return {
            "applied": self.applied,
            "add": [each.as_json() for each in self.add],
            "same": [each.as_json() for each in self.same],
            "by_rule": [each.as_json() for each in self.by_rule],
            "only_here": list(self.only_here),
        }


async def difference(parts: Parts, caller: Caller, exported: Sequence[Exported]) -> Difference:
    """Tell what an import would do; changes nothing.

    Raises:
        DeniedError: the caller may not see plugins.
        MalformedError: something in it cannot be granted; every problem is told.
    """
    await authorize(parts, caller, Level.READ, "plugins")
    return _difference(parts, exported)


async def import_grants(parts: Parts, caller: Caller, exported: Sequence[Exported], reason: str) -> Difference:
    """Grant what is missing, all of it or nothing.

    Raises:
        DeniedError: the caller may not approve what one of the plugins would be granted.
        MalformedError: something in it cannot be granted; every problem is told.
        ConflictError: a plugin was taken away, or grants.csv was edited, meanwhile.
        PolicyBrokenError: the policy files have errors, so no grant can be added.
    """
    plugins = sorted({each.plugin_id for each in exported if each.granted})
    for each in plugins or [""]:
        await authorize(parts, caller, Level.ADMIN, f"plugins/{each}".rstrip("/"), key_scope="approve")
    async with parts.editing:
        found = _difference(parts, exported)
        if not found.wishes:
            return Difference(same=found.same, by_rule=found.by_rule, only_here=found.only_here, applied=True)
        generations = {plugin_id: _generation(parts, plugin_id) for plugin_id, _ in found.wishes}

        def noted() -> None:
            # SECURITY: judged again, for while the record was written a plugin may have been taken away.
            if any(_generation(parts, plugin_id) != then for plugin_id, then in generations.items()):
                raise ConflictError("a plugin was taken away or registered anew meanwhile", way_out="import again")

        first, *others = found.wishes
        await give_grants(
            parts,
            Giving(plugin_id=first[0], wanted=[first[1]], others=others, reason=reason or "imported"),
            caller,
            records=[
                event(
                    parts,
                    caller,
                    "permission_approved",
                    plugin_id,
                    {
                        "imported": True,
                        "reason": reason,
                        "permissions": [wish.as_json() for whose, wish in found.wishes if whose == plugin_id],
                    },
                )
                for plugin_id in generations
            ],
            noted=noted,
            undone=lambda: None,
        )
        await refresh_memberships(parts, by=caller.user_id, why="grants were imported")
    return Difference(add=found.add, same=found.same, by_rule=found.by_rule, only_here=found.only_here, applied=True)


def _difference(parts: Parts, exported: Sequence[Exported]) -> Difference:
    policy = parts.policy.get()
    if policy is None:
        raise ConflictError("no policy is in force", way_out="`hearthgate policy check` names the problems")
    here = [each for each in grants_in_force(parts) if each["granted"]]
    known = {_key(each) for each in here}
    wanted = dict.fromkeys(each for each in exported if each.granted)
    problems: list[Problem] = []
    wishes: list[tuple[PluginId, RequestedPermission]] = []
    add = [each for each in wanted if each.key not in known]
    for number, each in enumerate(exported):
        if not each.granted or each.key in known:
            continue
        try:
            wish = _wish(parts, policy, each)
        except MalformedError as error:
            problems.append(Problem(place=Place(file="import"), message=f"grants[{number}]: {error}"))
        else:
            wishes.append(wish)
    if problems:
        raise MalformedError("nothing was imported, for not all of it can be granted", problems=problems)
    there = {each.key for each in wanted}
    return Difference(
        add=tuple(add),
        same=tuple(each for each in wanted if each.key in known),
        by_rule=tuple(each for each in exported if not each.granted),
        only_here=tuple(each for each in here if _key(each) not in there),
        wishes=tuple(dict.fromkeys(wishes)),
    )


def _wish(parts: Parts, policy: PolicySet, exported: Exported) -> tuple[PluginId, RequestedPermission]:
    plugin_id = parse_plugin_id(exported.plugin_id)
    permission = parse_permission(exported.permission)
    scope = canonical_pattern(permission.kind, exported.scope)
    if scope != exported.scope:
        raise MalformedError(f"scope `{exported.scope[:80]}`: write it as `{scope}`")
    # SECURITY: it becomes a field of a rule's line; nothing in it may be more.
    if not exported.condition.isprintable() or _NOT_IN_A_FIELD & set(exported.condition):
        raise MalformedError(f"condition `{exported.condition[:80]}` is none")
    _, wrong = parse_condition(exported.condition, policy.calendars)
    if wrong:
        raise MalformedError("; ".join(wrong))
    plugin = parts.registry.plugins.get(plugin_id)
    if plugin is None or plugin.state not in _GRANTABLE:
        state = "not registered" if plugin is None else plugin.state.value
        raise MalformedError(f"`{plugin_id}` is {state} here: a person approves it first")
    if policy.approval.four_eyes(permission):
        raise MalformedError(f"`{permission}`: two people must approve it, so it is asked for by itself")
    return plugin.id, RequestedPermission(
        permission=permission, scope=scope, condition=exported.condition, purpose=exported.why
    )


def _generation(parts: Parts, plugin_id: PluginId) -> int | None:
    plugin = parts.registry.plugins.get(plugin_id)
    return None if plugin is None or plugin.state not in _GRANTABLE else plugin.generation


def _key(grant: dict[str, Json]) -> Key:
    return (str(grant["plugin_id"]), str(grant["permission"]), str(grant["scope"]), str(grant["condition"]))
