"""To ask for what was denied: a denied question becomes a request that people answer (AuthZEN access request profile).

It adds no way to access: what it makes are the approvals of exact calls and the permission requests that there are, by
the flows and the rights that those have; where it stands is read from them.
"""

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from msgspec import structs

from gateway.domain.access_request import Denial, Template, bind_denial, read_denial
from gateway.domain.call_approval import ApprovalState, CallApproval
from gateway.domain.caller import Caller
from gateway.domain.decision import Decision, Reason, timestamp
from gateway.domain.manifest import RequestedPermission
from gateway.domain.names import PluginId
from gateway.domain.permission import PERMISSIONS, Kind, Level, Permission
from gateway.domain.record import Resolution
from gateway.domain.request import Json
from gateway.errors import (
    DuplicateRequestError,
    ExpiredDenialError,
    InvalidBindingError,
    NotRequestableError,
    OverloadedError,
    TaskStateError,
    UnknownTaskError,
)
from gateway.flows.access_standing import Standing, standing_of
from gateway.flows.ask import authorize_question
from gateway.flows.authorize import check_credential, is_known, judge_right
from gateway.flows.decide import decide
from gateway.flows.evaluate import Evaluation, as_question, words_of
from gateway.flows.event import event
from gateway.flows.parts import Parts
from gateway.flows.permissions import Wanted, request_permissions
from gateway.flows.record import record_together
from gateway.flows.tell import tell
from gateway.registry.access_requests import AccessTask
from gateway.registry.requests import RequestState

REQUESTABLE_FOR = timedelta(minutes=10)
_MAX_REASON_CHARS = 500
_QUEUE_RETRY_S = 60
_ASK_AGAIN = "ask again whether it is allowed"
_CANCELLED = "cancelled by who asked"
_KEY_USED = "the idempotency key was used for another request"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a client needs to ask for what it was denied."""

    template: Template
    expires_at: datetime
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a client asks for: the denied question again, the token of its denial, why, and until when."""

    evaluation: Evaluation
    token: str
    reason: str = ""
    until: datetime | None = None
    idempotency_key: str | None = None


def offer(parts: Parts, caller: Caller, evaluation: Evaluation, decision: Decision) -> Offer | None:
    """Say how a denial can be asked about, None if it cannot, or not by this caller; nothing is made by it."""
    template = _template(parts, caller, decision)
    if template is None:
        return None
    words = words_of(evaluation)
    context = words["context"]
    denial = Denial(
        evaluation_id=decision.decision_id,
        template=template,
        expires_at=decision.at + REQUESTABLE_FOR,
        members=tuple(sorted(context)) if isinstance(context, dict) else (),
    )
    token = bind_denial(parts.binding_key, denial, caller.user_id, _question(evaluation))
    return None if token is None else Offer(template=template, expires_at=denial.expires_at, token=token)


async def request_access(parts: Parts, caller: Caller, wish: Wish) -> Standing:
    """Put a denied question before who can answer it; the same again is the same request.

    Raises:
        InvalidBindingError: it is not what was denied to this caller.
        ExpiredDenialError: that was too long ago.
        NotRequestableError: it is denied no longer, or for another reason.
        DuplicateRequestError: the idempotency key was used for another request.
        DeniedError: the caller may not ask that.
        OverloadedError: too many calls wait for approval already.
        ConflictError: a person denied the same a short while ago.
        LogUnavailableError: it could not be recorded; nothing was made.
    """
    await check_credential(parts, caller, Level.EXECUTE, "decisions", key_scope="evaluate")
    denial = read_denial(parts.binding_key, wish.token, caller.user_id, _question(wish.evaluation))
    if denial is None:
        raise InvalidBindingError("the binding token is not of a denial of this question to you")
    body = _digest(wish)
    if wish.idempotency_key is not None:
        known = parts.registry.access_requests.of_key(caller.user_id, wish.idempotency_key)
        if known is not None and known.body_sha256 != body:
            raise DuplicateRequestError(_KEY_USED)
        if known is not None:
            return standing_of(parts, known)
    if parts.now() >= denial.expires_at:
        raise ExpiredDenialError("the denial is over", way_out=_ASK_AGAIN)
    asked = structs.replace(wish.evaluation, context=_within(wish.evaluation.context, denial.members))
    if denial.template is Template.CALL:
        answered_by = await _ask_for_call(parts, caller, asked)
    else:
        answered_by = await _ask_for_permission(parts, caller, asked, wish)
    return standing_of(parts, _keep(parts, caller, wish, denial, answered_by, body))


def show_access_request(parts: Parts, caller: Caller, task_id: str) -> Standing:
    """Tell where a request of the caller's stands.

    Raises:
        UnknownTaskError: there is none of that id, or it is another's; which of them is not told.
    """
    task = parts.registry.access_requests.get(task_id)
    if task is None or task.user_id != caller.user_id or not caller.holds("evaluate") or not is_known(parts, caller):
        raise UnknownTaskError(f"there is no request `{task_id[:80]}`")
    return standing_of(parts, task)


async def cancel_access_request(parts: Parts, caller: Caller, task_id: str, reason: str) -> Standing:
    """Take a request of the caller's back, which waits.

    Raises:
        UnknownTaskError: there is none of that id, or it is another's.
        DeniedError: the credential is there to look alone.
        TaskStateError: it was answered, or others asked for the same.
    """
    show_access_request(parts, caller, task_id)
    await check_credential(parts, caller, Level.EXECUTE, "decisions", key_scope="evaluate")
    standing = show_access_request(parts, caller, task_id)
    task = standing.task
    # INVARIANT: taken back before its record is awaited: refusing waits for nothing.
    event_type, plugin_id = _take_back(parts, caller, standing)
    facts: dict[str, Json] = {"why": _CANCELLED, "answered_by": task.answered_by, "reason": reason}
    record = event(parts, caller, event_type, plugin_id, facts)
    await tell(parts, structs.replace(record, resolution=Resolution.DENIED))
    return standing_of(parts, task)


def _take_back(parts: Parts, caller: Caller, standing: Standing) -> tuple[str, str | None]:
    """Take back what would answer a request; gives what that is called, and of which plugin it is."""
    task, at = standing.task, parts.now()
    if task.template is Template.CALL:
        void = parts.registry.approvals.void
        ended = void(lambda each: each.id == task.answered_by and _waits(each, at), at=at, reason=_CANCELLED)
        if ended:
            return "call_approval_denied", ended[0].plugin_id
    else:
        request = parts.registry.requests.get(task.answered_by)
        if request is not None and request.state is RequestState.PENDING and request.requested_by == caller.user_id:
            decide_all = parts.registry.requests.decide
            decide_all((request,), RequestState.REVOKED, by=caller.user_id, at=at, reason=_CANCELLED)
            return "permission_denied", request.plugin_id
    state = standing.status.value
    raise TaskStateError(f"the request is {state}, or others asked for the same", extra={"state": state})


def _waits(approval: CallApproval, at: datetime) -> bool:
    return approval.state is ApprovalState.PENDING and not approval.is_over(at)


def _template(parts: Parts, caller: Caller, decision: Decision) -> Template | None:
    if decision.allowed or not is_known(parts, caller):
        return None
    if decision.verdict.reason is Reason.APPROVAL_REQUIRED:
        return Template.CALL
    permission = _permission(decision)
    if decision.verdict.reason is not Reason.NO_RULE or permission is None:
        return None
    plugin_id = decision.request.subject.removeprefix("plugin:")
    there = _may_ask_for(parts, caller, plugin_id) and parts.registry.plugins.get(plugin_id) is not None
    return Template.PERMISSION if there else None


def _permission(decision: Decision) -> Permission | None:
    """Give the permission that a plugin lacks, None where it is none that can be requested."""
    request = decision.request
    permission = PERMISSIONS.get(f"{request.kind}_{request.level}")
    prefix, _, name = request.subject.partition(":")
    own = permission == Permission(Kind.PLUGIN, Level.EXECUTE) and request.scope == name
    return permission if prefix == "plugin" and not own else None


async def _ask_for_call(parts: Parts, caller: Caller, evaluation: Evaluation) -> str:
    question = as_question(evaluation, caller)
    await authorize_question(parts, caller, question.request, dry_run=False)
    decision = decide(parts, question.request, question.context)
    if decision.allowed or decision.verdict.reason is not Reason.APPROVAL_REQUIRED:
        # INVARIANT: an allow is no answer here, so it uses nothing up; the client asks again, and is told.
        raise NotRequestableError(
            "nobody's approval is what it lacks, by now", way_out="ask again whether it is allowed"
        )
    (recorded,) = await record_together(parts, [(decision, question.context)])
    if recorded.approval_id is None:
        raise OverloadedError("too many calls wait for approval", retry_after_s=_QUEUE_RETRY_S)
    return recorded.approval_id


async def _ask_for_permission(parts: Parts, caller: Caller, evaluation: Evaluation, wish: Wish) -> str:
    question = as_question(evaluation, caller)
    decision = decide(parts, question.request, question.context, dry_run=True)
    permission = _permission(decision)
    if decision.verdict.reason is not Reason.NO_RULE or permission is None:
        raise NotRequestableError(
            "a permission is not what it lacks, by now", way_out="ask again whether it is allowed"
        )
    if wish.until is not None and wish.until <= parts.now():
        raise NotRequestableError("requested_until: a time that is past")
    wanted = RequestedPermission(
        permission=permission,
        scope=question.request.scope,
        condition="-" if wish.until is None else f"until({timestamp(wish.until)})",
        purpose="",
    )
    plugin_id = PluginId(evaluation.subject.id)
    waiting = parts.registry.requests.find(state=RequestState.PENDING, plugin_id=plugin_id)
    same = next((each for each in waiting if each.type == "more" and each.permissions == (wanted,)), None)
    if same is not None and _may_ask_for(parts, caller, plugin_id):
        return same.id
    reason = wish.reason[:_MAX_REASON_CHARS] or "asked for through AuthZEN"
    made = await request_permissions(parts, caller, Wanted(plugin_id=plugin_id, permissions=(wanted,), reason=reason))
    return made.id


def _may_ask_for(parts: Parts, caller: Caller, plugin_id: str) -> bool:
    # SECURITY: asked without a record, for nothing comes of the answer; asking for it in earnest is recorded.
    return caller.holds("admin") and judge_right(parts, caller, Level.ADMIN, f"plugins/{plugin_id}").allowed


def _keep(parts: Parts, caller: Caller, wish: Wish, denial: Denial, answered_by: str, body: str) -> AccessTask:
    kept, key = parts.registry.access_requests, wish.idempotency_key
    # INVARIANT: looked for again, for the same may have been sent twice at once.
    known = kept.of_answer(caller.user_id, answered_by) if key is None else kept.of_key(caller.user_id, key)
    if known is not None and key is not None and known.body_sha256 != body:
        raise DuplicateRequestError(_KEY_USED)
    if known is not None:
        return known
    task = AccessTask(
        # SECURITY: not to be guessed, though it is nobody's but its user's.
        id=secrets.token_urlsafe(24),
        user_id=caller.user_id,
        template=denial.template,
        answered_by=answered_by,
        evaluation_id=denial.evaluation_id,
        idempotency_key=key,
        body_sha256=body,
        requested_at=timestamp(parts.now()),
    )
    kept.add(task, at=parts.now())
    return task


def _question(evaluation: Evaluation) -> dict[str, Json]:
    return {
        **words_of(evaluation),
        "of": [
            evaluation.subject.type,
            evaluation.subject.id,
            evaluation.action,
            evaluation.resource.type,
            evaluation.resource.id,
        ],
    }


def _within(context: Mapping[str, Json], members: tuple[str, ...]) -> dict[str, Json]:
    return {name: value for name, value in context.items() if name in members}


def _digest(wish: Wish) -> str:
    until = None if wish.until is None else timestamp(wish.until)
    whole = [_question(wish.evaluation), wish.token, wish.reason, until]
    return hashlib.sha256(json.dumps(whole, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
