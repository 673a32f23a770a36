"""The verdict on a request: which of the rules that cover it speak, and what keeps the others from it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from gateway.domain.condition import Rate
from gateway.domain.decision import Charge, Effect, NearMiss, Reason, RuleRef, Verdict
from gateway.domain.request import Facts
from gateway.policy.conditions import Unmet, unmet_terms
from gateway.policy.rule import Rule

_NOTHING_COUNTED: Mapping[str, int] = MappingProxyType({})
NO_RULE = Verdict(effect=Effect.DENY, reason=Reason.NO_RULE, counters=_NOTHING_COUNTED)
Unmets = tuple[tuple[str, Unmet], ...]
Misses = Sequence[tuple[Rule, Unmets]]


def judge(rules: Sequence[Rule], facts: Facts) -> Verdict:
    """Give the verdict of the rules that cover a request, in their order; uses nothing up."""
    if not rules:
        return NO_RULE
    counters = _NOTHING_COUNTED
    if any(rule.condition.rate is not None for rule in rules if rule.condition.terms):
        counters = {}
        facts = _counting(facts, counters)
    spoke: list[Rule] = []
    misses: list[tuple[Rule, Unmets]] = []
    for rule in rules:
        unmet: Unmets = ()
        if rule.condition.terms:
            unmet = unmet_terms(rule.condition, facts, effect=rule.effect, rule_id=rule.id)
        if not unmet:
            spoke.append(rule)
        elif rule.effect is Effect.ALLOW:
            misses.append((rule, unmet))
    return _verdict(spoke, misses, counters)


def is_settled(rules: Sequence[Rule]) -> bool:
    """Tell whether the verdict of these rules is the same whatever the facts are."""
    return not any(rule.condition.terms for rule in rules)


def _counting(facts: Facts, counters: dict[str, int]) -> Facts:
    def used(rule_id: str, rate: Rate) -> int:
        if rule_id not in counters:
            counters[rule_id] = facts.used(rule_id, rate)
        return counters[rule_id]

    return replace(facts, used=used)


def _verdict(spoke: Sequence[Rule], misses: Misses, counters: Mapping[str, int]) -> Verdict:
    said: tuple[tuple[RuleRef, Effect], ...] = tuple([(rule.ref, rule.effect) for rule in spoke])
    near = tuple([_near_miss(rule, unmet) for rule, unmet in misses]) if misses else ()
    for ref, effect in said:
        # INVARIANT: a deny outranks every allow, wherever it stands.
        if effect is not Effect.ALLOW:
            return Verdict(
                effect=Effect.DENY, reason=Reason.RULE, rule=ref, near_misses=near, spoke=said, counters=counters
            )
    if said:
        return Verdict(
            effect=Effect.ALLOW, reason=Reason.RULE, rule=said[0][0], near_misses=near, spoke=said,
            counters=counters, charge=_charge(spoke[0]),
        )  # fmt: skip
    if misses:
        rule, unmet = min(misses, key=lambda miss: len(miss[1]))
        reason = unmet[0][1].reason
        return Verdict(effect=Effect.DENY, reason=reason, rule=rule.ref, near_misses=near, counters=counters)
    return NO_RULE if counters is _NOTHING_COUNTED else replace(NO_RULE, counters=counters)


def _near_miss(rule: Rule, unmet: Unmets) -> NearMiss:
    return NearMiss(
        rule=rule.ref,
        unmet=tuple(text for text, _ in unmet),
        reasons=tuple(answer.sentence for _, answer in unmet),
    )


def _charge(rule: Rule) -> Charge | None:
    rate = rule.condition.rate if rule.condition.terms else None
    return None if rate is None else Charge(rule_id=rule.id, rate=rate)
