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
    for plugin_id in sorted(active):
        tier = plugin_risk(parsed, plugin_id).tier
        found[plugin_subject(plugin_id)] = (PLUGINS_GROUP, f"tier:{tier.value}")
    for user_id in sorted(parts.registry.keys.users()):
        found[user_subject(user_id)] = (USERS_GROUP,)
    return found


def plugin_risk(parsed: ParsedPolicy, plugin_id: PluginId, *, asked: Iterable[tuple[Permission, str]] = ()) -> Risk:
    """Score all that the rules give a plugin, and what is asked for besides; conditions do not make it less."""
    held = {(_OWN, str(plugin_id)), *asked}
    for rule in parsed.rules:
        if rule.effect is Effect.ALLOW and _speaks_for(rule, plugin_id):
            held.update(_permissions(rule))
    return parsed.risk.score_plugin(held)


def _speaks_for(rule: Rule, plugin_id: PluginId) -> bool:
    # WHY: groups of a person's making may hold plugins too; that counts where the rule names the plugin's own group.
    return rule.subject in {plugin_subject(plugin_id), PLUGINS_GROUP}


def _permissions(rule: Rule) -> Iterable[tuple[Permission, str]]:
    level = Level.ADMIN if rule.level == "*" else LEVELS.get(rule.level)
    if level is None:
        return
    for kind in FAMILIES:
        if rule.kind in {kind.value, "*"}:
            yield Permission(kind, level), rule.scope
