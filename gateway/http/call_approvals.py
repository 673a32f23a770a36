"""Approvals of exact calls: what waits, and a person's answer."""

from typing import Any

from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody

from gateway.domain.call_approval import ApprovalState, as_json
from gateway.domain.caller import Caller
from gateway.errors import MalformedError
from gateway.flows.call_approval import Yes, approve_call, deny_call, visible_calls
from gateway.flows.parts import Parts
from gateway.http.bodies import ApproveCallBody, ReasonBody


@get("/v1/call-approvals")
async def list_calls(
    parts: NamedDependency[Parts], caller: NamedDependency[Caller], status: FromQuery[str | None] = None
) -> dict[str, Any]:
    """List the exact calls that wait, or those of a state: one's own, and those one may answer for."""
    if status is not None and status not in set(ApprovalState):
        raise MalformedError(f"status `{status[:80]}`", way_out=", ".join(ApprovalState))
    state = None if status is None else ApprovalState(status)
    return {"approvals": [as_json(each) for each in await visible_calls(parts, caller, state)]}


@post("/v1/call-approvals/{approval_id:str}/approve", status_code=200)
async def approve(
    approval_id: FromPath[str],
    data: JSONBody[ApproveCallBody],
    parts: NamedDependency[Parts],
    caller: NamedDependency[Caller],
) -> dict[str, Any]:
    """Approve one exact call, for one use."""
    return as_json(await approve_call(parts, caller, approval_id, Yes(reason=data.reason, until=data.until)))


@post("/v1/call-approvals/{approval_id:str}/deny", status_code=200)
async def deny(
    approval_id: FromPath[str],
    data: JSONBody[ReasonBody],
    parts: NamedDependency[Parts],
    caller: NamedDependency[Caller],
) -> dict[str, Any]:
    """Deny one exact call."""
    return as_json(await deny_call(parts, caller, approval_id, data.reason))


ROUTES = [list_calls, approve, deny]
