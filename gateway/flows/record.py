"""To record decisions: used up and durable together, or neither. Nothing runs before its record is durable."""

import hashlib
import json
from collections.abc import Mapping, Sequence

from gateway.domain.decision import Decision, Reason, timestamp
from gateway.domain.names import split_subject
from gateway.domain.permission import Kind
from gateway.domain.record import Record, Resolution
from gateway.domain.request import AccessRequest, Json
from gateway.errors import LogUnavailableError
from gateway.flows.decide import Context
from gateway.flows.parts import Parts
from gateway.policy.suggest import way_in
from gateway.registry.consents import ConsentRecord


async def record_decisions(parts: Parts, decisions: list[Decision], context: Context, *further: Record) -> None:
    """Charge and record decisions of one context, with records that belong to them, all or none.

    Raises:
        LogUnavailableError: nothing was recorded and nothing used up.
    """
    await record_together(parts, [(each, context) for each in decisions], *further)


async def record_together(parts: Parts, decisions: Sequence[tuple[Decision, Context]], *further: Record) -> None:
    """Charge and record decisions, with records that belong to them, all or none.

    Raises:
        LogUnavailableError: nothing was recorded and nothing used up.
    """
    spent = [each for each, _ in decisions if each.allowed and not each.dry_run]
    for each in spent:
        _charge(parts, each)
    # INVARIANT: used up, durably, before the first await, so that neither a second call nor a restart can use a
    # consent for one use again.
    once = [consent for each in spent if (consent := _use_up_consent(parts, each)) is not None]
    try:
        await parts.log.append(*[decision_record(each, context) for each, context in decisions], *further)
    except LogUnavailableError:
        for each in spent:
            _give_back(parts, each)
        for consent in once:
            parts.registry.consents.put_back(consent)
        raise
    for each, _ in decisions:
        parts.meter.decided(each.verdict.effect, each.verdict.reason, dry_run=each.dry_run)


def decision_record(decision: Decision, context: Context) -> Record:
    """Make the record of a decision, with every fact it was judged by."""
    request = decision.request
    prefix, name = split_subject(request.subject)
    details: dict[str, Json] = {"permission": request.permission}
    if context.execution_id is not None:
        details["execution_id"] = context.execution_id
    if context.asked_by is not None:
        details["asked_by_another"] = True
    if context.right is not None:
        details["right"] = context.right
    replay: dict[str, Json] = {
        "at": timestamp(decision.at),
        **decision.judged_by,
        "session": context.session_id is not None,
        "args_sha256": _digest(context.args) if context.args else None,
    }
    return Record(
        event_id=f"audit-{decision.decision_id}",
        at=decision.at,
        event_type="access_granted" if decision.allowed else "access_denied",
        resolution=Resolution.ALLOWED if decision.allowed else Resolution.DENIED,
        plugin_id=name if prefix == "plugin" else _plugin_of(request),
        user_id=request.user,
        risk_score=decision.risk.score,
        details=details,
        personal=_personal(decision, context),
        decision=decision,
        replay=replay,
        trace_id=context.trace_id,
    )


def _personal(decision: Decision, context: Context) -> dict[str, Json]:
    personal: dict[str, Json] = {}
    if context.asked_by is not None:
        personal["asked_by"] = context.asked_by
    if context.shows_way_in and decision.verdict.reason is Reason.NO_RULE:
        personal["would_allow"] = way_in(decision)
    return personal


def _plugin_of(request: AccessRequest) -> str | None:
    if request.kind == Kind.GATEWAY and request.scope.startswith("plugins/"):
        return request.scope.removeprefix("plugins/").split("/")[0]
    return None


def _charge(parts: Parts, decision: Decision) -> None:
    charge, request = decision.verdict.charge, decision.request
    if charge is not None:
        parts.registry.rates.charge(charge, subject=request.subject, user=request.user, at=decision.at)


def _give_back(parts: Parts, decision: Decision) -> None:
    charge, request = decision.verdict.charge, decision.request
    if charge is not None:
        parts.registry.rates.give_back(charge, subject=request.subject, user=request.user, at=decision.at)


def _use_up_consent(parts: Parts, decision: Decision) -> ConsentRecord | None:
    consent = parts.registry.consents.get(decision.consent_id or "")
    if consent is None or not consent.once:
        return None
    parts.registry.consents.end(consent, at=decision.at, reason="used once")
    return consent


def _digest(args: Mapping[str, Json]) -> str:
    return hashlib.sha256(
        json.dumps(args, sort_keys=True, separators=(",", ":")).encode("utf-8", "surrogatepass")
    ).hexdigest()
