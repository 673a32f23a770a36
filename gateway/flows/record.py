"""To record decisions: used up and durable together, or neither. Nothing runs before its record is durable."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from time import perf_counter

from gateway.domain.decision import Decision, Reason, timestamp
from gateway.domain.names import split_subject
from gateway.domain.permission import Kind
from gateway.domain.record import Record, Resolution
from gateway.domain.request import AccessRequest, Json
from gateway.errors import DeniedError, LogUnavailableError
from gateway.flows.decide import Context
from gateway.flows.parts import Parts
from gateway.flows.spend import spend, still_good
from gateway.policy.suggest import way_in


async def record_decisions(
    parts: Parts, decisions: list[Decision], context: Context, *further: Record
) -> list[Decision]:
    """Spend and record decisions of one context, with records that belong to them, all or none.

    Raises:
        Everything that `record_together` raises.
    """
    return await record_together(parts, [(each, context) for each in decisions], *further)


async def record_together(
    parts: Parts, decisions: Sequence[tuple[Decision, Context]], *further: Record
) -> list[Decision]:
    """Spend and record decisions, with records that belong to them, all or none; gives them as they are recorded.

    A denial that a person's approval of this very call would turn names what stands for it.

    Raises:
        DeniedError: what an allow rested on was used up or withdrawn meanwhile; recorded as a denial.
        LogUnavailableError: nothing was recorded and nothing used up.
    """
    current = still_good(parts, decisions)
    lost = [new for (old, _), (new, _) in zip(decisions, current, strict=True) if old.allowed and not new.allowed]
    # INVARIANT: used up, durably, before the first await, so that neither a second call nor a restart can use a
    # consent for one use, or an approval, again.
    spent = spend(parts, current)
    records = [
        decision_record(each, context, consent_on_behalf=each.decision_id in spent.on_behalf)
        for each, context in spent.decided
    ]
    began = perf_counter()
    try:
        await parts.log.append(*records, *spent.records, *(() if lost else further))
    except LogUnavailableError:
        spent.give_back(parts)
        raise
    if parts.spans is not None:
        parts.spans.took("hearthgate.commit", perf_counter() - began, {"hearthgate.records": len(records)})
    for each, _ in spent.decided:
        parts.meter.decided(each.verdict.effect, each.verdict.reason, dry_run=each.dry_run)
    spent.settle(parts)
    if lost:
        raise DeniedError(
            "what allowed it was used up or withdrawn meanwhile",
            decision_id=lost[0].decision_id,
            extra={"reason": lost[0].verdict.reason.value},
        )
    return [each for each, _ in spent.decided]


def decision_record(decision: Decision, context: Context, *, consent_on_behalf: bool = False) -> Record:
    """Make the record of a decision, with every fact it was judged by."""
    request = decision.request
    prefix, name = split_subject(request.subject)
    details: dict[str, Json] = {"permission": request.permission}
    if context.execution_id is not None:
        details["execution_id"] = context.execution_id
    if context.asked_by is not None:
        details["asked_by_another"] = True
    if consent_on_behalf:
        details["consent_on_behalf"] = True
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


def _digest(args: Mapping[str, Json]) -> str:
    return hashlib.sha256(
        json.dumps(args, sort_keys=True, separators=(",", ":")).encode("utf-8", "surrogatepass")
    ).hexdigest()
