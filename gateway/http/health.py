"""Health: alive, ready, and what the host can keep."""

import asyncio
from typing import Any

from litestar import Request, Response, get
from litestar.di import NamedDependency

from gateway.domain.caller import Caller
from gateway.domain.permission import Level
from gateway.flows.authorize import authorize, authorize_again
from gateway.flows.diagnose import diagnose, readiness
from gateway.flows.parts import Parts
from gateway.flows.watch_over import measure
from gateway.http.identity import peer_pid
from gateway.meter import CONTENT_TYPE


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
async def doctor(
    parts: NamedDependency[Parts], caller: NamedDependency[Caller], request: Request[Any, Any, Any]
) -> dict[str, Any]:
    """Prove anew what the host can keep, and tell what home and host lack."""
    await authorize(parts, caller, Level.READ, "policy")
    return dict(await asyncio.to_thread(diagnose, parts, asking=peer_pid(request.scope)))


@get("/metrics", media_type=CONTENT_TYPE)
async def metrics(parts: NamedDependency[Parts], caller: NamedDependency[Caller]) -> bytes:
    """Tell numbers and times in the exposition format of Prometheus; nothing of people or of what is asked for."""
    await authorize_again(parts, caller, Level.READ, "metrics", key_scope="audit")
    return await asyncio.to_thread(measure, parts)


ROUTES = [alive, ready, doctor, metrics]
