"""Memberships: the groups and tiers that the gateway itself says a subject is in."""

from collections.abc import Iterable, Mapping

from gateway.domain.decision import Effect
from gateway.domain.lifecycle import State
from gateway.domain.names import PLUGINS_GROUP, USERS_GROUP, PluginId, plugin_subject, user_subject
from gateway.domain.permission import FAMILIES, LEVELS, Kind, Level, Permission
from gateway.domain.risk import Risk
from gateway.flows.parts import Parts
from gateway.policy.parse import ParsedPolicy
from gateway.policy.rule import Rule

_OWN = Permission(Kind.PLUGIN, Level.EXECUTE)


def memberships(
    parts: Parts, parsed: ParsedPolicy, *, joining: Iterable[PluginId] = ()
) -> Mapping[str, tuple[str, ...]]:
    """Give what is a fact of the registry: active plugins and their tiers, and the users who hold a key.

    `joining` are plugins that are about to become active.
    """
    active = {each.id for each in parts.registry.plugins.all() if each.state is State.ACTIVE} | set(joining)
    found: dict[str, tuple[str, ...]] = {}
    allows = _allows(parsed)
    for plugin_id in sorted(active):
        tier = _risk(parsed, allows, plugin_id, ()).tier
        found[plugin_subject(plugin_id)] = (PLUGINS_GROUP, f"tier:{tier.value}")
    for user_id in sorted(parts.registry.keys.users()):
        found[user_subject(user_id)] = (USERS_GROUP,)
    return found


def plugin_risk(parsed: ParsedPolicy, plugin_id: PluginId, *, asked: Iterable[tuple[Permission, str]] = ()) -> Risk:
    """Score all that the rules give a plugin, and what is asked for besides; conditions do not make it less."""
    return _risk(parsed, _allows(parsed), plugin_id, asked)


def _allows(parsed: ParsedPolicy) -> Mapping[str, list[Rule]]:
    """Give the allow rules of each subject."""
    found: dict[str, list[Rule]] = {}
    for rule in parsed.rules:
        if rule.effect is Effect.ALLOW:
            found.setdefault(rule.subject, []).append(rule)
    return found


def _risk(
    parsed: ParsedPolicy,
    allows: Mapping[str, list[Rule]],
    plugin_id: PluginId,
    asked: Iterable[tuple[Permission, str]],
) -> Risk:
    held = {(_OWN, str(plugin_id)), *asked}
    counted: set[str] = set()
    new = _belongings(parsed, {plugin_subject(plugin_id), PLUGINS_GROUP})
    while True:
        for rule in (rule for subject in new for rule in allows.get(subject, ())):
            held.update(_permissions(rule))
        risk = parsed.risk.score_plugin(held)
        # WHY: a tier may bring rights of its own, and they a higher tier; what counted once goes on counting.
        counted |= new
        new = _belongings(parsed, {f"tier:{risk.tier.value}"}) - counted
        if not new:
            return risk


def _belongings(parsed: ParsedPolicy, subjects: set[str]) -> set[str]:
    """Give subjects with all the groups that a person's lines put them into."""
    found, border = set(subjects), set(subjects)
    while border:
        border = {each.whole for each in parsed.memberships if each.member in border} - found
        found |= border
    return found


def _permissions(rule: Rule) -> Iterable[tuple[Permission, str]]:
    level = Level.ADMIN if rule.level == "*" else LEVELS.get(rule.level)
    if level is None:
        return
    for kind in FAMILIES:
        if rule.kind in {kind.value, "*"}:
            yield Permission(kind, level), rule.scope
