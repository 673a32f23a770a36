"""The files of the decision log over HTTP."""

from typing import Any

from litestar import post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec.structs import replace

from gateway.domain.caller import Caller
from gateway.flows.keep_log import rotate_log
from gateway.flows.parts import Parts
from gateway.http.bodies import ReasonBody


@post("/v1/audit/rotate", status_code=200)
async def rotate(
    data: JSONBody[ReasonBody], parts: NamedDependency[Parts], caller: NamedDependency[Caller]
) -> dict[str, Any]:
    """Close the live file of the log and begin a new one."""
    return (await rotate_log(parts, replace(caller, reason=data.reason or caller.reason))).as_json()


ROUTES = [rotate]
