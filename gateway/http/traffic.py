"""The traffic log over HTTP: listed, summed up, what is under way, exported."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromQuery
from litestar.response import Stream

from gateway.domain.caller import Caller
from gateway.domain.permission import Level
from gateway.domain.request import Json
from gateway.errors import MalformedError
from gateway.flows.authorize import authorize
from gateway.flows.event import event, naming
from gateway.flows.parts import Parts
from gateway.http.bodies import parse_moment
from gateway.traffic.export import MEDIA, export_chunks
from gateway.traffic.query import TrafficFilter, TrafficReader

_DEFAULT_LIMIT = 100


def traffic_wanted(
    *,
    plugin: FromQuery[str | None] = None,
    host: FromQuery[str | None] = None,
    user: FromQuery[str | None] = None,
    since: FromQuery[str | None] = None,
    until: FromQuery[str | None] = None,
) -> TrafficFilter:
    """Take the query's members as a filter.

    Raises:
        MalformedError: one of them cannot be understood.
    """
    return TrafficFilter(
        plugin=plugin,
        host=None if host is None else host.lower(),
        user=user,
        since=parse_moment("since", since),
        until=parse_moment("until", until),
    )


@get("/v1/traffic")
async def listing(
    *,
    traffic_wanted: NamedDependency[TrafficFilter],
    parts: NamedDependency[Parts],
    caller: NamedDependency[Caller],
    traffic: NamedDependency[TrafficReader],
    limit: FromQuery[int] = _DEFAULT_LIMIT,
    cursor: FromQuery[str | None] = None,
) -> dict[str, Any]:
    """Give transfers, newest first; `cursor` of an answer asks for the ones behind it."""
    await _open(parts, caller)
    page = await asyncio.to_thread(traffic.find, traffic_wanted, limit=limit, cursor=cursor)
    return {"transfers": page.rows, "cursor": page.cursor}


@get("/v1/traffic/summary")
async def summary(
    traffic_wanted: NamedDependency[TrafficFilter],
    parts: NamedDependency[Parts],
    caller: NamedDependency[Caller],
    traffic: NamedDependency[TrafficReader],
) -> dict[str, Any]:
    """Sum up transfers, and tell how the traffic log itself fares: what it dropped is missing from the sums."""
    await _open(parts, caller)
    log = parts.traffic
    return {
        **await asyncio.to_thread(traffic.summary, traffic_wanted),
        "active": len(log.active),
        "log": {
            "dropped": log.dropped,
            "waiting": log.waiting,
            "problem": log.problem,
            "keep_days": log.keep_days,
            "max_entries": log.max_entries,
        },
    }


@get("/v1/traffic/active")
async def active(parts: NamedDependency[Parts], caller: NamedDependency[Caller]) -> dict[str, Any]:
    """Give the transfers under way, the oldest first, with what they moved so far."""
    await authorize(parts, caller, Level.READ, "audit", key_scope="audit")
    return {"active": [passage.as_json() for passage in parts.traffic.active]}


@get("/v1/traffic/export")
async def export(
    traffic_wanted: NamedDependency[TrafficFilter],
    parts: NamedDependency[Parts],
    caller: NamedDependency[Caller],
    traffic: NamedDependency[TrafficReader],
    format: FromQuery[str] = "jsonl",  # noqa: A002 (as the decision log's export has it)
) -> Stream:
    """Stream transfers, oldest first; that they were taken away is recorded."""
    await _open(parts, caller)
    if format not in MEDIA:
        raise MalformedError(f"format: `{format[:80]}`", way_out=f"one of {', '.join(MEDIA)}")
    wanted: dict[str, Json] = traffic_wanted.as_json()
    record = event(parts, caller, "exported", None, {"what": "traffic", "format": format, "filter": wanted})
    if traffic_wanted.user is not None:
        record = naming(record, user=traffic_wanted.user)
    await parts.log.append(record)
    return Stream(_pieces(export_chunks(traffic.rows(traffic_wanted), format)), media_type=MEDIA[format])


async def _open(parts: Parts, caller: Caller) -> None:
    await authorize(parts, caller, Level.READ, "audit", key_scope="audit")
    await asyncio.to_thread(parts.traffic.flush, parts.now())


async def _pieces(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        yield chunk


ROUTES = [listing, summary, active, export]
