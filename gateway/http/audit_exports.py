"""Exports of the decision log over HTTP, and where its records go on to."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from litestar import Request, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery
from litestar.response import Stream

from gateway.audit.formats.compressed import accepted, compressor, parse_compress
from gateway.audit.formats.known import parse_format
from gateway.audit.formats.manifest import build_manifest
from gateway.audit.formats.redaction import parse_redaction
from gateway.audit.formats.written import Manner
from gateway.audit.query import LogReader
from gateway.audit.wanted import Filter
from gateway.domain.caller import Caller
from gateway.domain.permission import Level
from gateway.flows.authorize import authorize
from gateway.flows.export_log import export_log
from gateway.flows.parts import Parts


@get("/v1/audit/export")
async def export(  # noqa: PLR0913 (one argument for each thing an export can be told)
    *,
    wanted: NamedDependency[Filter],
    parts: NamedDependency[Parts],
    caller: NamedDependency[Caller],
    request: Request[Any, Any, Any],
    format: FromQuery[str] = "jsonl",  # noqa: A002 (the name is the contract's)
    compress: FromQuery[str | None] = None,
    redact: FromQuery[str | None] = None,
) -> Stream:
    """Stream records, oldest first; of JSON Lines the last is this export's own record with a signed checkpoint.

    The `Link` header names the manifest, which is there once the stream has ended.
    """
    await authorize(parts, caller, Level.READ, "audit", key_scope="audit")
    form = parse_format(format)
    manner = Manner(form=form, compress=parse_compress(compress), redacted=parse_redaction(redact))
    leaving = await export_log(parts, caller, wanted, manner)
    headers = {
        "Link": f'</v1/audit/exports/{leaving.event_id}/manifest>; rel="describedby"',
        "Hearthgate-Export": leaving.event_id,
        "Hearthgate-Rows": f"{leaving.rows}",
        "Vary": "Accept-Encoding",
    }
    if leaving.slow is not None:
        headers["Hearthgate-Note"] = leaving.slow
    coding = None if manner.compress is not None else accepted(request.headers.get("accept-encoding"))
    if coding is not None:
        headers["Content-Encoding"] = coding
    media_type = form.media_type if manner.compress is None else f"application/{manner.compress}"
    return Stream(_coded(leaving.chunks, coding), media_type=media_type, headers=headers)


@get("/v1/audit/exports/{event_id:str}/manifest")
async def manifest(
    event_id: FromPath[str],
    parts: NamedDependency[Parts],
    caller: NamedDependency[Caller],
    reader: NamedDependency[LogReader],
) -> dict[str, Any]:
    """Give the manifest of an export that has ended, under a fresh checkpoint."""
    await authorize(parts, caller, Level.READ, "audit", key_scope="audit")
    return await asyncio.to_thread(build_manifest, reader, event_id, await parts.log.checkpoint())


@get("/v1/audit/sinks")
async def sinks(parts: NamedDependency[Parts], caller: NamedDependency[Caller]) -> dict[str, Any]:
    """Tell how far each sink is, and what its last error was."""
    await authorize(parts, caller, Level.READ, "audit", key_scope="audit")
    return {"sinks": await asyncio.to_thread(parts.sinks.states, parts.log.size)}


@post("/v1/audit/sinks/{name:str}/retry", status_code=202)
async def retry(name: FromPath[str], parts: NamedDependency[Parts], caller: NamedDependency[Caller]) -> dict[str, Any]:
    """Have what a sink put aside delivered once more."""
    await authorize(parts, caller, Level.ADMIN, "audit/sinks", key_scope="audit")
    return await asyncio.to_thread(parts.sinks.send_again, name, parts.log.size)


async def _coded(chunks: AsyncIterator[bytes], coding: str | None) -> AsyncIterator[bytes]:
    if coding is None:
        async for chunk in chunks:
            yield chunk
        return
    out = compressor(coding)
    async for chunk in chunks:
        if coded := await asyncio.to_thread(out.compress, chunk):
            yield coded
    yield out.flush()


ROUTES = [export, manifest, sinks, retry]
