"""The facts a decision was judged by: kept with its record, and taken from it to judge again.

What a record does not hold is never guessed: a decision that needs it cannot be replayed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from gateway.domain.condition import Attribute, Compare, Rate
from gateway.domain.decision import Charge, Effect, Reason, Verdict
from gateway.domain.names import split_subject
from gateway.domain.request import AccessRequest, Facts, Json
from gateway.domain.risk import Tier
from gateway.policy.engine import PolicySet
from gateway.policy.rule import Rule

SENT = ("context", "args", "subject", "resource", "action")
MAX_KEPT_CHARACTERS = 4096
UNRULED = frozenset({Reason.INACTIVE, Reason.LOCKED_DOWN})  # no rule was asked
Sent = Mapping[str, Mapping[str, Json]]


class NotKeptError(Exception):
    """The record does not hold a fact that a rule asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A decision as its record tells it."""

    decision_id: str
    request: AccessRequest
    at: datetime
    allowed: bool
    reason: Reason
    rule_id: str | None
    policy_version: str
    dry_run: bool = False
    risk: int = 0
    consent_id: str | None = None
    approval_id: str | None = None
    counters: Mapping[str, int] = field(default_factory=dict)
    rates: Mapping[str, int] = field(default_factory=dict)  # rule id -> the seconds its counter was over
    memberships: tuple[str, ...] = ()
    sent: Sent = field(default_factory=dict)
    unkept: frozenset[str] = frozenset()  # roots of which more was sent than is kept
    absent: frozenset[str] = frozenset()  # paths of these that were asked for and not sent
    held: frozenset[str] = frozenset()  # grants that were revoked already


def kept_facts(facts: Facts, verdict: Verdict, rules: Sequence[Rule], sent: Sent) -> dict[str, Json]:
    """Give what a record must hold so that its decision can be judged again; `rules` are its candidates.

    Of what was sent only those attributes are kept that a rule asks for.
    """
    conditional = [rule for rule in rules if rule.condition.terms]
    asked = sorted({path[:2] for rule in conditional for path in attribute_paths(rule) if len(path) > 1})
    kept: dict[str, Json] = {}
    absent: list[Json] = []
    unkept = {root: set(values) for root, values in sent.items() if values}
    for root, name in asked:
        values = sent.get(root, {})
        if name not in values:
            absent.append(f"{root}.{name}")
        elif len(str(values[name])) <= MAX_KEPT_CHARACTERS:
            kept[f"{root}.{name}"] = values[name]
            unkept[root].discard(name)
    roots: list[Json] = [*sorted(root for root, names in unkept.items() if names)]
    found: dict[str, Json] = {
        "risk": facts.risk,
        "consent_id": facts.consent_id,
        "approval_id": facts.approval_id,
    }
    # WHY: an empty member tells nothing, and every byte is kept for years.
    if verdict.counters:
        found["counters"] = dict(verdict.counters)
    rates: dict[str, Json] = {
        rule.id: rule.condition.rate.per_s for rule in conditional if rule.condition.rate is not None
    }
    if rates:
        found["rates"] = rates
    if kept:
        found["attributes"] = kept
    if roots:
        found["unkept"] = roots
        if absent:
            found["absent"] = absent
    return found


def attribute_paths(rule: Rule) -> Iterable[tuple[str, ...]]:
    """Give the attributes that a rule's condition asks for."""
    for _, term in rule.condition.terms:
        if isinstance(term, Compare):
            yield term.left.path
            if isinstance(term.right, Attribute):
                yield term.right.path


def judge_again(policy: PolicySet, recorded: Recorded, *, risk: int | None = None) -> Verdict:
    """Judge a recorded decision by `policy`, which has the memberships of its time; `risk` stands in for the recorded.

    Raises:
        NotKeptError: the record lacks a fact that a rule asks for.
    """
    if recorded.reason in UNRULED:
        return Verdict(effect=Effect.DENY, reason=recorded.reason)
    request = recorded.request
    for rule in policy.candidates(request):
        check_kept(rule, policy, recorded)
    facts = Facts(
        at=recorded.at,
        risk=recorded.risk if risk is None else risk,
        consent_id=recorded.consent_id,
        approval_id=recorded.approval_id,
        used=lambda rule_id, _rate: recorded.counters[rule_id],
        attributes=policy.attributes(request, recorded.sent),
    )
    return pass_over_held(policy.candidates(request), policy.decide(request, facts), recorded.held)


def check_kept(rule: Rule, policy: PolicySet, recorded: Recorded) -> None:
    """Look whether the record holds what `rule` asks for.

    Raises:
        NotKeptError: it does not.
    """
    rate = rule.condition.rate
    if rate is not None and not _counted(rule.id, rate, recorded):
        raise NotKeptError(f"how much of the rate of `{rule.id}` was used")
    known: Mapping[str, Mapping[str, Json]] | None = None
    for path in attribute_paths(rule):
        root, name = path[0], path[1]
        if root not in recorded.unkept or f"{root}.{name}" in recorded.absent:
            continue
        known = policy.attributes(recorded.request, recorded.sent) if known is None else known
        if name not in known.get(root, {}):
            raise NotKeptError(f"the attribute `{'.'.join(path)}`")


def _counted(rule_id: str, rate: Rate, recorded: Recorded) -> bool:
    return rule_id in recorded.counters and recorded.rates.get(rule_id) == rate.per_s


def pass_over_held(rules: Sequence[Rule], verdict: Verdict, held: frozenset[str]) -> Verdict:
    """Give the verdict that is left when the rules `held`, which were revoked, may no longer allow."""
    if not held or verdict.effect is not Effect.ALLOW or verdict.rule is None or verdict.rule.id not in held:
        return verdict
    for rule, effect in verdict.spoke:
        if effect is Effect.ALLOW and rule.id not in held:
            rate = next((each.condition.rate for each in rules if each.id == rule.id), None)
            return replace(verdict, rule=rule, charge=None if rate is None else Charge(rule_id=rule.id, rate=rate))
    return Verdict(effect=Effect.DENY, reason=Reason.HELD, rule=verdict.rule, counters=verdict.counters)


def tier_among(memberships: Iterable[str]) -> Tier | None:
    """Give the tier that is one of `memberships`, None if none is."""
    tiers = [name for prefix, name in map(split_subject, memberships) if prefix == "tier"]
    return Tier(tiers[0]) if tiers else None
