"""How much calls are kept apart: the safer of what a manifest wishes and what the policy allows the plugin's tier."""

from gateway.domain.isolation import Isolation, effective_isolation
from gateway.domain.names import plugin_subject
from gateway.domain.risk import Tier
from gateway.flows.parts import Parts
from gateway.registry.plugins import Plugin

_TIER = "tier:"


def isolation_of(parts: Parts, plugin: Plugin) -> Isolation:
    """Give the mode of a plugin's next call; one that is not active has no tier yet, and so the safest."""
    policy = parts.policy.get()
    if policy is None:
        return Isolation.PRISTINE
    belongs = policy.memberships.get(plugin_subject(plugin.id), ())
    tier = next((name.removeprefix(_TIER) for name in belongs if name.startswith(_TIER)), Tier.CRITICAL)
    return effective_isolation(plugin.manifest.isolation, policy.parsed.risk.isolation, Tier(tier))
