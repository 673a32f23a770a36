"""To authorize: may this caller do this to the gateway? The answer is recorded whatever it is."""

from gateway.domain.caller import Caller
from gateway.domain.decision import Decision, Effect, Reason
from gateway.domain.exact_call import ExactCall
from gateway.domain.names import Subject
from gateway.domain.permission import Kind, Level
from gateway.domain.record import Record, Resolution
from gateway.domain.request import AccessRequest
from gateway.domain.scope import canonical_scope
from gateway.errors import DeniedError
from gateway.flows.decide import Context, Judged, judge, name, standing
from gateway.flows.parts import Parts
from gateway.flows.record import record_decisions

_OWNER_ALWAYS = frozenset({"lockdown", "policy"})
_OUTRANKS = frozenset({Reason.RULE, Reason.LOCKED_DOWN, Reason.ERROR, Reason.NO_POLICY})


def judge_right(parts: Parts, caller: Caller, level: Level, scope: str, exact: ExactCall | None = None) -> Judged:
    """Tell whether `caller` may do `level` on the gateway's `scope`; names and records nothing."""
    request = AccessRequest(
        subject=caller.subject,
        user=caller.user_id,
        kind=Kind.GATEWAY,
        level=level.word,
        scope=canonical_scope(Kind.GATEWAY, scope),
    )
    context = Context(exact=exact)
    by_user = judge(parts, request, context)
    if caller.key_id is None:
        return by_user
    as_key = _as_key(request, caller.key_id)
    if not _speaks_of(parts, as_key):
        return by_user
    by_key = judge(parts, as_key, context)
    # SECURITY: a deny of either outranks an allow of the other, unless it only says that nothing was said.
    for each in (by_user, by_key):
        if not each.allowed and each.verdict.reason in _OUTRANKS:
            return each
    return by_key if by_key.allowed and not by_user.allowed else by_user


def judge_caller(parts: Parts, caller: Caller, level: Level, scope: str, exact: ExactCall | None = None) -> Decision:
    """Decide whether `caller` may do `level` on the gateway's `scope`; records nothing."""
    return name(parts, judge_right(parts, caller, level, scope, exact))


def _speaks_of(parts: Parts, request: AccessRequest) -> bool:
    """Tell whether anything could be said of `request` but that nothing is said."""
    policy = parts.policy.get()
    if policy is None or policy.fallback_reason is not None:
        return True
    return bool(policy.candidates(request)) or standing(parts, request) is not None


async def authorize(
    parts: Parts, caller: Caller, level: Level, scope: str, *, key_scope: str | None = None
) -> Decision:
    """Let `caller` do `level` on the gateway's `scope`, or refuse.

    Raises:
        DeniedError: the key is not meant for this, or the policy says no; both are recorded.
        LogUnavailableError: the answer could not be recorded.
    """
    await check_credential(parts, caller, level, scope, key_scope=key_scope)
    decision = judge_caller(parts, caller, level, scope)
    context = Context(trace_id=caller.trace_id)
    if not decision.allowed and caller.owner and scope in _OWNER_ALWAYS:
        # SECURITY: the way back in for the owner; each use is told apart in the log.
        await record_decisions(parts, [decision], context, _override(parts, caller, decision))
        return decision
    await record_decisions(parts, [decision], context)
    if decision.verdict.effect is not Effect.ALLOW:
        raise denied(decision)
    return decision


async def authorize_again(
    parts: Parts, caller: Caller, level: Level, scope: str, *, key_scope: str | None = None
) -> None:
    """Let `caller` look again and again; a right that stands in the log is not written anew for an hour.

    Raises:
        DeniedError: the key is not meant for this, or the policy says no; both are recorded.
        LogUnavailableError: the answer could not be recorded.
    """
    await check_credential(parts, caller, level, scope, key_scope=key_scope)
    judged = judge_right(parts, caller, level, scope)
    if known_right(parts, judged) is not None:
        return
    decision = name(parts, judged)
    await record_decisions(parts, [decision], Context(trace_id=caller.trace_id))
    if not decision.allowed:
        raise denied(decision)
    keep_right(parts, judged, decision)


def known_right(parts: Parts, judged: Judged) -> str | None:
    """Give the recorded decision that gave this right before."""
    if not judged.allowed or judged.policy is None:
        return None
    return parts.rights.find(judged.request, judged.verdict, judged.policy.generation, judged.at)


def keep_right(parts: Parts, judged: Judged, right: Decision) -> None:
    """Keep the decision that gave a right without conditions, for the next hour."""
    if judged.policy is None or any(rule.condition.terms for rule in judged.rules):
        return  # WHY: what met a condition met it with facts of its own, which its own record holds.
    recorded = (right.decision_id, right.at)
    parts.rights.keep(judged.request, judged.verdict, judged.policy.generation, recorded=recorded)


async def check_credential(parts: Parts, caller: Caller, level: Level, scope: str, *, key_scope: str | None) -> None:
    """Refuse a credential that was not given for this, whatever the policy says of its user.

    Raises:
        DeniedError: it was not; recorded.
        LogUnavailableError: the refusal could not be recorded.
    """
    # SECURITY: looked up again, for between a request's head and its body any time may pass.
    if not is_known(parts, caller):
        await _refuse_credential(parts, caller, "it was revoked, or is over", scope)
    if key_scope is not None and not caller.holds(key_scope):
        await _refuse_credential(parts, caller, f"it lacks the scope `{key_scope}`", scope)
    if caller.read_only and level is not Level.READ:
        await _refuse_credential(parts, caller, "the socket is set to `read`", scope)


def is_known(parts: Parts, caller: Caller) -> bool:
    """Tell whether a caller's credential still is one."""
    if caller.until is not None:
        return parts.now() < caller.until
    return caller.key_id is None or parts.registry.keys.is_live(caller.key_id, at=parts.now())


def denied(decision: Decision) -> DeniedError:
    """Make the error that tells a caller no, with the reason and nothing of whether the thing exists."""
    request, verdict = decision.request, decision.verdict
    why = verdict.rule.why if verdict.rule is not None and verdict.reason is Reason.RULE else ""
    return DeniedError(
        f"`{request.subject}` may not {request.level} `{request.scope}`" + (f" ({why})" if why else ""),
        way_out=_way_out(request, verdict.reason),
        decision_id=decision.decision_id,
        extra={"reason": verdict.reason.value, "decision": decision.as_json()},
    )


def _way_out(request: AccessRequest, reason: Reason) -> str | None:
    if reason is Reason.NO_RULE and request.kind == Kind.GATEWAY:
        return f"no rule allows it: policies/roles.csv can give a role, as `g, {request.subject}, role:member`"
    return _WAYS_OUT.get(reason)


_WAYS_OUT = {
    Reason.NO_RULE: "no rule allows it; a person can add one below policies/rules/",
    Reason.CONSENT_REQUIRED: "the user's consent is needed",
    Reason.RATE_LIMITED: "wait and try again",
    Reason.INACTIVE: "the plugin is not active",
    Reason.LOCKED_DOWN: "a lockdown is in force",
    Reason.NO_POLICY: "no policy is in force: `hearthgate policy check` names the problems",
}


def _as_key(request: AccessRequest, key_id: str) -> AccessRequest:
    return AccessRequest(
        subject=Subject(f"key:{key_id}"),
        user=request.user,
        kind=request.kind,
        level=request.level,
        scope=request.scope,
    )


async def _refuse_credential(parts: Parts, caller: Caller, why: str, scope: str) -> None:
    record = Record(
        event_id=parts.event_id(),
        at=parts.now(),
        event_type="access_denied",
        resolution=Resolution.DENIED,
        user_id=caller.user_id,
        details={"why": why, "key_id": caller.key_id},
        personal={"scope": scope},
        trace_id=caller.trace_id,
    )
    await parts.log.append(record)
    raise DeniedError(
        f"this credential is not meant for that: {why}",
        way_out="use a key with the scope it needs (`hearthgate key add USER --scope ...`)",
        extra={"reason": "credential"},
    )


def _override(parts: Parts, caller: Caller, decision: Decision) -> Record:
    return Record(
        event_id=parts.event_id(),
        at=parts.now(),
        event_type="owner_override",
        resolution=Resolution.ALLOWED,
        user_id=caller.user_id,
        details={"scope": decision.request.scope, "level": decision.request.level},
        ref=f"audit-{decision.decision_id}",
        trace_id=caller.trace_id,
    )
