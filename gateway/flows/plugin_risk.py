"""How risky a plugin is: what its author says, what it asks for, and what the policy in force makes of it."""

from gateway.domain.manifest import Manifest
from gateway.domain.request import Json
from gateway.domain.risk import MAX_SCORE, TIER_ORDER, Risk, Tier
from gateway.flows.memberships import plugin_risk
from gateway.flows.parts import Parts

_UNJUDGED = Risk(score=MAX_SCORE, tier=Tier.CRITICAL)  # without a policy nothing is known to be harmless


def requested_risk(parts: Parts, manifest: Manifest) -> Risk:
    """Score a plugin as if all that its manifest asks for were granted, with what rules give it besides."""
    policy = parts.policy.get()
    if policy is None:
        return _UNJUDGED
    asked = [(each.permission, each.scope) for each in manifest.permissions if each.scope is not None]
    return plugin_risk(parts, policy.parsed, manifest.plugin_id, asked=asked)


def is_understated(manifest: Manifest, risk: Risk) -> bool:
    """Tell whether an author declares a lower tier than the computed one."""
    declared = manifest.declared_tier
    return declared is not None and TIER_ORDER.index(declared) < TIER_ORDER.index(risk.tier)


def assessed(manifest: Manifest, risk: Risk) -> dict[str, Json]:
    """Give what a record of an assessment says; the computed tier is the one that holds."""
    return {
        "declared": None if manifest.declared_tier is None else manifest.declared_tier.value,
        "computed": risk.tier.value,
        "score": risk.score,
        "understated": is_understated(manifest, risk),
    }
