"""Health: alive, ready, and what the host can keep."""

import asyncio
from typing import Any

from litestar import Response, get
from litestar.di import NamedDependency

from gateway.domain.caller import Caller
from gateway.domain.permission import Level
from gateway.flows.authorize import authorize
from gateway.flows.diagnose import diagnose, readiness
from gateway.flows.parts import Parts


@get("/healthz")
async def alive() -> dict[str, str]:
    """Tell that the process answers."""
    return {"status": "alive"}


@get("/readyz")
async def ready(parts: NamedDependency[Parts], caller: NamedDependency[Caller]) -> Response[dict[str, Any]]:
    """Tell whether calls can be decided, recorded and confined, 200 or 503; what is missing, and the log's counts."""
    _ = caller
    missing = readiness(parts)
    body = {"ready": not missing, "missing": missing, "log": parts.log.counts.as_json()}
    return Response(body, status_code=503 if missing else 200)


@get("/v1/doctor")
async def doctor(parts: NamedDependency[Parts], caller: NamedDependency[Caller]) -> dict[str, Any]:
    """Prove anew what the host can keep, and tell what home and host lack."""
    await authorize(parts, caller, Level.READ, "policy")
    return dict(await asyncio.to_thread(diagnose, parts))


ROUTES = [alive, ready, doctor]
