"""The verdict on a request: which of the rules that cover it speak, and what keeps the others from it."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from msgspec.structs import replace

from gateway.domain.condition import Rate
from gateway.domain.decision import Charge, Effect, NearMiss, Reason, RuleRef, Verdict
from gateway.domain.request import Facts
from gateway.policy.conditions import Unmet, unmet_terms
from gateway.policy.rule import Rule

_NOTHING_COUNTED: Mapping[str, int] = MappingProxyType({})
NO_RULE = Verdict(effect=Effect.DENY, reason=Reason.NO_RULE, counters=_NOTHING_COUNTED)
Unmets = tuple[tuple[str, Unmet], ...]
Miss = tuple[RuleRef, Unmets]
Said = tuple[tuple[RuleRef, Effect], ...]


class Covering:
    """The rules that cover a question, in their order; `judge` gives the verdict under some facts."""

    __slots__ = ("_conditional", "_counts", "_said", "_unhindered", "rules")

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self._said: Said = tuple([(rule.ref, rule.effect) for rule in rules])
        self._conditional = any(rule.condition.terms for rule in rules)
        self._counts = self._conditional and any(rule.condition.rate is not None for rule in rules)
        self._unhindered: Verdict | None = None

    def judge(self, facts: Facts) -> Verdict:
        """Give the verdict; uses nothing up."""
        if not self._conditional:
            return self._all_speak()
        counters: dict[str, int] = {}
        if self._counts:
            facts = _counting(facts, counters)
        spoke: list[int] = []
        misses: list[Miss] = []
        for at, rule in enumerate(self.rules):
            unmet: Unmets = ()
            if rule.condition.terms:
                unmet = unmet_terms(rule.condition, facts, effect=rule.effect, rule_id=rule.id)
            if not unmet:
                spoke.append(at)
            elif rule.effect is Effect.ALLOW:
                misses.append((self._said[at][0], unmet))
        if not counters and len(spoke) == len(self.rules):
            return self._all_speak()
        return self._verdict(spoke, misses, counters)

    def _all_speak(self) -> Verdict:
        # WHY: the verdict where every rule speaks is always the same, so it is made once.
        if self._unhindered is None:
            self._unhindered = self._verdict(range(len(self.rules)), (), _NOTHING_COUNTED)
        return self._unhindered

    def _verdict(self, spoke: Sequence[int], misses: Sequence[Miss], counters: Mapping[str, int]) -> Verdict:
        said = self._said if len(spoke) == len(self._said) else tuple([self._said[at] for at in spoke])
        near = tuple([_near_miss(miss) for miss in misses])
        for ref, effect in said:
            # INVARIANT: a deny outranks every allow, wherever it stands.
            if effect is not Effect.ALLOW:
                return Verdict(
                    effect=Effect.DENY, reason=Reason.RULE, rule=ref, near_misses=near, spoke=said, counters=counters
                )
        if said:
            return Verdict(
                effect=Effect.ALLOW, reason=Reason.RULE, rule=said[0][0], near_misses=near, spoke=said,
                counters=counters, charge=_charge(self.rules[spoke[0]]),
            )  # fmt: skip
        if misses:
            rule, unmet = min(misses, key=lambda miss: len(miss[1]))
            reason = unmet[0][1].reason
            return Verdict(effect=Effect.DENY, reason=reason, rule=rule, near_misses=near, counters=counters)
        return NO_RULE if not counters else replace(NO_RULE, counters=counters)


NOBODY_COVERS = Covering(())


def _counting(facts: Facts, counters: dict[str, int]) -> Facts:
    def used(rule_id: str, rate: Rate) -> int:
        if rule_id not in counters:
            counters[rule_id] = facts.used(rule_id, rate)
        return counters[rule_id]

    return Facts(
        at=facts.at, risk=facts.risk, consent_id=facts.consent_id, approval_id=facts.approval_id, used=used,
        attributes=facts.attributes,
    )  # fmt: skip


def _near_miss(miss: Miss) -> NearMiss:
    rule, unmet = miss
    return NearMiss(
        rule=rule, unmet=tuple([text for text, _ in unmet]), reasons=tuple([answer.sentence for _, answer in unmet])
    )


def _charge(rule: Rule) -> Charge | None:
    rate = rule.condition.rate if rule.condition.terms else None
    return None if rate is None else Charge(rule_id=rule.id, rate=rate)
