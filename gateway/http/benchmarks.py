"""Benchmarks of a plugin: what was measured, and measuring now."""

import asyncio
from typing import Annotated, Any

from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from pydantic import Field

from gateway.bench.report import Thresholds
from gateway.bench.runs import EVERY
from gateway.domain.caller import Caller
from gateway.domain.permission import Level
from gateway.flows.authorize import authorize
from gateway.flows.benchmark import Load, run_benchmark
from gateway.flows.lifecycle import find
from gateway.flows.parts import Parts
from gateway.http.bodies import Body, as_json

MAX_DURATION_S = 300
MAX_CONCURRENCY = 32
_Positive = Annotated[float, Field(gt=0, le=1e9)]


class ResourceLimitsBody(Body):
    """What a call is wished to use at most."""

    max_cpu_percent: _Positive | None = None
    max_memory_mb: _Positive | None = None
    max_disk_mb: _Positive | None = None


class BenchmarkBody(Body):
    """What is called, for how many seconds, by how many at once, and what is to be met."""

    payload: dict[str, object]
    test_duration: Annotated[float, Field(gt=0, le=MAX_DURATION_S)] = 10
    concurrency: Annotated[int, Field(ge=1, le=MAX_CONCURRENCY)] = 1
    response_time_threshold: _Positive | None = None  # milliseconds, on average
    error_rate_threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    resource_limits: ResourceLimitsBody = ResourceLimitsBody()


@get("/v1/plugins/{plugin_id:str}/benchmarks")
async def benchmarks(
    plugin_id: FromPath[str], parts: NamedDependency[Parts], caller: NamedDependency[Caller]
) -> dict[str, Any]:
    """Give a plugin's benchmarks, the newest first."""
    await authorize(parts, caller, Level.READ, f"plugins/{plugin_id}")
    plugin = find(parts, plugin_id)
    kept = await asyncio.to_thread(parts.registry.benchmarks.of, plugin.id)
    since = parts.bench.runs.since_benchmark(plugin.id)
    return {
        "plugin_id": plugin.id,
        "generation": plugin.generation,
        "latest": kept[0].report if kept else None,
        "executions_since": since,
        "should_run": plugin.manifest.monitored and since >= EVERY,
        "benchmarks": [each.report for each in kept],
    }


@post("/v1/plugins/{plugin_id:str}/benchmarks", status_code=200)
async def run(
    plugin_id: FromPath[str],
    data: JSONBody[BenchmarkBody],
    parts: NamedDependency[Parts],
    caller: NamedDependency[Caller],
) -> dict[str, Any]:
    """Call a capability that may be repeated for a while, and give what was measured."""
    wished = data.resource_limits
    load = Load(
        payload=as_json(data.payload),
        duration_s=data.test_duration,
        concurrency=data.concurrency,
        thresholds=Thresholds(
            response_time_ms=data.response_time_threshold,
            error_rate=data.error_rate_threshold,
            cpu_percent=wished.max_cpu_percent,
            memory_mb=wished.max_memory_mb,
            disk_mb=wished.max_disk_mb,
        ),
    )
    return (await run_benchmark(parts, caller, plugin_id, load)).report


ROUTES = [benchmarks, run]
