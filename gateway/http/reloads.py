"""Reloads of a plugin: beginning one, and what became of those before."""

import asyncio
from typing import Any

from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from gateway.audit.query import LogReader
from gateway.audit.wanted import Filter
from gateway.domain.caller import Caller
from gateway.domain.permission import Level
from gateway.domain.reloading import reload_wish
from gateway.errors import ReloadFailedError
from gateway.flows.authorize import authorize
from gateway.flows.hold_back import held_back
from gateway.flows.lifecycle import find
from gateway.flows.parts import Parts
from gateway.flows.reload_plugin import Reload, ReloadOutcome, reload_plugin
from gateway.http.bodies import ReasonBody
from gateway.http.plugins import plugin_json
from gateway.registry.benchmarks import KeptBenchmark

_SHOWN = 1000


@post("/v1/plugins/{plugin_id:str}/reload", status_code=200)
async def reload(
    plugin_id: FromPath[str], data: JSONBody[ReasonBody], parts: NamedDependency[Parts], caller: NamedDependency[Caller]
) -> dict[str, Any]:
    """Take over what lies in a plugin's folder, or hold it back until a person approves it."""
    done = await reload_plugin(parts, caller, plugin_id, data.reason)
    if done.outcome is ReloadOutcome.FAILED:
        raise ReloadFailedError(
            f"`{plugin_id}` was not reloaded: {done.error}",
            way_out=f"generation {done.plugin.generation} stays in force: mend the folder and reload again",
            problems=done.problems,
            extra={"event_id": done.event.event_id if done.event else None, "generation": done.plugin.generation},
        )
    return {**plugin_json(parts, done.plugin), "reload": _reload_json(done)}


def _reload_json(done: Reload) -> dict[str, Any]:
    following = done.following
    return {
        "outcome": done.outcome.value,
        "success": done.outcome in {ReloadOutcome.RELOADED, ReloadOutcome.UNCHANGED},
        "request_id": None if done.request is None else done.request.id,
        **({} if following is None else following.as_json()),
    }


@get("/v1/plugins/{plugin_id:str}/reloads")
async def reloads(
    plugin_id: FromPath[str],
    parts: NamedDependency[Parts],
    caller: NamedDependency[Caller],
    reader: NamedDependency[LogReader],
) -> dict[str, Any]:
    """Give a plugin's reload events, oldest first, each with how fast its generation turned out to be."""
    # SECURITY: asked before it is told whether the plugin exists.
    await authorize(parts, caller, Level.READ, f"plugins/{plugin_id}")
    plugin = find(parts, plugin_id)
    page = await asyncio.to_thread(reader.find, Filter(plugin=plugin.id, event_type="reloaded"), limit=_SHOWN)
    kept = await asyncio.to_thread(parts.registry.benchmarks.of, plugin.id)
    # WHY: the newest come first, and of each generation the newest tells most.
    measured = {each.generation: each for each in reversed(kept)}
    waiting = held_back(parts, plugin.id)
    wish = reload_wish(plugin.manifest)
    return {
        "plugin_id": plugin.id,
        "generation": plugin.generation,
        "reloading": parts.reloads.is_under_way(plugin.id),
        "live_reload": wish.live,
        "watch_paths": list(wish.watch_paths),
        "waiting": waiting[0].as_json() if waiting else None,
        "events": [_event_json(row, measured) for row in page.rows[::-1]],
    }


def _event_json(row: dict[str, Any], measured: dict[int, KeptBenchmark]) -> dict[str, Any]:
    details = row["details"]
    success = details.get("success") is True
    found = measured.get(details.get("new_generation")) if success else None
    return {
        "event_id": row["event_id"],
        "timestamp": row["timestamp"],
        "user_id": row["user_id"],
        "resolution": row["resolution"],
        "reason": details.get("reason") or "",
        "success": success,
        "previous_version": details.get("previous_version"),
        "new_version": details.get("new_version"),
        "error": details.get("error"),
        "details": details,
        "benchmark": None if found is None else _benchmark_json(found.report),
    }


def _benchmark_json(report: dict[str, Any]) -> dict[str, Any]:
    compared = report.get("compared") or {}
    times = report.get("response_time") or {}
    return {
        "executions": report.get("executions"),
        "mean_ms": times.get("mean_ms"),
        "tier": report.get("tier"),
        "compared": report.get("compared"),
        "slower": compared.get("slower"),
    }


ROUTES = [reload, reloads]
