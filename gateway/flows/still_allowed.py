"""To look again, when an allow is recorded, whether it still holds: taking away waits for no record."""

from collections.abc import Iterable

from gateway.domain.decision import Decision
from gateway.domain.names import split_subject
from gateway.errors import DeniedError
from gateway.flows.decide import standing
from gateway.flows.parts import Parts


def check_still_allowed(parts: Parts, decisions: Iterable[Decision]) -> None:
    """Refuse what is allowed and recorded, if what allowed it was taken away meanwhile; call it before the deed.

    Raises:
        DeniedError: the plugin was stopped, a lockdown is in force, or a grant, a rule or a consent is gone.
    """
    for each in decisions:
        if not still_allowed(parts, each):
            raise DeniedError("what allowed it was taken away meanwhile", decision_id=each.decision_id)


def still_allowed(parts: Parts, decision: Decision) -> bool:
    """Tell whether what a recorded allow rests on is still there; what this very allow used up counts as there."""
    policy, rule = parts.policy.get(), decision.verdict.rule
    if policy is None or rule is None or standing(parts, decision.request) is not None:
        return False
    if decision.consent_id is not None and not parts.registry.consents.covers_use(decision.consent_id):
        return False
    held = parts.registry.holds.held_grants(split_subject(decision.request.subject)[1])
    return rule.id not in held and any(each.id == rule.id for each in policy.candidates(decision.request))
