"""The decision log over HTTP: searched, exported, its signed head."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

from litestar import MediaType, get
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter
from litestar.response import Stream

from gateway.audit.export import ExportRequest, begin_export
from gateway.audit.query import Filter, LogReader
from gateway.domain.caller import Caller
from gateway.domain.permission import Level
from gateway.domain.record import CATEGORY_OF, Category
from gateway.errors import MalformedError
from gateway.flows.authorize import authorize
from gateway.flows.parts import Parts
from gateway.http.bodies import parse_moment

_DEFAULT_LIMIT = 100


def wanted(  # noqa: PLR0913 (one argument for each filter of the contract)
    *,
    plugin: FromQuery[str | None] = None,
    user: FromQuery[str | None] = None,
    event_type: FromQuery[str | None] = None,
    category: FromQuery[str | None] = None,
    effect: FromQuery[str | None] = None,
    min_risk: Annotated[int | None, QueryParameter(ge=0, le=100)] = None,
    since: FromQuery[str | None] = None,
    until: FromQuery[str | None] = None,
    q: FromQuery[str | None] = None,
) -> Filter:
    """Take the query's members as a filter; a word that no record can have is an error, not an empty answer.

    Raises:
        MalformedError: one of them cannot be understood.
    """
    for name, value, known in (
        ("event_type", event_type, sorted(CATEGORY_OF)),
        ("category", category, [each.value for each in Category]),
        ("effect", effect, ["allow", "deny"]),
    ):
        if value is not None and value not in known:
            raise MalformedError(f"{name}: `{value[:80]}`", way_out=f"one of {', '.join(known)}")
    return Filter(
        plugin=plugin,
        user=user,
        event_type=event_type,
        category=category,
        effect=effect,
        min_risk=min_risk,
        since=parse_moment("since", since),
        until=parse_moment("until", until),
        q=q,
    )


@get("/v1/audit")
async def search(  # noqa: PLR0913 (one argument for each thing a search needs)
    *,
    wanted: NamedDependency[Filter],
    parts: NamedDependency[Parts],
    caller: NamedDependency[Caller],
    reader: NamedDependency[LogReader],
    limit: FromQuery[int] = _DEFAULT_LIMIT,
    cursor: FromQuery[str | None] = None,
    event_id: FromQuery[str | None] = None,
) -> dict[str, Any]:
    """Give records, newest first; `cursor` of an answer asks for the ones behind it."""
    await authorize(parts, caller, Level.READ, "audit", key_scope="audit")
    if event_id is not None:
        name = event_id if event_id.startswith("audit-") else f"audit-{event_id}"
        row = await asyncio.to_thread(reader.get, name)
        return {"records": [] if row is None else [row], "cursor": None}
    page = await asyncio.to_thread(reader.find, wanted, limit=limit, cursor=cursor)
    return {"records": page.rows, "cursor": page.cursor}


@get("/v1/audit/export", media_type="application/jsonl")
async def export(
    wanted: NamedDependency[Filter],
    parts: NamedDependency[Parts],
    caller: NamedDependency[Caller],
    format: FromQuery[str] = "jsonl",  # noqa: A002 (the name is the contract's)
) -> Stream:
    """Stream records, oldest first; the last line is this export's own record with a signed checkpoint."""
    await authorize(parts, caller, Level.READ, "audit", key_scope="audit")
    if format != "jsonl":
        raise MalformedError(f"format: `{format[:80]}`", way_out="jsonl")
    request = ExportRequest(
        event_id=parts.event_id(), at=parts.now(), user_id=caller.user_id, wanted=wanted, trace_id=caller.trace_id
    )
    begun = await begin_export(parts.log, parts.home / "data", request)
    return Stream(_chunks(begun.chunks()), media_type="application/jsonl")


@get("/v1/audit/checkpoint", media_type=MediaType.TEXT)
async def checkpoint(parts: NamedDependency[Parts], caller: NamedDependency[Caller]) -> str:
    """Give the signed head of the log, a note that can be kept elsewhere."""
    await authorize(parts, caller, Level.READ, "audit", key_scope="audit")
    return await parts.log.checkpoint()


async def _chunks(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        yield chunk


ROUTES = [search, export, checkpoint]
