"""A decision: the policy's answer to one request, with the rule that caused it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache

import msgspec
from msgspec import Struct

from gateway.domain.condition import Rate
from gateway.domain.request import AccessRequest, Json
from gateway.domain.risk import Risk

_encode = msgspec.json.Encoder().encode


class Effect(StrEnum):
    """The two answers."""

    ALLOW = "allow"
    DENY = "deny"


class Reason(StrEnum):
    """Why the answer is what it is."""

    RULE = "rule"
    NO_RULE = "no_rule"
    CONSENT_REQUIRED = "consent_required"
    APPROVAL_REQUIRED = "approval_required"
    RATE_LIMITED = "rate_limited"
    RISK_TOO_HIGH = "risk_too_high"
    CONDITION = "condition"
    INACTIVE = "inactive"
    LOCKED_DOWN = "locked_down"
    HELD = "held"
    NO_POLICY = "no_policy"
    ERROR = "error"


class RuleRef(Struct, frozen=True, kw_only=True):
    """A rule as a person finds it."""

    id: str
    file: str
    line: int
    why: str = ""

    def as_json(self) -> dict[str, Json]:
        """Give the wire shape."""
        return {"id": self.id, "file": self.file, "line": self.line, "why": self.why}


class NearMiss(Struct, frozen=True, kw_only=True):
    """A rule that would have allowed but for a condition; `unmet` are the terms as written."""

    rule: RuleRef
    unmet: tuple[str, ...]
    reasons: tuple[str, ...] = ()  # a sentence for each unmet term

    def as_json(self) -> dict[str, Json]:
        """Give the wire shape."""
        return {
            "id": self.rule.id,
            "file": self.rule.file,
            "line": self.rule.line,
            "unmet": list(self.unmet),
            "reasons": list(self.reasons),
        }


class Charge(Struct, frozen=True, kw_only=True):
    """A rate that an allow uses up, taken between deciding and recording."""

    rule_id: str
    rate: Rate


class Verdict(Struct, frozen=True, kw_only=True):
    """What the rules say, before it is given an id and a time."""

    effect: Effect
    reason: Reason
    rule: RuleRef | None = None
    near_misses: tuple[NearMiss, ...] = ()
    spoke: tuple[tuple[RuleRef, Effect], ...] = ()  # every rule that matched with its conditions met
    counters: Mapping[str, int] = {}  # rule id -> how much of its rate was used
    charge: Charge | None = None


class Decision(Struct, frozen=True, kw_only=True):
    """A verdict with all that is needed to find, explain and replay it."""

    decision_id: str
    at: datetime
    request: AccessRequest
    verdict: Verdict
    risk: Risk
    policy_version: str
    generation: int
    consent_id: str | None = None
    approval_id: str | None = None
    degraded: tuple[str, ...] = ()  # guarantees that the host lacks and the operator accepts to be missing
    dry_run: bool = False
    mode: str = "enforce"
    judged_by: Mapping[str, Json] = {}  # the facts, for replay; no part of the wire shape

    @property
    def allowed(self) -> bool:
        """Whether the answer is allow; anything else is a deny."""
        return self.verdict.effect is Effect.ALLOW

    def as_json(self) -> dict[str, Json]:
        """Give the wire shape of contract section 4."""
        request, verdict = self.request, self.verdict
        body: dict[str, Json] = {
            "decision_id": self.decision_id,
            "effect": verdict.effect.value,
            "reason": verdict.reason.value,
            "rule": verdict.rule.as_json() if verdict.rule else None,
            "near_misses": [miss.as_json() for miss in verdict.near_misses],
            "spoke": [{**rule.as_json(), "effect": effect.value} for rule, effect in verdict.spoke],
            "subject": request.subject,
            "user": request.user,
            "permission": request.permission,
            "kind": request.kind,
            "level": request.level,
            "scope": request.scope,
            "risk": self.risk.as_json(),  # type: ignore[dict-item] # its members are Json by construction
            "policy_version": self.policy_version,
            "generation": self.generation,
            "mode": self.mode,
            "at": timestamp(self.at),
            "dry_run": self.dry_run,
        }
        if self.consent_id is not None:
            body["consent_id"] = self.consent_id
        if self.approval_id is not None:
            body["approval_id"] = self.approval_id
        if self.degraded:
            body["degraded"] = [*self.degraded]
        return body


@lru_cache(256)
def timestamp(at: datetime) -> str:
    """Spell a moment as UTC RFC 3339 with microseconds and `Z`."""
    in_utc = at if at.tzinfo is UTC else at.astimezone(UTC)
    if not in_utc.microsecond:
        return in_utc.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"
    return _encode(in_utc)[1:-1].decode()  # WHY: a tenth of the time of `isoformat`; it leaves out a fraction of 0
