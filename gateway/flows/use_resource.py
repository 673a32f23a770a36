"""To use a resource: what a plugin asks for is decided, recorded, and only then done.

A call that came through other plugins acts with the intersection of the rights of all of them.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from msgspec import structs

from gateway.domain.decision import Decision
from gateway.domain.names import plugin_subject
from gateway.domain.request import AccessRequest, Json
from gateway.errors import HearthgateError, MalformedError
from gateway.executor.broker import REFUSED, Answer, Ask, json_size
from gateway.flows.asking import Args, Asking, Value
from gateway.flows.decide import Context, decide
from gateway.flows.deeds import DEEDS
from gateway.flows.exact import exact_call
from gateway.flows.metering import metered
from gateway.flows.record import record_decisions
from gateway.flows.refusal import record_refusal
from gateway.flows.still_allowed import check_still_allowed
from gateway.traffic.transfer import Passage

_log = logging.getLogger("hearthgate.execute")
_TERM_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")


def asking_as(asking: Asking) -> Ask:
    """Give the function that answers the asks of one cell; who asks is fixed here."""

    async def ask(op: str, args: Mapping[str, Json], blob: bytes) -> Answer:
        if op != REFUSED and (bound := overspent(asking)) is not None:
            return _failed(op, bound)
        try:
            if op == REFUSED:
                await record_refusal(asking, args)
                return Answer(body={})
            return await use_resource(asking, op, args, blob)
        except HearthgateError as error:
            return _failed(op, error.message)
        except Exception as error:  # noqa: BLE001 (whatever goes wrong here, the plugin gets nothing)
            return _failed(op, f"the gateway could not do it ({type(error).__name__})")

    return ask


async def use_resource(asking: Asking, op: str, args: Mapping[str, Json], blob: bytes) -> Answer:
    """Decide, record, and only then do what a plugin asks for.

    Raises:
        MalformedError: it cannot be understood.
        LogUnavailableError: it could not be recorded, so it was not done.
        HearthgateError: it was allowed, and could not be done.
    """
    make = DEEDS.get(op)
    if make is None:
        raise MalformedError(f"`{op[:40]}` is nothing that can be asked for")
    deed = make(Args(args, blob), asking)
    context = Context(
        session_id=asking.call.session_id,
        args=args,
        trace_id=asking.call.trace_id,
        execution_id=asking.execution_id,
        exact=exact_call(op, args, blob, by=asking.call.by, running=asking.running),
    )
    asked = asking.requests(deed.kind, deed.level, deed.scope)
    decision = await decide_all(asking, op, asked, context, looks=deed.looks)
    if not decision.allowed:
        return _denied(asking, op, decision)
    try:
        with metered(asking, op, deed.peer, decision) as passage:
            done = await deed.do(replace(asking, passage=passage))
            _count_rest(passage, args, blob, done)
    except HearthgateError as error:
        return _failed(op, error.message, decision)
    return Answer(
        body={"ok": True, "value": done.value},
        blob=done.blob,
        note={"op": op, "decision_id": decision.decision_id, "effect": "allow", "ok": True},
    )


async def decide_all(
    asking: Asking, op: str, asked: Sequence[AccessRequest], context: Context, *, looks: bool = False
) -> Decision:
    """Decide and record what one deed asks; gives the first decision that refuses, else the first.

    Raises:
        DeniedError: what allowed it was taken away while it was recorded, so it may not be done.
        LogUnavailableError: it could not be recorded, so it may not be done.
    """
    decisions = [decide(asking.parts, each, context) for each in asked]
    if looks:
        decisions = [_keeping_consent(asking, each) for each in decisions]
    decisions = await record_decisions(asking.parts, decisions, context)
    decision = next((each for each in decisions if not each.allowed), decisions[0])
    _tell(asking, op, decision)
    if decision.allowed:
        # SECURITY: what took it away has killed the cell, and what the cell asked for is a moment behind.
        check_still_allowed(asking.parts, decisions)
    return decision


def overspent(asking: Asking) -> str | None:
    """Take one question of the call's; tells what bounds them where none is left."""
    asks = asking.call.asks
    if asks is None or asks.take():
        return None
    # SECURITY: answered without a record, for each record is an fsync and room on the disk.
    most = asking.parts.max_asks
    if asks.left == -1:
        _log.warning(
            "execution %s of %s asked more than %d questions, the rest is refused: [sandbox] max_asks is the bound",
            asking.execution_id,
            asking.plugin.id,
            most,
        )
    return f"overloaded: one call asks at most {most} questions ([sandbox] max_asks)"


def _keeping_consent(asking: Asking, decision: Decision) -> Decision:
    """Give the decision of a look at names: a consent for one use is for the reading, and not used up by it.

    WHY: used up, it would let none of the names be shown, for none of them could be read any more.
    """
    consent = asking.parts.registry.consents.get(decision.consent_id or "")
    return structs.replace(decision, consent_id=None) if consent is not None and consent.once else decision


def _count_rest(passage: Passage, args: Mapping[str, Json], blob: bytes, done: Value) -> None:
    """Count what went through the broker, unless the deed knew better what left and came."""
    if not passage.bytes_out and not passage.bytes_in:
        passage.count(json_size(dict(args)) + len(blob), json_size(done.value) + len(done.blob))


def _tell(asking: Asking, op: str, decision: Decision) -> None:
    if _log.isEnabledFor(logging.DEBUG):
        text = "%s asks %s in execution %s: %s (%s), decision %s"
        verdict = decision.verdict
        said = (verdict.effect.value, verdict.reason.value, decision.decision_id)
        _log.debug(text, asking.plugin.id, op, asking.execution_id, *said)


def _denied(asking: Asking, op: str, decision: Decision) -> Answer:
    own = _rules_naming(asking, decision)
    misses: list[Json] = [
        {"id": miss.rule.id, "unmet": [_kind_of(term) for term in miss.unmet]}
        for miss in decision.verdict.near_misses
        if miss.rule.id in own
    ]
    return Answer(
        body={
            "ok": False,
            "error": "denied",
            "decision_id": decision.decision_id,
            "reason": decision.verdict.reason.value,
            "near_misses": misses,
        },
        note={"op": op, "decision_id": decision.decision_id, "effect": "deny", "ok": False},
    )


def _rules_naming(asking: Asking, decision: Decision) -> frozenset[str]:
    """Give the ids of the rules that name the asking plugin itself; what others are granted is not its business."""
    policy, subject = asking.parts.policy.get(), plugin_subject(asking.plugin.id)
    if policy is None or decision.request.subject != subject:
        return frozenset()
    return frozenset(rule.id for rule in policy.candidates(decision.request) if rule.subject == subject)


def _kind_of(term: str) -> str:
    name = _TERM_NAME.match(term)
    return name[0] if name else "condition"


def _failed(op: str, message: str, decision: Decision | None = None) -> Answer:
    return Answer(
        body={"ok": False, "error": "failed", "message": message},
        note={
            "op": op[:40],
            "decision_id": None if decision is None else decision.decision_id,
            "effect": "error" if decision is None else "allow",
            "ok": False,
        },
    )
