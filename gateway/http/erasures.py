"""Erasing people from the log over HTTP."""

from typing import Any

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from gateway.domain.caller import Caller
from gateway.domain.names import parse_user_id
from gateway.domain.permission import Level
from gateway.flows.authorize import authorize
from gateway.flows.erase import ErasureWish, erase_user
from gateway.flows.parts import Parts
from gateway.http.bodies import EraseBody


@post("/v1/audit/erase", status_code=200)
async def erase(
    data: JSONBody[EraseBody], parts: NamedDependency[Parts], caller: NamedDependency[Caller]
) -> Response[dict[str, Any]]:
    """Erase a person; 202 where a second person must ask for the same."""
    wish = ErasureWish(user_id=parse_user_id(data.user), reason=data.reason, keep_policy=data.keep_policy)
    done = await erase_user(parts, caller, wish)
    return Response(done, status_code=202 if done["status"] == "pending" else 200)


@get("/v1/audit/erase")
async def list_erasures(parts: NamedDependency[Parts], caller: NamedDependency[Caller]) -> dict[str, Any]:
    """List the erasures that wait for a second person, or are not finished."""
    await authorize(parts, caller, Level.READ, "audit/erase", key_scope="admin")
    return {"erasures": [each.as_json() for each in parts.registry.erasures.all()]}


ROUTES = [erase, list_erasures]
