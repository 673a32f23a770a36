"""To count on where a stop left off: what was allowed of each rate is in the log, and counts on after a restart."""

from datetime import timedelta

from gateway.audit.decisions import read_allows
from gateway.domain.decision import Charge
from gateway.flows.parts import Parts


def recount(parts: Parts) -> int:
    """Charge every rate of the policy in force with the allows that the log holds; gives their number.

    Raises:
        LogUnavailableError: the log cannot be read.
    """
    policy = parts.policy.get()
    rates = {} if policy is None else {rule.id: rate for rule in policy.rules if (rate := rule.condition.rate)}
    if not rates:
        return 0
    since = parts.now() - timedelta(seconds=max(rate.per_s for rate in rates.values()))
    charged = 0
    for recorded in read_allows(parts.home / "data", rates.keys(), since=since):
        request, rule_id = recorded.request, recorded.rule_id or ""
        charge = Charge(rule_id=rule_id, rate=rates[rule_id])
        parts.registry.rates.charge(charge, subject=request.subject, user=request.user, at=recorded.facts.at)
        charged += 1
    return charged
