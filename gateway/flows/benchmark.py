"""To benchmark by doing: a capability that may be repeated is called for a while, each call a real one."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.bench.figures import Sample, figures_of
from gateway.bench.report import Thresholds, tell
from gateway.domain.caller import Caller
from gateway.domain.manifest import Manifest
from gateway.domain.permission import Level
from gateway.domain.request import Json
from gateway.errors import ConflictError, MalformedError, OverloadedError
from gateway.flows.authorize import authorize, check_credential
from gateway.flows.benchmark_recorded import ACTIVE, allowance, keep, previous
from gateway.flows.call import Call
from gateway.flows.execute import execute
from gateway.flows.lifecycle import find
from gateway.flows.parts import Parts
from gateway.flows.plan import plan
from gateway.registry.benchmarks import KeptBenchmark

_BACK_OFF_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is called, for how long, by how many at once, and what is to be met."""

    payload: Mapping[str, Json]
    duration_s: float
    concurrency: int
    thresholds: Thresholds


async def run_benchmark(parts: Parts, caller: Caller, plugin_id: str, load: Load) -> KeptBenchmark:
    """Call a plugin again and again, grade what was measured, record it and keep it.

    Each call is decided, recorded and confined like any other, and counts against the same rates.

    Raises:
        DeniedError: the caller, or the plugin, may not; of a run that had begun nothing is kept.
        MalformedError: the payload names no capability that its manifest declares `idempotent`.
        ConflictError: a benchmark of this plugin runs already.
        IllegalTransitionError: it is not active.
    """
    scope = f"plugins/{plugin_id}"
    await check_credential(parts, caller, Level.EXECUTE, scope, key_scope="execute")
    await authorize(parts, caller, Level.READ, scope)
    plugin = find(parts, plugin_id)
    _check_repeatable(plugin.manifest, load.payload)
    if plugin.id in parts.bench.active:
        raise ConflictError(f"a benchmark of `{plugin.id}` runs already", way_out="wait until it is over")
    parts.bench.active.add(plugin.id)
    try:
        samples, elapsed_s = await _call_for_a_while(parts, caller, plugin_id, load)
    finally:
        parts.bench.active.discard(plugin.id)
    parts.bench.runs.benchmarked(plugin.id)
    tested = find(parts, plugin_id)
    told = tell(
        figures_of(samples, elapsed_s=elapsed_s, concurrency=load.concurrency),
        allowance(parts, tested),
        load.thresholds,
        await asyncio.to_thread(previous, parts, tested, ACTIVE),
    )
    return await keep(parts, tested, ACTIVE, told, by=caller.user_id)


def _check_repeatable(manifest: Manifest, payload: Mapping[str, Json]) -> None:
    for step in plan(manifest, payload):
        if step.capability is None or not step.capability.idempotent:
            raise MalformedError(
                f"payload.action: `{step.function}` is not declared `idempotent`, so it is not repeated",
                way_out='add `"idempotent": true` to that capability if calling it again changes nothing more',
            )


async def _call_for_a_while(
    parts: Parts, caller: Caller, plugin_id: str, load: Load
) -> tuple[tuple[Sample, ...], float]:
    samples: list[Sample] = []
    began = time.monotonic()
    until = began + load.duration_s

    async def call_again_and_again() -> None:
        while time.monotonic() < until and not parts.ending.is_set():
            call = Call(plugin_id=plugin_id, payload=load.payload, user=caller.acts_for, trace=caller.trace)
            try:
                execution = await execute(parts, caller, call)
            except OverloadedError:
                # WHY: others' calls come first; a call that was turned away says nothing of the plugin.
                await asyncio.sleep(_BACK_OFF_S)
                continue
            samples.extend(sample for each in execution.results if (sample := Sample.of(each)) is not None)

    workers = [asyncio.create_task(call_again_and_again()) for _ in range(load.concurrency)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return tuple(samples), time.monotonic() - began
