"""The policy set: immutable rules that give a verdict on a request."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gateway.domain.condition import Hours, Rate
from gateway.domain.decision import Charge, Effect, NearMiss, Reason, RuleRef, Verdict
from gateway.domain.names import split_subject
from gateway.domain.permission import KNOWN_KINDS
from gateway.domain.request import AccessRequest, Facts, Json
from gateway.domain.risk import Risk, Tier
from gateway.domain.scope import canonical_scope, covers
from gateway.errors import HearthgateError, PolicyBrokenError
from gateway.policy.approval import ApprovalRules
from gateway.policy.conditions import Unmet, unmet_terms
from gateway.policy.encode import encode_field
from gateway.policy.entities import Entities, attributes_of
from gateway.policy.parse import ParsedPolicy
from gateway.policy.roles import Roles, build_roles
from gateway.policy.rule import Rule, kind_matches, level_matches
from gateway.policy.score import RiskTable
from gateway.policy.stock import StockCasbin, check_casbin
from gateway.policy.text import GRANTS

__all__ = ["PolicySet", "build_policy_set", "check_casbin"]
LOGGER = logging.getLogger("hearthgate.policy")
_ERROR = Verdict(effect=Effect.DENY, reason=Reason.ERROR)
Misses = Sequence[tuple[Rule, tuple[tuple[str, Unmet], ...]]]


class _QuietFacts(Facts):
    """Facts that Casbin's request log cannot spell out."""

    __slots__ = ()

    def __str__(self) -> str:
        return "facts"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySet:
    """A policy in force, or ready to be: every decision is asked of one of these."""

    parsed: ParsedPolicy
    roles: Roles
    generation: int
    by_subject: Mapping[str, tuple[tuple[int, Rule], ...]]
    stock: StockCasbin

    @property
    def version(self) -> str:
        """The name of the text it was built from."""
        return self.parsed.version

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Every rule in the order in which the files are merged."""
        return self.parsed.rules

    @property
    def calendars(self) -> Mapping[str, Hours]:
        """The named hours of conditions.toml."""
        return self.parsed.calendars

    @property
    def risk_table(self) -> RiskTable:
        """What risk.toml says."""
        return self.parsed.risk

    @property
    def approval(self) -> ApprovalRules:
        """What approval.toml says."""
        return self.parsed.approval

    @property
    def entities(self) -> Entities:
        """What entities.toml says."""
        return self.parsed.entities

    @property
    def memberships(self) -> Mapping[str, tuple[str, ...]]:
        """What the gateway's registry says who belongs to."""
        return self.roles.added

    def attributes(
        self, request: AccessRequest, sent: Mapping[str, Mapping[str, Json]]
    ) -> dict[str, Mapping[str, Json]]:
        """Give the attributes for `Facts`: what is stored wins over what was sent."""
        return attributes_of(request, self.entities, sent)

    def score(self, request: AccessRequest, *, plugin_tier: Tier | None = None) -> Risk:
        """Score a request; the tier of the plugin that asks is its registered one unless told."""
        tier = plugin_tier or self.tier_of(request.subject)
        return self.risk_table.score_request(request.kind, request.level, request.scope, plugin_tier=tier)

    def tier_of(self, subject: str) -> Tier | None:
        """Give the tier that the gateway put `subject` into, None if into none."""
        names = [name for prefix, name in map(split_subject, self.memberships.get(subject, ())) if prefix == "tier"]
        return Tier(names[0]) if names else None

    def with_memberships(self, memberships: Mapping[str, tuple[str, ...]], generation: int) -> "PolicySet":
        """Give the same rules with other memberships."""
        return build_policy_set(self.parsed, memberships=memberships, generation=generation)

    def decide(self, request: AccessRequest, facts: Facts) -> Verdict:
        """Give the verdict; never raises."""
        # SECURITY: whatever goes wrong while deciding is a deny.
        try:
            return self._decide(request, facts)
        except Exception as error:  # noqa: BLE001 (see above)
            # WHY: only the type: a message may hold what a person wrote.
            LOGGER.error("deciding failed: %s", type(error).__name__)  # noqa: TRY400 (same)
            return _ERROR

    def _decide(self, request: AccessRequest, facts: Facts) -> Verdict:
        if not _is_canonical(request):
            return _ERROR
        counters: dict[str, int] = {}
        facts = _counting(facts, counters)
        verdict = self._judge(request, facts)
        # INVARIANT: the answer is stock Casbin's; ours explains it. If they differ nobody may pass.
        if self.stock.allows(request, facts) is not (verdict.effect is Effect.ALLOW):
            LOGGER.critical("casbin and its explanation differ on kind %s of %s", request.kind, self.version)
            return _ERROR
        return replace(verdict, counters=counters)

    def _judge(self, request: AccessRequest, facts: Facts) -> Verdict:
        spoke: list[Rule] = []
        misses: list[tuple[Rule, tuple[tuple[str, Unmet], ...]]] = []
        for rule in self.candidates(request):
            unmet = unmet_terms(rule.condition, facts, effect=rule.effect, rule_id=rule.id)
            if not unmet:
                spoke.append(rule)
            elif rule.effect is Effect.ALLOW:
                misses.append((rule, unmet))
        return _verdict(spoke, misses)

    def candidates(self, request: AccessRequest) -> tuple[Rule, ...]:
        """Give the rules that cover `request`, whatever their conditions say, in their order."""
        closure = self.roles.closure(encode_field(request.subject))
        found = [
            (number, rule)
            for subject in closure
            for number, rule in self.by_subject.get(subject, ())
            if kind_matches(request.kind, rule.kind)
            and level_matches(request.kind, request.level, rule.level, rule.effect)
            and covers(rule.scope, request.scope)
        ]
        return tuple(rule for _, rule in sorted(found, key=lambda pair: pair[0]))


def build_policy_set(parsed: ParsedPolicy, *, memberships: Mapping[str, tuple[str, ...]], generation: int) -> PolicySet:
    """Build a policy set aside; nothing in force is touched.

    Raises:
        PolicyBrokenError: the text has errors.

    """
    if not parsed.ok:
        raise PolicyBrokenError("the policy has errors", problems=parsed.errors)
    roles = build_roles(parsed.memberships, memberships)
    by_subject: dict[str, list[tuple[int, Rule]]] = {}
    for number, rule in enumerate(parsed.rules):
        by_subject.setdefault(rule.subject, []).append((number, rule))
    return PolicySet(
        parsed=parsed,
        roles=roles,
        generation=generation,
        by_subject={subject: tuple(rules) for subject, rules in by_subject.items()},
        stock=StockCasbin(parsed.rules, roles, parsed.calendars),
    )


def without_grants(parsed: ParsedPolicy) -> ParsedPolicy:
    """Give the same policy without what approvals granted."""
    return replace(
        parsed,
        text=parsed.text.with_file(GRANTS, None),
        rules=tuple(rule for rule in parsed.rules if not rule.is_grant),
    )


def _is_canonical(request: AccessRequest) -> bool:
    if request.kind not in KNOWN_KINDS:
        return "*" not in request.scope
    try:
        return canonical_scope(request.kind, request.scope) == request.scope
    except HearthgateError:
        return False


def _counting(facts: Facts, counters: dict[str, int]) -> Facts:
    def used(rule_id: str, rate: Rate) -> int:
        if rule_id not in counters:
            counters[rule_id] = facts.used(rule_id, rate)
        return counters[rule_id]

    return _QuietFacts(
        at=facts.at,
        risk=facts.risk,
        consent_id=facts.consent_id,
        approval_id=facts.approval_id,
        used=used,
        attributes=facts.attributes,
    )


def _verdict(spoke: Sequence[Rule], misses: Misses) -> Verdict:
    said: tuple[tuple[RuleRef, Effect], ...] = tuple((rule.ref, rule.effect) for rule in spoke)
    near = tuple(_near_miss(rule, unmet) for rule, unmet in misses)
    denies = [rule for rule in spoke if rule.effect is Effect.DENY]
    allows = [rule for rule in spoke if rule.effect is Effect.ALLOW]
    if denies:
        return Verdict(effect=Effect.DENY, reason=Reason.RULE, rule=denies[0].ref, near_misses=near, spoke=said)
    if allows:
        return Verdict(
            effect=Effect.ALLOW, reason=Reason.RULE, rule=allows[0].ref, near_misses=near, spoke=said,
            charge=_charge(allows[0]),
        )  # fmt: skip
    if misses:
        rule, unmet = min(misses, key=lambda miss: len(miss[1]))
        return Verdict(effect=Effect.DENY, reason=unmet[0][1].reason, rule=rule.ref, near_misses=near, spoke=said)
    return Verdict(effect=Effect.DENY, reason=Reason.NO_RULE, spoke=said)


def _near_miss(rule: Rule, unmet: tuple[tuple[str, Unmet], ...]) -> NearMiss:
    return NearMiss(
        rule=rule.ref,
        unmet=tuple(text for text, _ in unmet),
        reasons=tuple(answer.sentence for _, answer in unmet),
    )


def _charge(rule: Rule) -> Charge | None:
    rate = rule.condition.rate
    return None if rate is None else Charge(rule_id=rule.id, rate=rate)
