"""How much calls are kept apart, and by whom: as a manifest wishes, the settings say, and the policy allows."""

from gateway.domain.isolation import Isolation, effective_isolation
from gateway.domain.manifest import Runtime
from gateway.domain.names import plugin_subject
from gateway.domain.risk import TIER_ORDER, Tier
from gateway.flows.parts import Parts
from gateway.policy.engine import PolicySet
from gateway.registry.plugins import Plugin
from sandbox.spec import NATIVE, RUNSC

_TIER = "tier:"


def isolation_of(parts: Parts, plugin: Plugin) -> Isolation:
    """Give the mode of a plugin's next call; one that is not active has no tier yet, and so the safest."""
    policy = parts.policy.get()
    if policy is None:
        return Isolation.PRISTINE
    if plugin.manifest.runtime is Runtime.MCP_STDIO:
        return _of_server(plugin, policy)
    return effective_isolation(plugin.manifest.isolation, policy.parsed.risk.isolation, _tier_of(policy, plugin))


def _of_server(plugin: Plugin, policy: PolicySet) -> Isolation:
    """Let a server stay between the calls of a user, where the policy allows its tier that and its author wants it."""
    highest = policy.parsed.risk.servers_stay
    stays = highest is not None and TIER_ORDER.index(_tier_of(policy, plugin)) <= TIER_ORDER.index(highest)
    return Isolation.SHARED if stays and plugin.manifest.isolation is not Isolation.PRISTINE else Isolation.PRISTINE


def backend_of(parts: Parts, plugin: Plugin) -> str:
    """Name who makes the cells of a plugin's next call: gVisor from a tier on that the policy names, else as is set."""
    policy = parts.policy.get()
    lowest = None if policy is None else policy.parsed.risk.runsc_from
    if policy is None or lowest is None or TIER_ORDER.index(_tier_of(policy, plugin)) < TIER_ORDER.index(lowest):
        return parts.backend
    return RUNSC


def backends_used(backend: str, policy: PolicySet | None) -> dict[str, bool]:
    """Name the other makers of cells that calls may need, and whether every call does; `backend` is what is set."""
    used = {} if backend == NATIVE else {backend: True}
    return used if policy is None or policy.parsed.risk.runsc_from is None else {**used, RUNSC: False}


def _tier_of(policy: PolicySet, plugin: Plugin) -> Tier:
    belongs = policy.memberships.get(plugin_subject(plugin.id), ())
    return Tier(next((name.removeprefix(_TIER) for name in belongs if name.startswith(_TIER)), Tier.CRITICAL))
