"""To answer for one exact call: a person who may, and whose call it is not, approves or denies it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from msgspec import structs

from gateway.domain.call_approval import ApprovalState, CallApproval
from gateway.domain.caller import Caller
from gateway.domain.decision import timestamp
from gateway.domain.exact_call import ExactCall
from gateway.domain.names import PluginId, Subject, UserId
from gateway.domain.permission import Level
from gateway.domain.record import Record, Resolution
from gateway.domain.request import AccessRequest
from gateway.errors import ConflictError, DeniedError, MalformedError, NotFoundError
from gateway.flows.ask import ask_scope
from gateway.flows.authorize import authorize, judge_caller
from gateway.flows.binding import code_of, digest_of_rules
from gateway.flows.event import event, naming
from gateway.flows.parts import Parts
from gateway.flows.spend import facts_of
from gateway.flows.tell import tell
from gateway.registry.call_approvals import DENIED_FOR

APPROVED_FOR = timedelta(hours=1)
LONGEST = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Yes:
    """A person's yes to one exact call; `until` is when it ends unused, an hour from now if it is not said."""

    reason: str
    until: datetime | None = None


async def visible_calls(parts: Parts, caller: Caller, state: ApprovalState | None) -> tuple[CallApproval, ...]:
    """Give the approvals that a caller may see: of calls of their own, and those they may answer.

    Raises:
        DeniedError: the caller may not see plugins at all.
    """
    await authorize(parts, caller, Level.READ, "plugins")
    found = parts.registry.approvals.find(at=parts.now(), state=state)
    may = {scope: judge_caller(parts, caller, Level.ADMIN, scope).allowed for scope in {_right(each) for each in found}}
    # SECURITY: arguments may be a diary; who may do no more than look at plugins sees no other person's.
    return tuple(each for each in found if may[_right(each)] or each.is_own(caller.user_id))


async def approve_call(parts: Parts, caller: Caller, approval_id: str, yes: Yes) -> CallApproval:
    """Approve one exact call, for one use.

    Raises:
        DeniedError: the caller may not, or the call is the caller's own.
        NotFoundError: there is none of that id (told only to who may answer for any plugin).
        ConflictError: it was answered or ended, or the rules or the code are no longer those that asked for it.
        MalformedError: it would end in the past, or be open too long.
    """
    approval = await _answerable(parts, caller, approval_id)
    await _check_not_own(parts, caller, approval)
    until = _until(parts, yes)
    _check_waits(parts, approval)
    facts = {**facts_of(approval), "reason": yes.reason, "expires_at": timestamp(until)}
    record = naming(event(parts, caller, "call_approval_approved", approval.plugin_id, facts), scope=approval.scope)
    await parts.log.append(record)
    try:
        # INVARIANT: judged again, for while the record was written the plugin may have been taken away.
        _check_waits(parts, approval)
        answered = parts.registry.approvals.answer(
            approval, ApprovalState.APPROVED, by=caller.user_id, at=parts.now(), reason=yes.reason, until=until
        )
        return _answered(parts, answered, approval_id)
    except ConflictError:
        facts = {**facts_of(approval), "why": "it ended while its approval was recorded"}
        taken = event(parts, caller, "call_approval_denied", approval.plugin_id, facts)
        await tell(parts, structs.replace(taken, resolution=Resolution.DENIED, ref=record.event_id))
        raise


async def deny_call(parts: Parts, caller: Caller, approval_id: str, reason: str) -> CallApproval:
    """Deny one exact call; it is not put before a person again for a while.

    Raises:
        DeniedError: the caller may not.
        NotFoundError: there is none of that id (told only to who may answer for any plugin).
        ConflictError: it was answered, or ended.
    """
    approval = await _answerable(parts, caller, approval_id)
    at = parts.now()
    # INVARIANT: denied before its record is awaited: refusing waits for nothing.
    answered = parts.registry.approvals.answer(
        approval, ApprovalState.DENIED, by=caller.user_id, at=at, reason=reason, until=at + DENIED_FOR
    )
    denied = _answered(parts, answered, approval_id)
    facts = {**facts_of(approval), "reason": reason}
    record = event(parts, caller, "call_approval_denied", approval.plugin_id, facts)
    await tell(parts, naming(structs.replace(record, resolution=Resolution.DENIED), scope=approval.scope))
    return denied


def _right(approval: CallApproval) -> str:
    return ask_scope(approval.subject) if approval.plugin_id is None else f"plugins/{approval.plugin_id}"


async def _answerable(parts: Parts, caller: Caller, approval_id: str) -> CallApproval:
    approval = parts.registry.approvals.get(approval_id)
    # SECURITY: asked before it is told whether there is such a call.
    scope = "plugins" if approval is None else _right(approval)
    await authorize(parts, caller, Level.ADMIN, scope, key_scope="approve")
    if approval is None:
        raise NotFoundError(f"there is no call approval `{approval_id[:80]}`")
    return approval


async def _check_not_own(parts: Parts, caller: Caller, approval: CallApproval) -> None:
    policy = parts.policy.get()
    if not approval.may_be_own(caller.user_id) or (policy is not None and policy.approval.own_call_approval):
        return
    await parts.log.append(
        Record(
            event_id=parts.event_id(),
            at=parts.now(),
            event_type="access_denied",
            resolution=Resolution.DENIED,
            plugin_id=approval.plugin_id,
            user_id=caller.user_id,
            details={"why": "the call is their own", "approval_id": approval.id, "key_id": caller.key_id},
            trace_id=caller.trace_id,
        )
    )
    raise DeniedError(
        "nobody approves a call of their own",
        way_out="another person can; `[calls] own = true` in approval.toml lets people do it themselves",
        extra={"reason": "own_call"},
    )


def _until(parts: Parts, yes: Yes) -> datetime:
    now = parts.now()
    until = now + APPROVED_FOR if yes.until is None else yes.until
    if until <= now:
        raise MalformedError("until: a time that is past")
    if until > now + LONGEST:
        raise MalformedError(f"until: an approval is open for {LONGEST.days} days at most")
    return until


def _check_waits(parts: Parts, approval: CallApproval) -> None:
    current = parts.registry.approvals.get(approval.id)
    if current is None or current.state is not ApprovalState.PENDING or current.is_over(parts.now()):
        state = ApprovalState.EXPIRED if current is None or current.is_over(parts.now()) else current.state
        raise ConflictError(f"the call is {state.value} already", extra={"state": state.value})
    if not _is_as_asked(parts, approval):
        raise ConflictError(
            "the rules or the plugin's code are no longer those that asked for this",
            way_out="let the call be made again: it will ask anew",
        )


def _is_as_asked(parts: Parts, approval: CallApproval) -> bool:
    policy = parts.policy.get()
    chain = tuple(PluginId(each.partition("@")[0]) for each in approval.code.split())
    call = ExactCall(op=approval.op, args={}, chain=chain)
    held = parts.registry.holds.held_grants(approval.plugin_id or "")
    return policy is not None and any(
        digest_of_rules(policy.candidates(request), held) == approval.rules_sha256
        and " ".join(code_of(parts, request, call)) == approval.code
        for request in _requests_of(approval)
    )


def _requests_of(approval: CallApproval) -> Iterator[AccessRequest]:
    """Give what an approval may be of: the actions of other kinds than ours may hold a `_`, too."""
    words = approval.permission.split("_")
    for at in range(len(words) - 1, 0, -1):
        yield AccessRequest(
            subject=Subject(approval.subject),
            user=None if approval.user_id is None else UserId(approval.user_id),
            kind="_".join(words[:at]),
            level="_".join(words[at:]),
            scope=approval.scope,
        )


def _answered(parts: Parts, answered: CallApproval | None, approval_id: str) -> CallApproval:
    if answered is not None:
        return answered
    current = parts.registry.approvals.get(approval_id)
    over = current is None or current.is_over(parts.now())
    state = ApprovalState.EXPIRED if current is None or over else current.state
    raise ConflictError(f"the call is {state.value} already", extra={"state": state.value})
