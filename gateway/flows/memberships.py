"""Memberships: the groups and tiers that the gateway itself says a subject is in."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from gateway.domain.decision import Effect
from gateway.domain.lifecycle import State
from gateway.domain.names import PLUGINS_GROUP, USERS_GROUP, PluginId, plugin_subject, user_subject
from gateway.domain.permission import FAMILIES, LEVELS, Kind, Level, Permission
from gateway.domain.risk import Risk
from gateway.flows.parts import Parts
from gateway.policy.engine import PolicySet
from gateway.policy.parse import ParsedPolicy
from gateway.policy.pauses import Pause, never, paced
from gateway.policy.roles import build_roles
from gateway.policy.rule import Rule
from gateway.policy.score import RiskTable

_OWN = Permission(Kind.PLUGIN, Level.EXECUTE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rights:
    """Who is allowed what, and who belongs to what by a person's lines."""

    table: RiskTable
    rules_of: Callable[[str], Iterable[Rule]]
    wholes: Mapping[str, tuple[str, ...]]


def memberships(
    parts: Parts, policy: ParsedPolicy | PolicySet, pause: Pause = never, *, joining: Iterable[PluginId] = ()
) -> Mapping[str, tuple[str, ...]]:
    """Give what is a fact of the registry: active plugins and their tiers, and the users who hold a key.

    `joining` are plugins that are about to become active.
    """
    active = {each.id for each in parts.registry.plugins.all() if each.state is State.ACTIVE} | set(joining)
    found: dict[str, tuple[str, ...]] = {}
    rights = _rights_in(policy, pause)
    for plugin_id in sorted(active):
        tier = _risk(rights, plugin_id, ()).tier
        found[plugin_subject(plugin_id)] = (PLUGINS_GROUP, f"tier:{tier.value}")
    for user_id in sorted(parts.registry.keys.users()):
        found[user_subject(user_id)] = (USERS_GROUP,)
    return found


def plugin_risk(parsed: ParsedPolicy, plugin_id: PluginId, *, asked: Iterable[tuple[Permission, str]] = ()) -> Risk:
    """Score all that the rules give a plugin, and what is asked for besides; conditions do not make it less."""
    return _risk(_rights_in(parsed, never), plugin_id, asked)


def _rights_in(policy: ParsedPolicy | PolicySet, pause: Pause) -> _Rights:
    if isinstance(policy, PolicySet):
        return _Rights(table=policy.risk_table, rules_of=policy.rules_of, wholes=policy.roles.written)
    rules: dict[str, list[Rule]] = {}
    for rule in paced(policy.rules, pause):
        rules.setdefault(rule.subject, []).append(rule)
    wholes = build_roles(policy.memberships, {}).written
    return _Rights(table=policy.risk, rules_of=lambda subject: rules.get(subject, ()), wholes=wholes)


def _risk(rights: _Rights, plugin_id: PluginId, asked: Iterable[tuple[Permission, str]]) -> Risk:
    held = {(_OWN, str(plugin_id)), *asked}
    counted: set[str] = set()
    new = _belongings(rights, {plugin_subject(plugin_id), PLUGINS_GROUP})
    while True:
        for rule in (rule for subject in new for rule in rights.rules_of(subject) if rule.effect is Effect.ALLOW):
            held.update(_permissions(rule))
        risk = rights.table.score_plugin(held)
        # WHY: a tier may bring rights of its own, and they a higher tier; what counted once goes on counting.
        counted |= new
        new = _belongings(rights, {f"tier:{risk.tier.value}"}) - counted
        if not new:
            return risk


def _belongings(rights: _Rights, subjects: set[str]) -> set[str]:
    """Give subjects with all the groups that a person's lines put them into."""
    found, border = set(subjects), set(subjects)
    while border:
        border = {whole for member in border for whole in rights.wholes.get(member, ())} - found
        found |= border
    return found


def _permissions(rule: Rule) -> Iterable[tuple[Permission, str]]:
    level = Level.ADMIN if rule.level == "*" else LEVELS.get(rule.level)
    if level is None:
        return
    for kind in FAMILIES:
        if rule.kind in {kind.value, "*"}:
            yield Permission(kind, level), rule.scope
