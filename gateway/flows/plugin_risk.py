"""How risky a plugin is: what its author says, what it asks for, what the policy makes of it, and what it did."""

from dataclasses import dataclass
from datetime import timedelta

from gateway.audit.query import LogReader
from gateway.audit.wanted import Filter
from gateway.domain.behaviour import COUNTED, DAYS, Behaviour
from gateway.domain.manifest import Manifest
from gateway.domain.request import Json
from gateway.domain.risk import MAX_SCORE, TIER_ORDER, Risk, Tier
from gateway.flows.memberships import plugin_risk
from gateway.flows.parts import Parts
from gateway.registry.plugins import Plugin

_UNJUDGED = Risk(score=MAX_SCORE, tier=Tier.CRITICAL)  # without a policy nothing is known to be harmless


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """What is known of a plugin's risk; `computed` is by its rights and what it did."""

    manifest: Manifest
    rights: Risk
    requested: Risk
    computed: Risk
    behaviour: Behaviour

    @property
    def understated(self) -> bool:
        """Whether its author declares a lower tier than is computed, or than all it asks for has."""
        return is_understated(self.manifest, self.computed) or is_understated(self.manifest, self.requested)

    def as_json(self) -> dict[str, Json]:
        """Give the wire shape."""
        declared = self.manifest.declared_tier
        return {
            "plugin_id": self.manifest.plugin_id,
            "declared": None if declared is None else declared.value,
            "understated": self.understated,
            "computed": _json(self.computed),
            "rights": _json(self.rights),
            "requested": _json(self.requested),
            "behaviour": self.behaviour.as_json(),
        }


def assess(parts: Parts, reader: LogReader, plugin: Plugin) -> Assessment:
    """Assess a plugin; reads the log, so call it in a thread.

    Raises:
        UnavailableError: the log cannot be searched.
    """
    policy = parts.policy.get()
    rights = _UNJUDGED if policy is None else plugin_risk(parts, policy, plugin.id)
    behaviour = _behaviour(parts, reader, plugin)
    score = min(rights.score + sum(each.points for each in behaviour.parts), MAX_SCORE)
    tier = _UNJUDGED.tier if policy is None else policy.risk_table.tier_of(score)
    return Assessment(
        manifest=plugin.manifest,
        rights=rights,
        requested=requested_risk(parts, plugin.manifest),
        computed=Risk(score=score, tier=tier, parts=(*rights.parts, *behaviour.parts)),
        behaviour=behaviour,
    )


def requested_risk(parts: Parts, manifest: Manifest) -> Risk:
    """Score a plugin as if all that its manifest asks for were granted, with what rules give it besides."""
    policy = parts.policy.get()
    if policy is None:
        return _UNJUDGED
    asked = [(each.permission, each.scope) for each in manifest.permissions if each.scope is not None]
    return plugin_risk(parts, policy, manifest.plugin_id, asked=asked)


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


def _behaviour(parts: Parts, reader: LogReader, plugin: Plugin) -> Behaviour:
    since = parts.now() - timedelta(days=DAYS)

    def count(event_type: str) -> int:
        wanted = Filter(plugin=plugin.id, event_type=event_type, since=since)
        rows = reader.find(wanted, limit=COUNTED).rows
        # WHY: a person who is denied something about a plugin says nothing of the plugin.
        return sum(row["decision"] is None or row["decision"]["subject"] == f"plugin:{plugin.id}" for row in rows)

    killed = reader.find(Filter(plugin=plugin.id, event_type="execution_failed", since=since), limit=COUNTED).rows
    return Behaviour(
        violations=count("permission_violation"),
        denials=count("access_denied"),
        # WHY: that a person ended a call says nothing of the plugin, either.
        kills=count("execution_timeout")
        + sum(row["resolution"] == "killed" and not row["details"].get("from_outside") for row in killed),
    )


def _json(risk: Risk) -> dict[str, Json]:
    parts: list[Json] = [{"name": each.name, "points": each.points} for each in risk.parts]
    return {"score": risk.score, "tier": risk.tier.value, "parts": parts}
