"""Going through the records of a period once: counted, listed, and verified."""

import sqlite3
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.audit.checkpoint import VerifierKey
from gateway.audit.query import LogReader
from gateway.audit.report.buckets import Period
from gateway.audit.report.integrity import Integrity
from gateway.audit.report.tally import Tally
from gateway.audit.row import STORED, row_of
from gateway.audit.selection import span, take
from gateway.audit.wanted import Filter
from gateway.domain.decision import timestamp
from gateway.domain.request import Json
from gateway.errors import VerificationError

PAGE_ROWS = 100
_BREATH_S = 0.0005  # between two pages, for those who decide meanwhile


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a report is to be about."""

    since: datetime | None
    until: datetime
    person: str | None = None  # whose data is asked about; None: everybody's


def gather(folder: Path, asked: Asked, verifier: VerifierKey) -> dict[str, Json]:
    """Give what the log says of a period.

    Raises:
        LogUnavailableError: the log cannot be read.

    """
    with LogReader(folder).connect() as connection:
        first, last = connection.execute("SELECT min(seq), max(seq) FROM record").fetchone()
        low, high = span(Filter(since=asked.since, until=asked.until), connection)
        low, high = max(low, first or 1), min(high, last or 0)
        period = Period(asked.since or _first_moment(connection, first, asked.until), asked.until)
        tally, unreadable = Tally(period, asked.person), 0
        integrity = Integrity(connection, verifier, low, high) if high >= low else None
        after = low - 1
        sql = f"{STORED} WHERE record.seq > ? AND record.seq <= ? ORDER BY record.seq LIMIT ?"
        while integrity is not None and (page := take(connection.execute(sql, (after, high, PAGE_ROWS)))):
            for stored in page:
                integrity.add(stored)
                try:
                    row = row_of(stored)
                    tally.add(row, datetime.fromisoformat(row["timestamp"]))
                except (VerificationError, LookupError, TypeError, ValueError, AttributeError):
                    unreadable += 1
            after = page[-1][0]
            time.sleep(_BREATH_S)
    return {
        "period": {"since": timestamp(period.since), "until": timestamp(period.until)},
        **tally.as_json(),
        "integrity": {"ok": True, "empty": True}
        if integrity is None
        else {**integrity.as_json(), "unreadable": unreadable},
        "retention": {"first_seq": first, "last_seq": last},
    }


def _first_moment(connection: sqlite3.Connection, first: int | None, until: datetime) -> datetime:
    """Give when the log begins, a day before `until` if it is empty."""
    row = connection.execute("SELECT ts_us FROM record WHERE seq = ?", (first,)).fetchone()
    begins = until - timedelta(days=1) if row is None else datetime.fromtimestamp(row[0] / 1e6, UTC)
    return min(begins.replace(microsecond=0), until - timedelta(minutes=1))
