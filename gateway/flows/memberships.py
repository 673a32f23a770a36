"""Memberships: the groups and tiers that the gateway itself says a subject is in."""

from collections.abc import Iterable, Mapping

from gateway.domain.lifecycle import State
from gateway.domain.names import PLUGINS_GROUP, USERS_GROUP, PluginId, plugin_subject, user_subject
from gateway.domain.permission import Kind, Level, Permission
from gateway.domain.risk import Risk
from gateway.flows.parts import Parts
from gateway.policy.engine import PolicySet
from gateway.policy.parse import ParsedPolicy
from gateway.policy.pauses import Pause, never
from gateway.policy.plugin_risk import plugin_risks


def memberships(
    parts: Parts, policy: ParsedPolicy | PolicySet, pause: Pause = never, *, joining: Iterable[PluginId] = ()
) -> Mapping[str, tuple[str, ...]]:
    """Give what is a fact of the registry: active plugins and their tiers, and the users who hold a key.

    `joining` are plugins that are about to become active.
    """
    risks = plugin_risks(policy, pause, steps=parts.registry.conduct.steps())
    found: dict[str, tuple[str, ...]] = {}
    for plugin_id in sorted(active_plugins(parts) | set(joining)):
        found[plugin_subject(plugin_id)] = (PLUGINS_GROUP, f"tier:{risks.tier(plugin_id).value}")
    for user_id in sorted(parts.registry.keys.users()):
        found[user_subject(user_id)] = (USERS_GROUP,)
    return found


def active_plugins(parts: Parts) -> frozenset[PluginId]:
    """Give the plugins that are active."""
    return frozenset(each.id for each in parts.registry.plugins.all() if each.state is State.ACTIVE)


def plugin_risk(
    parts: Parts,
    policy: ParsedPolicy | PolicySet,
    plugin_id: PluginId,
    *,
    asked: Iterable[tuple[Permission, str]] = (),
) -> Risk:
    """Score all that the rules give a plugin, and what is asked for besides; conditions do not make it less."""
    return plugin_risks(policy, steps=parts.registry.conduct.steps()).risk(plugin_id, asked=asked)


def plugin_rights(parts: Parts, policy: PolicySet, plugin_id: PluginId) -> set[tuple[Permission, str]]:
    """Give all that the rules give a plugin beside its right to run, whatever their conditions."""
    held = plugin_risks(policy, steps=parts.registry.conduct.steps()).rights(plugin_id)
    return held - {(Permission(Kind.PLUGIN, Level.EXECUTE), str(plugin_id))}
