"""A log of given records, exported in any format."""

import asyncio
import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from gateway.audit.export import ExportRequest, begin_export
from gateway.audit.formats.known import FORMATS
from gateway.audit.formats.written import Manner, Written
from gateway.audit.log import DecisionLog
from gateway.audit.wanted import Filter
from gateway.domain.record import Record


@pytest.fixture
def export(
    folder: Path, open_log: Callable[[], DecisionLog], now: Callable[[], datetime]
) -> Callable[..., tuple[bytes, Written]]:
    """Give a function that records `records` and gives the bytes of an export, and the export."""

    def do(
        form: str,
        *records: Record,
        redacted: frozenset[str] = frozenset(),
        compress: str | None = None,
        wanted: Filter | None = None,
    ) -> tuple[bytes, Written]:
        manner = Manner(form=FORMATS[form], redacted=redacted, compress=compress)

        async def run() -> tuple[bytes, Written]:
            log = open_log()
            try:
                await log.append(*records)
                request = ExportRequest(
                    event_id=f"audit-{uuid.uuid4()}",
                    at=now(),
                    user_id=None,
                    wanted=wanted or Filter(),
                    how=manner.as_json(),
                )
                written = Written(await begin_export(log, folder, request), manner)
                return b"".join(written.chunks()), written
            finally:
                await log.close()

        return asyncio.run(run())

    return do
