"""An export: recorded before anything leaves, written as a stream, and recorded again with what was written."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

from gateway.audit.export import ExportRequest, begin_export
from gateway.audit.formats.manifest import told
from gateway.audit.formats.written import Manner, Written
from gateway.audit.wanted import Filter
from gateway.domain.caller import Caller
from gateway.domain.record import Record, Resolution
from gateway.flows.parts import Parts


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaving:
    """An export under way."""

    event_id: str
    rows: int  # how many records it will hold
    chunks: AsyncIterator[bytes]
    slow: str | None  # why it took longer than usual to begin


async def export_log(parts: Parts, caller: Caller, wanted: Filter, manner: Manner) -> Leaving:
    """Record that `caller` exports what is `wanted`; its chunks are read from the log as they are asked for.

    Raises:
        LogUnavailableError: it cannot be recorded, so nothing is exported.
        MalformedError: the filter cannot be understood.
        UnavailableError: the format needs what is not installed.

    """
    if manner.form.encoder is not None and not manner.form.in_lines:
        manner.form.encoder("")  # WHY: what is not installed is said before anything is recorded.
    request = ExportRequest(
        event_id=parts.event_id(),
        at=parts.now(),
        user_id=caller.user_id,
        wanted=wanted,
        trace_id=caller.trace_id,
        how=manner.as_json(),
    )
    begun = await begin_export(parts.log, parts.home / "data", request)
    written = Written(begun, manner)
    chunks = _write(parts, request, written)
    return Leaving(event_id=request.event_id, rows=begun.rows, chunks=chunks, slow=begun.slow)


async def _write(parts: Parts, request: ExportRequest, written: Written) -> AsyncGenerator[bytes, None]:
    chunks = written.chunks()
    try:
        while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
            yield chunk
    finally:
        # WHY: who hangs up leaves the log open; while a chunk is being made in a thread it is closed with that.
        with suppress(ValueError):
            chunks.close()
    end = Record(
        event_id=parts.event_id(),
        at=parts.now(),
        event_type="exported",
        resolution=Resolution.COMPLETED,
        user_id=request.user_id,
        details=told(written),
        personal={} if request.wanted.everything else {"filters": request.wanted.as_json()},
        trace_id=request.trace_id,
        ref=request.event_id,
    )
    await parts.log.append(end)
