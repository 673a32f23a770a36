"""Whether a term of a rule's condition holds."""

from dataclasses import dataclass
from typing import assert_never

from gateway.domain.condition import (
    Approval,
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
    answers = ((text, meet(term, facts, effect=effect, rule_id=rule_id)) for text, term in condition.terms)
    return tuple((text, answer) for text, answer in answers if isinstance(answer, Unmet))


def _meet(term: Term, facts: Facts, rule_id: str) -> Met | Unmet:  # noqa: PLR0911 (one answer for each term)
    if facts.at.tzinfo is None:
        raise ValueError("the moment has no time zone")
    match term:
        case Consent():
            return _met_if(facts.consent_id is not None, Reason.CONSENT_REQUIRED, "the user has not consented")
        case Approval():
            return _met_if(facts.approval_id is not None, Reason.APPROVAL_REQUIRED, "nobody has approved this call")
        case Hours():
            name = f"`{term.name}`" if term.name else "the hours"
            return _met_if(within(term, facts.at), Reason.CONDITION, f"it is outside {name}")
        case Rate(count=count, per_s=per_s):
            used = facts.used(rule_id, term)
            return _met_if(used < count, Reason.RATE_LIMITED, f"{used} of {count} calls in {per_s} s are used")
        case RiskAtMost(score=score):
            return _met_if(
                facts.risk <= score, Reason.RISK_TOO_HIGH, f"the risk is {facts.risk}, at most {score} is allowed"
            )
        case From(at=at):
            return _met_if(facts.at >= at, Reason.CONDITION, f"it begins at {at.isoformat()}")
        case Until(at=at):
            return _met_if(facts.at < at, Reason.CONDITION, f"it ended at {at.isoformat()}")
        case Compare():
            path = ".".join(term.left.path)
            return _met_if(holds(term, facts.attributes), Reason.CONDITION, f"`{path}` is not what the rule asks for")
        case _:
            assert_never(term)


def _met_if(true: bool, reason: Reason, sentence: str) -> Met | Unmet:  # noqa: FBT001 (it is the question itself)
    return MET if true else Unmet(reason=reason, sentence=sentence)
