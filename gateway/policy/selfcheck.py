"""A policy's own proof: stock Casbin, our enforcer and the policy set answer the same questions."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.domain.decision import Effect
from gateway.domain.names import Subject
from gateway.domain.permission import KNOWN_KINDS, LEVELS, Kind
from gateway.domain.request import AccessRequest, Facts, Json
from gateway.domain.scope import is_canonical
from gateway.errors import MalformedError
from gateway.policy.encode import decode_field
from gateway.policy.engine import PolicySet
from gateway.policy.stock import QuietFacts, asked_values, build_stock

Choose = Callable[[Sequence[Any]], Any]
_ENDS = ("", "/below", "x")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A question that was answered in two ways; each answer with the id of the rule that explains it."""

    request: AccessRequest
    stock: str
    enforcer: str
    policy_set: str

    def as_json(self) -> dict[str, Json]:
        """Give the question and the answers."""
        request = self.request
        return {
            "subject": request.subject, "kind": request.kind, "level": request.level, "scope": request.scope,
            "stock": self.stock, "enforcer": self.enforcer, "policy_set": self.policy_set,
        }  # fmt: skip


def differences(policy: PolicySet, requests: Iterable[AccessRequest], facts: Facts) -> Iterator[Difference]:
    """Ask stock Casbin and ours, and give where they differ."""
    own = None if policy.parsed.model.is_shipped else policy.parsed.model
    shipped = build_stock(policy.rules, policy.roles, policy.calendars)
    stock = shipped if own is None else build_stock(policy.rules, policy.roles, policy.calendars, own)
    quiet = QuietFacts(
        at=facts.at, risk=facts.risk, consent_id=facts.consent_id, approval_id=facts.approval_id, used=facts.used,
        attributes=facts.attributes,
    )  # fmt: skip
    for request in requests:
        values = asked_values(request, quiet)
        if own is not None and request.kind == Kind.GATEWAY:
            one = other = _told(shipped.enforce_ex(*values))  # by which it goes whatever the own one says
        else:
            one, other = _told(stock.enforce_ex(*values)), _told(policy.enforcer.enforce_ex(*values))
        effect = policy.decide(request, facts).effect.value
        if one != other or one.partition(" ")[0] != effect:
            yield Difference(request=request, stock=one, enforcer=other, policy_set=effect)


def _told(answer: tuple[bool, Sequence[str]]) -> str:
    allowed, row = answer
    effect = Effect.ALLOW.value if allowed else Effect.DENY.value
    return f"{effect} by {row[0]}" if row else effect


def draw_request(policy: PolicySet, choose: Choose) -> AccessRequest:
    """Make up a question about what the rules speak of; `choose` picks one of several."""
    rule = choose(policy.rules)
    kind = rule.kind if rule.kind != "*" else choose(sorted(KNOWN_KINDS))
    level = choose([*LEVELS]) if kind in KNOWN_KINDS else choose([rule.level, "other"])
    subjects = [rule.subject, *policy.roles.parents]
    subject = _decoded(choose([rule.subject, choose(subjects)]))
    scope = _below(choose([rule.scope, choose(policy.rules).scope]), choose)
    if not is_canonical(kind, scope):
        scope = _below(rule.scope, lambda items: items[0])
    return AccessRequest(subject=Subject(subject), user=None, kind=kind, level=level, scope=scope)


def _decoded(subject: str) -> str:
    try:
        return decode_field(subject)
    except MalformedError:
        return subject


def _below(pattern: str, choose: Choose) -> str:
    if pattern == "*":
        return "any"
    if pattern.startswith("*."):
        return "any" + pattern[1:]
    return pattern.removesuffix("/*") + (choose(_ENDS) if pattern.endswith("/*") else "") or "/any"
