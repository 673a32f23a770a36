"""The policy set: immutable rules that give a verdict on a request."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.domain.condition import Hours
from gateway.domain.decision import Effect, Reason, Verdict
from gateway.domain.names import split_subject
from gateway.domain.permission import Kind
from gateway.domain.request import AccessRequest, Facts, Json
from gateway.domain.risk import Risk, Tier
from gateway.domain.scope import covers, is_canonical
from gateway.errors import MalformedError, PolicyBrokenError
from gateway.policy.approval import ApprovalRules
from gateway.policy.compiled import MOST_KEPT, Compiled
from gateway.policy.encode import encode_field
from gateway.policy.enforcer import GateEnforcer
from gateway.policy.entities import Entities, attributes_of
from gateway.policy.own_model import OwnModel
from gateway.policy.parse import ParsedPolicy
from gateway.policy.pauses import Pause, never, paced
from gateway.policy.roles import Roles, build_roles
from gateway.policy.rule import Rule, kind_matches, level_matches
from gateway.policy.score import RiskTable
from gateway.policy.stock import QuietFacts, build_enforcer, check_casbin, derive_enforcer, row_of, stock_allows
from gateway.policy.text import GRANTS
from gateway.policy.verdict import NOBODY_COVERS, Covering

__all__ = ["PolicySet", "build_policy_set", "check_casbin"]
LOGGER = logging.getLogger("hearthgate.policy")
_ERROR = Verdict(effect=Effect.DENY, reason=Reason.ERROR)
_LONGEST_KEPT = 200  # characters of a scope, so that what is kept stays small
Question = tuple[str, str, str, str]  # subject as asked, kind, level, scope


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySet:
    """A policy in force, or ready to be: every decision is asked of one of these."""

    parsed: ParsedPolicy
    roles: Roles
    generation: int
    enforcer: GateEnforcer
    numbered: Sequence[Rule | None]  # the rules by the numbers the enforcer knows them by; None is gone
    judged: bool = False  # whether its cases were judged, and all hold
    _compiled: Compiled | None = field(init=False, repr=False, compare=False)
    _own: OwnModel | None = field(init=False, repr=False, compare=False)
    _kept: dict[Question, Covering] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        model, own = self.parsed.model, None
        if not model.is_shipped:
            own = OwnModel(model, self.enforcer, [rule for rule in self.numbered if rule is not None], self.roles)
        object.__setattr__(self, "_own", own)
        object.__setattr__(self, "_compiled", self.enforcer.compiled() if own is None else None)

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

    @property
    def fallback_reason(self) -> str | None:
        """Why each request is answered slowly, rule by rule; None if the rules are compiled."""
        return self.enforcer.fallback_reason

    def with_memberships(self, memberships: Mapping[str, tuple[str, ...]], generation: int) -> "PolicySet":
        """Give the same rules with other memberships; what the rules were compiled to is shared."""
        if self._compiled is None:
            return build_policy_set(self.parsed, memberships=memberships, generation=generation)
        roles = self.roles.with_added(memberships)
        compiled = self._compiled.with_closures({"g": roles.closure})
        rows = [*self.enforcer.model["p"]["p"].policy]
        enforcer = derive_enforcer(rows, roles, self.calendars, compiled)
        return PolicySet(
            parsed=self.parsed, roles=roles, generation=generation, enforcer=enforcer, numbered=self.numbered
        )

    def with_rules(
        self, parsed: ParsedPolicy, *, gone: Collection[int], new: Mapping[int, Rule], generation: int
    ) -> "PolicySet":
        """Give the set of `parsed`, which differs by few rules: numbers that are gone, and rules by number.

        A rule under a number of today must differ in its place alone; further ones follow in their order.
        """
        compiled = self._compiled
        if compiled is None:
            return build_policy_set(parsed, memberships=self.memberships, generation=generation)
        added = [number for number in new if number >= len(self.numbered)]
        rows = [*compiled.rows, *[()] * len(added)]
        for number, rule in new.items():
            rows[number] = row_of(rule)
        # WHY: while no number is left out the rules are their own list, and each copy touches every rule there is.
        shared = not gone and len(added) == len(new) and len(self.numbered) == len(self.rules)
        numbered = parsed.rules if shared else self._renumbered(gone, new, added)
        compiled = compiled.with_rows(rows, added=added, dropped=gone)
        left = [*self.enforcer.model["p"]["p"].policy, *(rows[number] for number in added)]
        if gone:
            first = min(gone)
            before = sum(rule is not None for rule in self.numbered[first:])
            left = left[: len(self.enforcer.model["p"]["p"].policy) - before]
            left += [rows[number] for number in range(first, len(rows)) if numbered[number] is not None]
        enforcer = derive_enforcer(left, self.roles, parsed.calendars, compiled)
        return PolicySet(parsed=parsed, roles=self.roles, generation=generation, enforcer=enforcer, numbered=numbered)

    def _renumbered(
        self, gone: Collection[int], new: Mapping[int, Rule], added: Collection[int]
    ) -> Sequence[Rule | None]:
        numbered = [*self.numbered, *[None] * len(added)]
        for number, rule in new.items():
            numbered[number] = rule
        for number in gone:
            numbered[number] = None
        return numbered

    def grants(self) -> list[tuple[int, Rule]]:
        """Give the numbered rules that approvals wrote: they are the last of a set."""
        found: list[tuple[int, Rule]] = []
        for number in range(len(self.numbered) - 1, -1, -1):
            rule = self.numbered[number]
            if rule is not None and not rule.is_grant:
                break
            if rule is not None:
                found.append((number, rule))
        return found[::-1]

    def pieces(self) -> list[list[Any]]:
        """Give most of what the set consists of, so that it can be freed a little at a time."""
        trees = [] if self._compiled is None else [*self._compiled.tree.values()]
        return [[*self.numbered], trees, [*self._kept.values()], [*self.parsed.problems], [*self.parsed.memberships]]

    def numbers_of(self, subject: str) -> Iterable[int]:
        """Give the numbers of the rules that name `subject`, as written, itself."""
        if self._compiled is None:
            return [number for number, rule in enumerate(self.rules) if rule.subject == subject]
        kinds = self._compiled.tree.get(subject, {})
        return [number for scopes in kinds.values() for numbers in scopes.values() for number in numbers]

    def rules_of(self, subject: str) -> tuple[Rule, ...]:
        """Give the rules that name `subject`, as written, itself."""
        found = (self.numbered[number] for number in sorted(self.numbers_of(subject)))
        return tuple(rule for rule in found if rule is not None)

    def decide(self, request: AccessRequest, facts: Facts) -> Verdict:
        """Give the verdict; never raises."""
        # SECURITY: whatever goes wrong while deciding is a deny.
        try:
            covering = self._covering((request.subject, request.kind, request.level, request.scope))
            if self._own is not None and request.kind != Kind.GATEWAY:
                return self._own.decide(request, facts, covering)
            if self._compiled is None and self._own is None:
                return self._decide_beside_stock(request, facts, covering)
            return covering.judge(facts)
        except MalformedError:
            return _ERROR
        except Exception as error:  # noqa: BLE001 (see above)
            # WHY: only the type: a message may hold what a person wrote.
            LOGGER.error("deciding failed: %s", type(error).__name__)  # noqa: TRY400 (same)
            return _ERROR

    def candidates(self, request: AccessRequest) -> tuple[Rule, ...]:
        """Give the rules that cover `request`, whatever their conditions say, in their order."""
        try:
            return self._covering((request.subject, request.kind, request.level, request.scope)).rules
        except MalformedError:
            return ()

    def _covering(self, question: Question) -> Covering:
        # INVARIANT: what is kept depends on nothing but this set, and conditions are asked anew each time.
        kept = self._kept.get(question)
        return self._find_covering(question) if kept is None else kept

    def _find_covering(self, question: Question) -> Covering:
        subject, kind, level, scope = question
        if not is_canonical(kind, scope):
            raise MalformedError("a request for a scope that is not canonical")
        compiled, numbered = self._compiled, self.numbered
        # SECURITY: what people may do to the gateway itself goes by the shipped model, whatever an own one says.
        if self._own is not None and kind != Kind.GATEWAY:
            return Covering(self._own.covering(question))
        covering = NOBODY_COVERS
        if compiled is None:
            covering = Covering(self._scan(question))
            is_known = bool(covering.rules)
        else:
            # WHY: None stands for the facts, which no lasting test of the shipped matcher reads.
            encoded = encode_field(subject)
            numbers = compiled.matching((encoded, kind, level, scope, None))
            if numbers:
                covering = Covering([rule for number in numbers if (rule := numbered[number]) is not None])
            is_known = compiled.knows(encoded)
        # SECURITY: nothing is kept of strangers, and of nobody more than a little.
        if len(scope) <= _LONGEST_KEPT and is_known:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            self._kept[question] = covering
        return covering

    def _scan(self, question: Question) -> tuple[Rule, ...]:
        subject, kind, level, scope = question
        closure = self.roles.closure(encode_field(subject))
        return tuple(
            rule
            for rule in self.rules
            if rule.subject in closure
            and kind_matches(kind, rule.kind)
            and level_matches(kind, level, rule.level, rule.effect)
            and covers(rule.scope, scope)
        )

    def _decide_beside_stock(self, request: AccessRequest, facts: Facts, covering: Covering) -> Verdict:
        # INVARIANT: the answer is stock Casbin's; ours explains it. If they differ nobody may pass.
        verdict = covering.judge(facts)
        counted = verdict.counters
        quiet = QuietFacts(
            at=facts.at, risk=facts.risk, consent_id=facts.consent_id, approval_id=facts.approval_id,
            used=lambda rule_id, rate: counted[rule_id] if rule_id in counted else facts.used(rule_id, rate),
            attributes=facts.attributes,
        )  # fmt: skip
        if stock_allows(self.enforcer, request, quiet) is not (verdict.effect is Effect.ALLOW):
            LOGGER.critical("casbin and its explanation differ on kind %s of %s", request.kind, self.version)
            return _ERROR
        return verdict


def build_policy_set(
    parsed: ParsedPolicy, *, memberships: Mapping[str, tuple[str, ...]], generation: int, pause: Pause = never
) -> PolicySet:
    """Build a policy set aside; nothing in force is touched.

    Raises:
        PolicyBrokenError: the text has errors.

    """
    if not parsed.ok:
        raise PolicyBrokenError("the policy has errors", problems=parsed.errors)
    roles = build_roles(parsed.memberships, memberships)
    rows = [row_of(rule) for rule in paced(parsed.rules, pause)]
    enforcer = build_enforcer(rows, roles, parsed.calendars, parsed.model)
    enforcer.compiled(pause)
    return PolicySet(parsed=parsed, roles=roles, generation=generation, enforcer=enforcer, numbered=parsed.rules)


def without_grants(parsed: ParsedPolicy) -> ParsedPolicy:
    """Give the same policy without what approvals granted."""
    count = len(parsed.rules)
    while count and parsed.rules[count - 1].is_grant:
        count -= 1
    return replace(parsed, text=parsed.text.with_file(GRANTS, None), rules=parsed.rules[:count])
