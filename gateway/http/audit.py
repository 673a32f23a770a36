"""The decision log over HTTP: searched, its signed head, proofs."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Annotated, Any

from litestar import MediaType, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from litestar.response import Stream

from gateway.audit import canonical
from gateway.audit.index.words import match_expression
from gateway.audit.proof import prove_consistency, prove_inclusion
from gateway.audit.query import LogReader
from gateway.audit.report.gather import Asked
from gateway.audit.report.page import spell_page
from gateway.audit.report.style import POLICY
from gateway.audit.sidecar import read_leaves
from gateway.audit.wanted import Filter
from gateway.domain.caller import Caller
from gateway.domain.names import parse_user_id
from gateway.domain.permission import Level
from gateway.domain.record import CATEGORY_OF, Category
from gateway.errors import MalformedError, NotFoundError
from gateway.flows.authorize import authorize
from gateway.flows.parts import Parts
from gateway.flows.report import make_report
from gateway.flows.rotate_key import rotate_key
from gateway.http.bodies import LiftBody, parse_moment

_DEFAULT_LIMIT = 100
_FOLLOW_S = 60.0
_FOLLOW_POLL_S = 0.25


def wanted(  # noqa: PLR0913 (one argument for each filter of the contract)
    *,
    plugin: FromQuery[str | None] = None,
    user: FromQuery[str | None] = None,
    event_type: FromQuery[str | None] = None,
    category: FromQuery[str | None] = None,
    effect: FromQuery[str | None] = None,
    rule: FromQuery[str | None] = None,
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
        rule=rule,
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
    """Give records, newest first; `cursor` of an answer asks for the ones behind it, `note` says why it was slow."""
    await authorize(parts, caller, Level.READ, "audit", key_scope="audit")
    if event_id is not None:
        name = event_id if event_id.startswith("audit-") else f"audit-{event_id}"
        row = await asyncio.to_thread(reader.get, name)
        return {"records": [] if row is None else [row], "cursor": None}
    page = await asyncio.to_thread(reader.find, wanted, limit=limit, cursor=cursor)
    return {"records": page.rows, "cursor": page.cursor, **({} if page.note is None else {"note": page.note})}


@get("/v1/audit/follow", media_type="application/jsonl")
async def follow(
    wanted: NamedDependency[Filter],
    parts: NamedDependency[Parts],
    caller: NamedDependency[Caller],
    reader: NamedDependency[LogReader],
    after: FromQuery[int | None] = None,
) -> Stream:
    """Stream records as they are written, from behind number `after`, else from now on; ends after a minute.

    An empty line now and then says that it still goes on.
    """
    await authorize(parts, caller, Level.READ, "audit", key_scope="audit")
    if wanted.q is not None:
        match_expression(wanted.q)
    begin = (await asyncio.to_thread(reader.extent))[1] if after is None else max(0, after)
    return Stream(_follow(parts, reader, wanted, begin), media_type="application/jsonl")


async def _follow(parts: Parts, reader: LogReader, wanted: Filter, seq: int) -> AsyncIterator[bytes]:
    # SECURITY: it ends, so that who follows must ask again, and has lost it where the right was taken away.
    ends = time.monotonic() + _FOLLOW_S
    while time.monotonic() < ends and not parts.ending.is_set():
        seq, rows = await asyncio.to_thread(reader.news, wanted, seq)
        yield b"".join(canonical.encode_in_order(row) + b"\n" for row in rows) or b"\n"
        if not rows:
            with suppress(TimeoutError):
                await asyncio.wait_for(parts.ending.wait(), _FOLLOW_POLL_S)


@get("/v1/audit/report")
async def report(
    *,
    parts: NamedDependency[Parts],
    caller: NamedDependency[Caller],
    since: FromQuery[str | None] = None,
    until: FromQuery[str | None] = None,
    format: FromQuery[str] = "json",  # noqa: A002 (the name is the contract's)
    subject_data: FromQuery[str | None] = None,
) -> Response[bytes]:
    """Report on a period: a page to print, or JSON; `subject_data` narrows who read whose data to one person."""
    await authorize(parts, caller, Level.READ, "audit", key_scope="audit")
    if format not in {"html", "json"}:
        raise MalformedError(f"format: `{format[:80]}`", way_out="html or json")
    asked = Asked(
        since=parse_moment("since", since),
        until=parse_moment("until", until) or parts.now(),
        person=None if subject_data is None else parse_user_id(subject_data),
    )
    if asked.since is not None and asked.since >= asked.until:
        raise MalformedError("since: it is not before until")
    body = await make_report(parts, caller, asked)
    if format == "json":
        return Response(await asyncio.to_thread(_spell_json, body), media_type=MediaType.JSON)
    page = await asyncio.to_thread(_spell_page, body)
    return Response(page, media_type=MediaType.HTML, headers={"content-security-policy": POLICY})


def _spell_json(body: dict[str, Any]) -> bytes:
    # SECURITY: ASCII alone, so that no control or direction of a plugin's text reaches a terminal raw.
    return json.dumps(body, ensure_ascii=True).encode()


def _spell_page(body: dict[str, Any]) -> bytes:
    return "".join(spell_page(body)).encode()


@get("/v1/audit/index")
async def index(parts: NamedDependency[Parts], caller: NamedDependency[Caller]) -> dict[str, Any]:
    """Tell how many of the log's records the index has."""
    await authorize(parts, caller, Level.READ, "audit", key_scope="audit")
    return await asyncio.to_thread(_state, parts)


@post("/v1/audit/reindex", status_code=202)
async def reindex(parts: NamedDependency[Parts], caller: NamedDependency[Caller]) -> dict[str, Any]:
    """Delete the index and make it anew from the log; the answer does not wait for it, nor does any search."""
    await authorize(parts, caller, Level.ADMIN, "audit/index", key_scope="audit")
    await asyncio.to_thread(parts.index.rebuild)
    return await asyncio.to_thread(_state, parts)


def _state(parts: Parts) -> dict[str, Any]:
    state = parts.index.state
    return {"indexed": state.indexed, "records": state.records, "why": state.why}


@get("/v1/audit/checkpoint", media_type=MediaType.TEXT)
async def checkpoint(parts: NamedDependency[Parts], caller: NamedDependency[Caller]) -> str:
    """Give the signed head of the log, a note that can be kept elsewhere."""
    await authorize(parts, caller, Level.READ, "audit", key_scope="audit")
    return await parts.log.checkpoint()


@get("/v1/audit/proof/{event_id:str}", media_type=MediaType.JSON)
async def proof(
    event_id: FromPath[str],
    parts: NamedDependency[Parts],
    caller: NamedDependency[Caller],
    reader: NamedDependency[LogReader],
    format: FromQuery[str] = "json",  # noqa: A002 (as of an export)
) -> Response[Any]:
    """Prove that a record is in the log; `format=tlog` gives a C2SP tlog-proof."""
    await authorize(parts, caller, Level.READ, "audit", key_scope="audit")
    if format not in ("json", "tlog"):
        raise MalformedError(f"format: `{format[:80]}`", way_out="json or tlog")
    name = event_id if event_id.startswith("audit-") else f"audit-{event_id}"
    found = await asyncio.to_thread(prove_inclusion, reader, name, await parts.log.checkpoint())
    if format == "tlog":
        return Response(found.text, media_type=MediaType.TEXT)
    return Response({"event_id": name, **found.as_json()}, media_type=MediaType.JSON)


@get("/v1/audit/consistency")
async def consistency(
    parts: NamedDependency[Parts],
    caller: NamedDependency[Caller],
    reader: NamedDependency[LogReader],
    old: Annotated[int, QueryParameter(ge=0)],
) -> dict[str, Any]:
    """Prove that the log of `old` records is the beginning of the log."""
    await authorize(parts, caller, Level.READ, "audit", key_scope="audit")
    found = await asyncio.to_thread(prove_consistency, reader, old, await parts.log.checkpoint())
    return found.as_json()


@get("/v1/audit/leaves", media_type=MediaType.TEXT)
async def leaves(
    parts: NamedDependency[Parts],
    caller: NamedDependency[Caller],
    size: Annotated[int, QueryParameter(ge=0)],
) -> Stream:
    """Stream the leaf hashes of the records 1 to `size`, a line of hex digits each."""
    await authorize(parts, caller, Level.READ, "audit", key_scope="audit")
    if size > parts.log.size:
        raise NotFoundError(f"no log of {size} records: it has {parts.log.size}")
    if gone := parts.log.before.size:
        raise NotFoundError(f"the leaves 1 to {gone} are gone: their records were dropped")
    return Stream(_chunks(read_leaves(parts.home / "data", size)), media_type=MediaType.TEXT)


@post("/v1/audit/rotate-key", status_code=200)
async def change_key(
    data: JSONBody[LiftBody], parts: NamedDependency[Parts], caller: NamedDependency[Caller]
) -> dict[str, Any]:
    """Sign with a new key from now on."""
    note = await rotate_key(parts, caller, data.reason)
    return {"key": parts.log.verifier, "checkpoint": note}


async def _chunks(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        yield chunk


ROUTES = [search, checkpoint, proof, consistency, leaves, change_key, follow, report, index, reindex]
