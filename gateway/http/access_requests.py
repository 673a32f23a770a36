"""Requests for what was denied: the access request and approval profile of AuthZEN, over the queues that there are."""

from typing import Annotated, Any

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromHeader, FromPath, HeaderParameter, JSONBody

from gateway.domain.access_request import TaskStatus
from gateway.domain.caller import Caller
from gateway.domain.decision import Decision, timestamp
from gateway.errors import MalformedError
from gateway.flows.access_request import Wish, cancel_access_request, offer, request_access, show_access_request
from gateway.flows.access_standing import Standing
from gateway.flows.evaluate import Evaluation
from gateway.flows.parts import Parts
from gateway.http.authzen_bodies import AccessRequestBody, CancelBody, as_evaluation
from gateway.http.public_url import PublicUrl

PATH = "/access/v1/requests"
CAPABILITY = "urn:openid:authzen:capability:access-request"
_WHY = "business_justification"
_POLL_S = 5

IdempotencyKey = Annotated[str | None, HeaderParameter(name="Idempotency-Key", min_length=1, max_length=255)]


@post(PATH, status_code=202)
async def ask(
    request: Request[Any, Any, Any],
    data: JSONBody[AccessRequestBody],
    parts: NamedDependency[Parts],
    caller: NamedDependency[Caller],
    public_url: NamedDependency[PublicUrl],
    idempotency_key: FromHeader[IdempotencyKey] = None,
) -> Response[dict[str, Any]]:
    """Ask for what an evaluation denied and said how to ask for: a person, or approval.toml, answers."""
    if data.items is not None:
        raise MalformedError("items: several requests in one are not taken", way_out="ask for each by itself")
    why = data.context.get(_WHY)
    wish = Wish(
        evaluation=as_evaluation(data),
        token=data.denial.binding_token,
        reason=why if isinstance(why, str) else "",
        until=data.requested_access.requested_until,
        idempotency_key=idempotency_key,
    )
    standing = await request_access(parts, caller, wish)
    base = public_url.of(request)
    waits = standing.status is TaskStatus.PENDING
    headers = {"Location": _place(base, standing), **({"Retry-After": str(_POLL_S)} if waits else {})}
    return Response(_told(base, standing), status_code=202 if waits else 201, headers=headers)


@get(PATH + "/{task_id:str}")
async def show(
    request: Request[Any, Any, Any],
    task_id: FromPath[str],
    parts: NamedDependency[Parts],
    caller: NamedDependency[Caller],
    public_url: NamedDependency[PublicUrl],
) -> Response[dict[str, Any]]:
    """Tell where a request of one's own stands."""
    standing = show_access_request(parts, caller, task_id)
    headers = {"Retry-After": str(_POLL_S)} if standing.status is TaskStatus.PENDING else {}
    return Response(_told(public_url.of(request), standing), headers=headers)


@post(PATH + "/{task_id:str}/cancel", status_code=200)
async def cancel(
    request: Request[Any, Any, Any],
    task_id: FromPath[str],
    data: JSONBody[CancelBody],
    parts: NamedDependency[Parts],
    caller: NamedDependency[Caller],
    public_url: NamedDependency[PublicUrl],
) -> dict[str, Any]:
    """Take back a request of one's own that waits."""
    reason = data.comment or data.reason
    return _told(public_url.of(request), await cancel_access_request(parts, caller, task_id, reason))


def requestable(parts: Parts, caller: Caller, asked: Evaluation, decision: Decision) -> dict[str, Any]:
    """Give what the context of an explained answer says of requests: how to ask, or the approval that it rests on."""
    told: dict[str, Any] = {"evaluation_id": decision.decision_id, "evaluated_at": timestamp(decision.at)}
    approval = None if decision.approval_id is None else parts.registry.approvals.get(decision.approval_id)
    if decision.allowed and approval is not None:
        told["approval"] = {"id": approval.id, "approved_until": approval.expires_at}
    found = offer(parts, caller, asked, decision)
    if found is not None:
        told["access_request"] = {
            "template": found.template.value,
            "expires_at": timestamp(found.expires_at),
            "binding_token": found.token,
        }
    return told


def _place(base: str, standing: Standing) -> str:
    return f"{base}{PATH}/{standing.task.id}"


def _told(base: str, standing: Standing) -> dict[str, Any]:
    place = _place(base, standing)
    task: dict[str, Any] = {
        "id": standing.task.id,
        "status": standing.status.value,
        "status_endpoint": place,
        "evaluation_id": standing.task.evaluation_id,
        "answered_by": {"template": standing.task.template.value, "id": standing.task.answered_by},
    }
    if standing.status is TaskStatus.PENDING:
        task["links"] = {"cancel": f"{place}/cancel"}
        if standing.expires_at is not None:
            task["expires_at"] = standing.expires_at
    if standing.status is not TaskStatus.APPROVED:
        return {"task": task}
    approval = {"id": standing.approval_id, "approved_at": standing.approved_at, "approved_until": standing.until}
    return {"task": task, "result": {"mode": "reevaluate", "approval": approval}}


ROUTES = [ask, show, cancel]
