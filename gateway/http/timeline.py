"""A plugin's life as it is recorded: each event, and what became of the hook that was told of it."""

import asyncio
from typing import Any

from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath

from gateway.audit.query import LogReader
from gateway.audit.wanted import Filter
from gateway.domain.caller import Caller
from gateway.domain.manifest import Manifest
from gateway.domain.permission import Level
from gateway.flows import lifecycle
from gateway.flows.authorize import authorize
from gateway.flows.parts import Parts

_EVENTS = 1000
_OF_ONE_HOOK = 200
_BEGINNING = "execution_started"


@get("/v1/plugins/{plugin_id:str}/timeline")
async def timeline(
    plugin_id: FromPath[str],
    parts: NamedDependency[Parts],
    caller: NamedDependency[Caller],
    reader: NamedDependency[LogReader],
) -> dict[str, Any]:
    """Give the lifecycle events of a plugin, oldest first; `hook` tells how the plugin's own function for it ended."""
    # SECURITY: asked before it is told whether the plugin exists.
    await authorize(parts, caller, Level.READ, f"plugins/{plugin_id}")
    plugin = lifecycle.find(parts, plugin_id)
    return {"plugin_id": plugin.id, "events": await asyncio.to_thread(_events, reader, plugin.manifest)}


def _events(reader: LogReader, manifest: Manifest) -> list[dict[str, Any]]:
    page = reader.find(Filter(plugin=manifest.plugin_id, category="lifecycle"), limit=_EVENTS)
    ends: dict[str, dict[str, Any]] = {}
    for function in dict.fromkeys(manifest.hooks.values()):
        wanted = Filter(plugin=manifest.plugin_id, category="execution", q=f'"{function}"')
        for row in reader.find(wanted, limit=_OF_ONE_HOOK).rows:
            details = row["details"]
            if "hook" in details and row["event_type"] != _BEGINNING:
                ends.setdefault(details["of"], _end(row))
    return [{**event, "hook": ends.get(event["event_id"])} for event in page.rows[::-1]]


def _end(row: dict[str, Any]) -> dict[str, Any]:
    details = row["details"]
    return {
        "event_id": row["event_id"],
        **{name: details.get(name) for name in ("function", "outcome", "execution_time", "error")},
    }


ROUTES = [timeline]
