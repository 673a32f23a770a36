"""Permissions: the approval queue, and what is granted."""

from typing import Any

from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody

from gateway.domain.caller import Caller
from gateway.domain.decision import timestamp
from gateway.domain.permission import Level
from gateway.errors import MalformedError
from gateway.flows.authorize import authorize
from gateway.flows.import_grants import difference, import_grants
from gateway.flows.parts import Parts
from gateway.flows.permissions import (
    Answer,
    Wanted,
    approve_request,
    deny_request,
    grants_in_force,
    request_permissions,
)
from gateway.flows.relations import request_json
from gateway.flows.unused_grants import DEFAULT_DAYS, unused_grants
from gateway.http.bodies import (
    ApproveRequestBody,
    ChosenPart,
    ImportBody,
    PermissionRequestBody,
    ReasonBody,
    requested,
)
from gateway.registry.requests import RequestState

EXPORT_VERSION = 1
MAX_IMPORT_BYTES = 32 << 20
MOST_DAYS = 3650


@get("/v1/permission-requests")
async def list_requests(
    parts: NamedDependency[Parts], caller: NamedDependency[Caller], status: FromQuery[str | None] = None
) -> dict[str, Any]:
    """List the approval queue, or the requests of a state."""
    await authorize(parts, caller, Level.READ, "plugins")
    if status is not None and status not in {each.value for each in RequestState}:
        raise MalformedError(f"status `{status[:80]}`", way_out=", ".join(each.value for each in RequestState))
    state = None if status is None else RequestState(status)
    return {"requests": [request_json(parts, each) for each in parts.registry.requests.find(state=state)]}


@post("/v1/permission-requests", status_code=201)
async def ask(
    data: JSONBody[PermissionRequestBody], parts: NamedDependency[Parts], caller: NamedDependency[Caller]
) -> dict[str, Any]:
    """Ask for permissions for a plugin."""
    wanted = Wanted(
        plugin_id=data.plugin_id, permissions=tuple(requested(each) for each in data.permissions), reason=data.reason
    )
    return request_json(parts, await request_permissions(parts, caller, wanted))


@post("/v1/permission-requests/{request_id:str}/approve", status_code=200)
async def approve(
    request_id: FromPath[str],
    data: JSONBody[ApproveRequestBody],
    parts: NamedDependency[Parts],
    caller: NamedDependency[Caller],
) -> dict[str, Any]:
    """Approve a request: whole, a part of it, or for a time."""
    chosen = None
    if data.permissions is not None:
        chosen = tuple(
            (each.permission, each.scope) if isinstance(each, ChosenPart) else (each, None) for each in data.permissions
        )
    if data.until is not None and data.until <= parts.now():
        raise MalformedError("until: a time that is past")
    until = None if data.until is None else timestamp(data.until)
    answer = Answer(reason=data.reason, chosen=chosen, until=until)
    return (await approve_request(parts, caller, request_id, answer)).as_json()


@post("/v1/permission-requests/{request_id:str}/deny", status_code=200)
async def deny(
    request_id: FromPath[str],
    data: JSONBody[ReasonBody],
    parts: NamedDependency[Parts],
    caller: NamedDependency[Caller],
) -> dict[str, Any]:
    """Deny a request."""
    return (await deny_request(parts, caller, request_id, data.reason)).as_json()


@get("/v1/permissions/export")
async def export(parts: NamedDependency[Parts], caller: NamedDependency[Caller]) -> dict[str, Any]:
    """Give every grant in force and every request as versioned JSON."""
    await authorize(parts, caller, Level.READ, "plugins")
    policy = parts.policy.get()
    return {
        "version": EXPORT_VERSION,
        "exported_at": timestamp(parts.now()),
        "policy_version": None if policy is None else policy.version,
        "grants": grants_in_force(parts),
        "requests": [each.as_json() for each in parts.registry.requests.find()],
    }


@post("/v1/permissions/import", status_code=200, request_max_body_size=MAX_IMPORT_BYTES)
async def import_all(
    data: JSONBody[ImportBody],
    parts: NamedDependency[Parts],
    caller: NamedDependency[Caller],
    dry_run: FromQuery[bool] = False,  # noqa: FBT002 (a query parameter)
) -> dict[str, Any]:
    """Grant what an export holds and this home lacks: all of it or nothing; a dry run tells the difference alone."""
    grants = tuple(each.as_exported() for each in data.grants)
    if dry_run:
        return (await difference(parts, caller, grants)).as_json()
    return (await import_grants(parts, caller, grants, data.reason)).as_json()


@get("/v1/permissions/unused")
async def unused(
    parts: NamedDependency[Parts], caller: NamedDependency[Caller], days: FromQuery[int] = DEFAULT_DAYS
) -> dict[str, Any]:
    """List the grants that were never used, or not in the last days, as the log tells it."""
    # WHY: it reads the whole log, which is not for everybody who may use a plugin.
    await authorize(parts, caller, Level.ADMIN, "plugins")
    if not 0 <= days <= MOST_DAYS:
        raise MalformedError(f"days `{days}`", way_out=f"0 to {MOST_DAYS}")
    return {"days": days, "grants": await unused_grants(parts, days)}


ROUTES = [list_requests, ask, approve, deny, export, import_all, unused]
