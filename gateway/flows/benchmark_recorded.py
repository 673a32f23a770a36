"""To benchmark by what happened: every ten calls of a plugin their figures are graded, recorded and kept."""

import asyncio
import logging
from collections.abc import Mapping

from gateway.bench.figures import Sample, figures_of
from gateway.bench.report import Thresholds, tell
from gateway.bench.tiers import Allowance
from gateway.domain.decision import timestamp
from gateway.domain.outcome import RunResult
from gateway.domain.record import Record, Resolution
from gateway.domain.request import Json
from gateway.errors import HearthgateError
from gateway.executor.confine import confine
from gateway.flows.parts import Parts
from gateway.registry.benchmarks import KeptBenchmark
from gateway.registry.folder import snapshot_path
from gateway.registry.plugins import Plugin

_log = logging.getLogger("hearthgate.benchmark")
_MB = 1 << 20
_APART_S = 1.0  # evaluations of one plugin
RECORDED, ACTIVE = "recorded", "active"


def note_run(parts: Parts, plugin: Plugin, result: RunResult) -> None:
    """Take the end of a call; where ten came together, have them evaluated beside the calls."""
    sample = Sample.of(result)
    if sample is None:
        return
    due = parts.bench.runs.add(plugin.id, plugin.generation, sample)
    if due and plugin.manifest.monitored and plugin.id not in parts.bench.evaluating:
        task = asyncio.get_running_loop().create_task(_evaluate_in_turn(parts, plugin))
        parts.bench.evaluating[plugin.id] = task
        task.add_done_callback(lambda _done: parts.bench.evaluating.pop(plugin.id, None))


async def _evaluate_in_turn(parts: Parts, plugin: Plugin) -> None:
    current: Plugin | None = plugin
    while current is not None and current.manifest.monitored and parts.bench.runs.is_due(current.id):
        parts.bench.runs.evaluated(current.id)
        try:
            await evaluate(parts, current)
        except HearthgateError as error:
            _log.warning("the calls of plugin %s could not be evaluated: %s", current.id, error)
        # WHY: a plugin that is called a thousand times a second is evaluated once in it.
        await asyncio.sleep(_APART_S)
        current = parts.registry.plugins.get(current.id)


async def evaluate(parts: Parts, plugin: Plugin) -> KeptBenchmark:
    """Grade the latest calls of a plugin's generation, up to 1,000, record it and keep it.

    Raises:
        LogUnavailableError: it could not be recorded.
        UnavailableError: it could not be kept.
    """
    samples = await recent(parts, plugin)
    before = await asyncio.to_thread(previous, parts, plugin, RECORDED)
    told = tell(figures_of(samples), allowance(parts, plugin), Thresholds(), before)
    return await keep(parts, plugin, RECORDED, told)


async def recent(parts: Parts, plugin: Plugin) -> tuple[Sample, ...]:
    """Give the latest calls of a plugin's generation, those before the gateway's start from the log."""
    runs = parts.bench.runs
    if plugin.id not in parts.bench.recalled:
        parts.bench.recalled.add(plugin.id)
        first = len(runs.of(plugin.id, plugin.generation))
        earlier = await asyncio.to_thread(parts.bench.recall, plugin.id, plugin.generation, first)
        runs.recall(plugin.id, plugin.generation, earlier)
    return runs.of(plugin.id, plugin.generation)


async def keep(
    parts: Parts, plugin: Plugin, kind: str, told: Mapping[str, Json], *, by: str | None = None
) -> KeptBenchmark:
    """Record a benchmark, then keep it.

    Raises:
        LogUnavailableError: it could not be recorded.
        UnavailableError: it could not be kept.
    """
    at = parts.now()
    facts: dict[str, Json] = {
        "kind": kind,
        "generation": plugin.generation,
        "version": plugin.manifest.version,
        "digest": plugin.digest,
        **told,
    }
    report: dict[str, Json] = {
        "benchmark_id": parts.new_id(),
        "plugin_id": plugin.id,
        "at": timestamp(at),
        **facts,
    }
    kept = KeptBenchmark(
        id=str(report["benchmark_id"]),
        plugin_id=plugin.id,
        generation=plugin.generation,
        kind=kind,
        at=timestamp(at),
        report=report,
    )
    await parts.log.append(
        Record(
            event_id=parts.event_id(),
            at=at,
            event_type="benchmark_completed",
            resolution=Resolution.COMPLETED,
            plugin_id=plugin.id,
            user_id=by,
            details={"benchmark_id": kept.id, **facts},
        )
    )
    await asyncio.to_thread(parts.registry.benchmarks.keep, kept)
    compared = told.get("compared")
    if isinstance(compared, dict) and compared.get("slower"):
        _log.warning(
            "plugin %s: generation %d is %s %% slower than generation %s: `hearthgate plugin bench %s`",
            *(plugin.id, plugin.generation, compared.get("change_percent"), compared.get("generation"), plugin.id),
        )
    return kept


def allowance(parts: Parts, plugin: Plugin) -> Allowance:
    """Say what a plugin may use: the least of what its manifest, and the operator, allow."""
    limits = confine(plugin.manifest, snapshot_path(parts.snapshots, plugin.digest or ""), parts.caps).limits
    return Allowance(
        cpu_percent=float(limits.cpu_percent or 100),
        memory_mb=limits.memory_bytes / _MB,
        disk_mb=limits.scratch_bytes / _MB,
    )


def previous(parts: Parts, plugin: Plugin, kind: str) -> Mapping[str, Json] | None:
    """Give the newest report of a kind of the generation before; None if there is none."""
    found = parts.registry.benchmarks.latest(plugin.id, before_generation=plugin.generation, kind=kind)
    return None if found is None else found.report
