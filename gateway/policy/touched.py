"""What an edit can touch: where it speaks to nobody and of nothing that is asked, both policies answer alike.

INVARIANT: a question that is not touched is covered by the same rules in both, which ask for the same facts.
"""

from collections.abc import Iterable, Mapping, Sequence

from gateway.domain.condition import Compare, RiskAtMost
from gateway.domain.names import PLUGINS_GROUP, PluginId, split_subject
from gateway.domain.risk import Tier
from gateway.policy.anchors import kind_probes, scope_probes
from gateway.policy.encode import encode_field
from gateway.policy.engine import PolicySet
from gateway.policy.plugin_risk import TierChange, plugin_risks, tier_change
from gateway.policy.roles import Roles
from gateway.policy.rule import Rule, level_matches

_ByScope = Mapping[str, Sequence[Rule]]
_TIERS = tuple(f"tier:{tier.value}" for tier in Tier)
_SAID = slice(0, 7)  # a rule's fields without its why


class Edit:
    """What is said otherwise by one policy than by another, to whom and of what."""

    def __init__(self, now: PolicySet, edited: PolicySet) -> None:
        self._roles = now.roles, edited.roles
        self._same_risk = now.risk_table == edited.risk_table
        self._risks = plugin_risks(now), plugin_risks(edited)
        self._rules: dict[str, dict[str, dict[str, list[Rule]]]] = {}  # subject -> kind -> scope
        for rule in _changed(now, edited):
            self._rules.setdefault(rule.subject, {}).setdefault(rule.kind, {}).setdefault(rule.scope, []).append(rule)
        # SECURITY: rules that only stock Casbin understands, or another model, may say more than can be seen here.
        self._opaque = any(
            each.fallback_reason is not None or not each.parsed.model.is_shipped for each in (now, edited)
        )

    def tier_change(self, subject: str) -> TierChange | None:
        """Tell how the edit moves an active plugin, None if it stays in its tier."""
        prefix, name = split_subject(subject)
        if prefix != "plugin" or (self._same_risk and not self._speaks_to(subject, (PLUGINS_GROUP, *_TIERS))):
            return None
        return tier_change(*self._risks, PluginId(name))

    def touch(self, subject: str, before: tuple[str, ...], after: tuple[str, ...]) -> "Touch":
        """Give what is touched for somebody who belongs to `before` by the gateway's doing, and then to `after`."""
        one, other = _closure(self._roles[0], subject, before), _closure(self._roles[1], subject, after)
        spoken = [self._rules[each] for each in one | other if each in self._rules]
        return Touch(everything=self._opaque or one != other, spoken=spoken)

    def _speaks_to(self, subject: str, added: tuple[str, ...]) -> bool:
        one, other = (_closure(roles, subject, added) for roles in self._roles)
        return one != other or not self._rules.keys().isdisjoint(one)


class Touch:
    """What an edit touches of all that somebody may ask."""

    __slots__ = ("_by_kind", "_everything", "_spoken", "nothing")

    def __init__(self, *, everything: bool, spoken: Sequence[Mapping[str, _ByScope]]) -> None:
        self._everything = everything
        self._spoken = spoken
        self._by_kind: dict[str, list[_ByScope]] = {}
        self.nothing = not everything and not spoken

    def touches(self, kind: str, level: str, scope: str) -> bool:
        """Tell whether a question is covered by a rule that is not in both policies."""
        if self._everything:
            return True
        changed = self._by_kind.get(kind)
        if changed is None:
            probed = kind_probes(kind)
            changed = [kinds[each] for kinds in self._spoken for each in probed if each in kinds]
            self._by_kind[kind] = changed
        if not changed:
            return False
        patterns = scope_probes(scope)
        return any(
            level_matches(kind, level, rule.level, rule.effect)
            for rules in changed
            for pattern in patterns
            for rule in rules.get(pattern, ())
        )


def _closure(roles: Roles, subject: str, added: tuple[str, ...]) -> frozenset[str]:
    name = encode_field(subject)
    wholes = {*roles.written.get(name, ()), *map(encode_field, added)}
    return frozenset({name}).union(*map(roles.closure, wholes))


def _changed(now: PolicySet, edited: PolicySet) -> Iterable[Rule]:
    """Give the rules of either that the other has not, or that ask for facts that the other holds for different."""
    other_facts: tuple[type, ...] = ()
    if now.risk_table != edited.risk_table:
        other_facts += (RiskAtMost,)
    if now.entities != edited.entities:
        other_facts += (Compare,)
    one, other = ({rule.id: rule for rule in policy.rules} for policy in (now, edited))
    for rule in now.rules:
        twin = other.get(rule.id)
        if twin is None or twin.fields[_SAID] != rule.fields[_SAID] or twin.condition != rule.condition:
            yield rule
            if twin is not None:
                yield twin
        elif other_facts and any(isinstance(term, other_facts) for _, term in rule.condition.terms):
            yield rule
    yield from (rule for rule in edited.rules if rule.id not in one)
