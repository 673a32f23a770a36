"""The facts a decision was judged by: kept with its record, and taken from it to judge again.

What a record does not hold is never guessed: a decision that needs it cannot be replayed.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from gateway.domain.condition import Attribute, Compare
from gateway.domain.decision import Charge, Effect, Reason, Verdict
from gateway.domain.names import Subject, UserId, split_subject
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


class KeptFacts(Struct, frozen=True, kw_only=True, gc=False):
    """The facts of a decision as its record holds them, the inverse of `kept_facts`."""

    at: datetime
    risk: int = 0
    consent_id: str | None = None
    approval_id: str | None = None
    counters: dict[str, int] = {}
    rates: dict[str, int] = {}  # rule id -> the seconds its counter was over
    memberships: tuple[str, ...] = ()
    attributes: dict[str, Any] = {}  # `root.name` -> any JSON
    unkept: frozenset[str] = frozenset()  # roots of which more was sent than is kept
    absent: frozenset[str] = frozenset()  # paths of these that were asked for and not sent
    held: frozenset[str] = frozenset()  # grants that were revoked already

    @property
    def sent(self) -> Sent:
        """What was sent, as far as it is kept, by its root."""
        found: dict[str, dict[str, Json]] = {}
        for path, value in self.attributes.items():
            root, _, name = path.partition(".")
            found.setdefault(root, {})[name] = value
        return found


class Recorded(Struct, frozen=True, kw_only=True, gc=False):
    """A decision as its record tells it."""

    decision_id: str
    subject: str
    user: str | None
    kind: str
    level: str
    scope: str
    allowed: bool
    reason: Reason
    facts: KeptFacts
    policy_version: str
    rule_id: str | None = None
    dry_run: bool = False

    @property
    def request(self) -> AccessRequest:
        """What was asked."""
        user = None if self.user is None else UserId(self.user)
        return AccessRequest(
            subject=Subject(self.subject), user=user, kind=self.kind, level=self.level, scope=self.scope
        )


def kept_facts(facts: Facts, verdict: Verdict, rules: Sequence[Rule], sent: Sent) -> dict[str, Json]:
    """Give what a record must hold so that its decision can be judged again; `rules` are its candidates.

    Of what was sent only those attributes are kept that a rule asks for.
    """
    found: dict[str, Json] = {
        "risk": facts.risk,
        "consent_id": facts.consent_id,
        "approval_id": facts.approval_id,
    }
    # WHY: an empty member tells nothing, and every byte is kept for years.
    if verdict.counters:
        found["counters"] = dict(verdict.counters)
    conditional = [rule for rule in rules if rule.condition.terms]
    if not conditional and not any(sent.values()):
        return found
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


def judge_again(policy: PolicySet, recorded: Recorded) -> Verdict:
    """Judge a recorded decision by `policy`, which has the memberships of its time.

    Raises:
        NotKeptError: the record lacks a fact that a rule asks for.
    """
    return Asked(policy, recorded.request).judge(policy, recorded)


class Asked:
    """A question that was recorded, maybe often: the rules of one policy that cover it, and the facts they need."""

    __slots__ = ("_always", "_attributes", "_rates", "_request", "_unconditional", "rules")

    def __init__(self, policy: PolicySet, request: AccessRequest) -> None:
        self.rules = policy.candidates(request)
        self._request = request
        self._rates = [(rule.id, rule.condition.rate.per_s) for rule in self.rules if rule.condition.rate is not None]
        self._attributes = [path for rule in self.rules for path in attribute_paths(rule)]
        self._unconditional = not any(rule.condition.terms for rule in self.rules)
        self._always: Verdict | None = None  # what no fact changes

    def judge(self, policy: PolicySet, recorded: Recorded, *, risk: int | None = None) -> Verdict:
        """Judge one of its records by that same policy; `risk` stands in for the recorded.

        Raises:
            NotKeptError: the record lacks a fact that a rule asks for.
        """
        if recorded.reason in UNRULED:
            return Verdict(effect=Effect.DENY, reason=recorded.reason)
        facts = recorded.facts
        verdict = self._always or self._judge(policy, facts, facts.risk if risk is None else risk)
        return pass_over_held(self.rules, verdict, facts.held) if facts.held else verdict

    def _judge(self, policy: PolicySet, kept: KeptFacts, risk: int) -> Verdict:
        known: Mapping[str, Mapping[str, Json]] = {}
        if self._attributes:
            known = policy.attributes(self._request, kept.sent)
            for path in self._attributes:
                _check_attribute(path, kept, known)
        for rule_id, per_s in self._rates:
            if rule_id not in kept.counters or kept.rates.get(rule_id) != per_s:
                raise NotKeptError(f"how much of the rate of `{rule_id}` was used")
        facts = Facts(
            at=kept.at,
            risk=risk,
            consent_id=kept.consent_id,
            approval_id=kept.approval_id,
            used=lambda rule_id, _rate: kept.counters[rule_id],
            attributes=known,
        )
        verdict = policy.decide(self._request, facts)
        if self._unconditional:
            self._always = verdict
        return verdict


def _check_attribute(path: tuple[str, ...], kept: KeptFacts, known: Sent) -> None:
    root, name = path[0], path[1]
    if root in kept.unkept and f"{root}.{name}" not in kept.absent and name not in known.get(root, {}):
        raise NotKeptError(f"the attribute `{'.'.join(path)}`")


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
