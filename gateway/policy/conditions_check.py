"""What a condition may not say in a rule of its effect."""

from collections.abc import Iterator

from gateway.domain.condition import Approval, Condition, Consent, Rate, RiskAtMost
from gateway.domain.decision import Effect

_NEVER_IN_A_DENY = {Consent: "consent", Approval: "approval", Rate: "rate", RiskAtMost: "risk"}


def check_condition(condition: Condition, effect: Effect | None) -> Iterator[str]:
    """Give a sentence for every term that nobody means in a rule of this effect."""
    if effect is not Effect.DENY:
        return
    for text, term in condition.terms:
        word = _NEVER_IN_A_DENY.get(type(term))
        if word is not None:
            yield f"condition '{text}': `{word}` in a deny rule would lift the deny: put it in an allow rule"
