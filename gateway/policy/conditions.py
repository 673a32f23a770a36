"""Whether a term of a rule's condition holds."""

from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from gateway.domain.condition import (
    Approval,
    Attribute,
    Compare,
    Condition,
    Consent,
    From,
    Hours,
    Rate,
    RiskAtMost,
    Term,
    Until,
)
from gateway.domain.decision import Effect, Reason
from gateway.domain.request import Facts
from gateway.policy.comparisons import holds
from gateway.policy.hours import within


@dataclass(frozen=True, slots=True)
class Met:
    """The term holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmet:
    """The term does not hold: why, as a word and as a sentence."""

    reason: Reason
    sentence: str


MET = Met()


def meet(term: Term, facts: Facts, *, effect: Effect = Effect.ALLOW, rule_id: str = "") -> Met | Unmet:
    """Tell whether `term` holds; never raises.

    What cannot be told (an attribute is missing or of another type, or telling fails) is unmet for an
    allow and met for a deny.
    """
    # SECURITY: whatever goes wrong here must fall to the refusing side of the rule that asked.
    try:
        return _meet(term, facts, rule_id)
    except Exception as error:  # noqa: BLE001 (see above)
        if effect is Effect.ALLOW:
            return Unmet(reason=Reason.CONDITION, sentence=f"cannot be told: {error}")
        return MET


def unmet_terms(
    condition: Condition, facts: Facts, *, effect: Effect, rule_id: str = ""
) -> tuple[tuple[str, Unmet], ...]:
    """Give every term that does not hold with its text; empty means the rule speaks."""
    unmet: list[tuple[str, Unmet]] = []
    for text, term in condition.terms:
        answer = meet(term, facts, effect=effect, rule_id=rule_id)
        if isinstance(answer, Unmet):
            unmet.append((text, answer))
    return tuple(unmet)


def _meet(term: Term, facts: Facts, rule_id: str) -> Met | Unmet:  # noqa: PLR0911 (one answer for each term)
    if facts.at.tzinfo is None:
        raise ValueError("the moment has no time zone")
    match term:
        case Consent():
            return _met_if(facts.consent_id is not None, Reason.CONSENT_REQUIRED, "the user has not consented")
        case Approval():
            return _met_if(facts.approval_id is not None, Reason.APPROVAL_REQUIRED, "nobody has approved this call")
        case RiskAtMost(score=score):
            return _met_if(
                facts.risk <= score, Reason.RISK_TOO_HIGH, "the risk is {}, at most {} is allowed", facts.risk, score
            )
        case Hours():
            name = f"`{term.name}`" if term.name else "the hours"
            return _met_if(within(term, facts.at), Reason.CONDITION, "it is outside {}", name)
        case Rate(count=count, per_s=per_s):
            used = facts.used(rule_id, term)
            return _met_if(used < count, Reason.RATE_LIMITED, "{} of {} calls in {} s are used", used, count, per_s)
        case From(at=at):
            return _met_if(facts.at >= at, Reason.CONDITION, "it begins at {}", at)
        case Until(at=at):
            return _met_if(facts.at < at, Reason.CONDITION, "it ended at {}", at)
        case Compare():
            return _met_if(
                holds(term, facts.attributes), Reason.CONDITION, "{} is not what the rule asks for", term.left
            )
        case _:
            assert_never(term)


def _met_if(true: bool, reason: Reason, sentence: str, *parts: object) -> Met | Unmet:  # noqa: FBT001 (it is the question itself)
    # WHY: most terms hold, so their sentences are not spelt before one is needed.
    return MET if true else Unmet(reason=reason, sentence=sentence.format(*map(_spelt, parts)))


def _spelt(part: object) -> str:
    if isinstance(part, datetime):
        return part.isoformat()
    return f"`{'.'.join(part.path)}`" if isinstance(part, Attribute) else str(part)
