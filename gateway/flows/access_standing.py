"""Where a request for what was denied stands: read from the queue that answers it, which alone knows."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gateway.domain.access_request import TaskStatus, Template
from gateway.domain.call_approval import ApprovalState, CallApproval
from gateway.domain.decision import timestamp
from gateway.errors import UnknownTaskError
from gateway.flows.parts import Parts
from gateway.registry.access_requests import AccessTask
from gateway.registry.requests import PermissionRequest, RequestState

_FOR_GOOD = timedelta(days=365)  # how long a grant without an end is told to last
_OF_CALL: Mapping[ApprovalState, TaskStatus] = {
    ApprovalState.PENDING: TaskStatus.PENDING,
    ApprovalState.APPROVED: TaskStatus.APPROVED,
    ApprovalState.USED: TaskStatus.APPROVED,
    ApprovalState.DENIED: TaskStatus.DENIED,
    ApprovalState.EXPIRED: TaskStatus.EXPIRED,
    ApprovalState.VOID: TaskStatus.CANCELLED,
}
_OF_PERMISSION: Mapping[RequestState, TaskStatus] = {
    RequestState.PENDING: TaskStatus.PENDING,
    RequestState.APPROVED: TaskStatus.APPROVED,
    RequestState.DENIED: TaskStatus.DENIED,
    RequestState.EXPIRED: TaskStatus.EXPIRED,
    RequestState.REVOKED: TaskStatus.CANCELLED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a request stands; `until` is when an approval ends."""

    task: AccessTask
    status: TaskStatus
    expires_at: str | None = None  # of one that waits
    approval_id: str | None = None
    approved_at: str | None = None
    until: str | None = None


def standing_of(parts: Parts, task: AccessTask) -> Standing:
    """Read where a request stands.

    Raises:
        UnknownTaskError: what answered it is no longer kept.
    """
    if task.template is Template.CALL:
        approval = parts.registry.approvals.get(task.answered_by)
        if approval is None:
            raise UnknownTaskError("what answered the request is forgotten")
        return _of_call(task, approval, parts.now())
    request = parts.registry.requests.get(task.answered_by)
    if request is None:
        raise UnknownTaskError("what answered the request is forgotten")
    return _of_permission(task, request)


def _of_call(task: AccessTask, approval: CallApproval, at: datetime) -> Standing:
    was_approved = approval.state in {ApprovalState.APPROVED, ApprovalState.USED}
    over = approval.is_over(at) and not was_approved
    status = TaskStatus.EXPIRED if over else _OF_CALL[approval.state]
    if status is TaskStatus.APPROVED:
        return _approved(task, approval.id, approval.decided_at, approval.expires_at)
    return Standing(task=task, status=status, expires_at=approval.expires_at)


def _of_permission(task: AccessTask, request: PermissionRequest) -> Standing:
    status = _OF_PERMISSION[request.state]
    if status is not TaskStatus.APPROVED:
        return Standing(task=task, status=status)
    given = request.permissions if request.given is None else request.given
    ends = [each.condition for each in given if each.condition.startswith("until(") and ";" not in each.condition]
    if ends:
        return _approved(task, request.id, request.decided_at, ends[0].removeprefix("until(").removesuffix(")"))
    decided = datetime.fromisoformat(request.decided_at or request.requested_at)
    return _approved(task, request.id, request.decided_at, timestamp(decided.astimezone(UTC) + _FOR_GOOD))


def _approved(task: AccessTask, approval_id: str, at: str | None, until: str) -> Standing:
    return Standing(task=task, status=TaskStatus.APPROVED, approval_id=approval_id, approved_at=at, until=until)
