"""Going through the records of a period once: counted, listed, and verified."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.audit.query import LogReader
from gateway.audit.report.buckets import Period
from gateway.audit.report.integrity import Integrity
from gateway.audit.report.tally import Tally
from gateway.audit.row import STORED, row_of
from gateway.audit.selection import span, take
from gateway.audit.trust import KeyChain
from gateway.audit.wanted import Filter
from gateway.audit.whole import WholeLog
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


def gather(folder: Path, asked: Asked, keys: KeyChain) -> dict[str, Json]:
    """Give what the log says of a period.

    Raises:
        LogUnavailableError: the log cannot be read.

    """
    with LogReader(folder).whole() as whole:
        wanted = Filter(since=asked.since, until=asked.until)
        low, high = _bounds(whole, wanted)
        period = Period(asked.since or _first_moment(whole, asked.until), asked.until)
        tally = Tally(period, asked.person)
        integrity = _go_through(whole, (low, high), tally, keys) if high >= low else None
        kept: dict[str, Json] = {
            "first_seq": whole.first if whole.size else None,
            "last_seq": whole.size or None,
            "segments": [{**each.as_json(), "file": each.file, "dropped": each.dropped} for each in whole.segments],
        }
    return {
        "period": {"since": timestamp(period.since), "until": timestamp(period.until)},
        **tally.as_json(),
        "integrity": integrity,
        "retention": kept,
    }


def _bounds(whole: WholeLog, wanted: Filter) -> tuple[int, int]:
    """Give the first and the last record that may lie in a time; what lies between is verified, too."""
    low, high = whole.size + 1, 0
    for part in whole.between(*wanted.span):
        first, last = span(wanted, part.connection) if wanted.since or wanted.until else (part.first, part.last)
        low, high = min(low, max(first, part.first)), max(high, min(last, part.last, whole.size))
    return max(low, whole.first), high


def _go_through(whole: WholeLog, bounds: tuple[int, int], tally: Tally, keys: KeyChain) -> dict[str, Json]:
    low, high = bounds
    integrity, unreadable = Integrity(whole.node, keys, low, high), 0
    sql = f"{STORED} WHERE record.seq BETWEEN ? AND ? ORDER BY record.seq LIMIT ?"
    for part in whole.parts:
        if part.last < low or part.first > high:
            continue
        integrity.open(part.connection)
        next_seq = max(low, part.first)
        while page := take(part.connection.execute(sql, (next_seq, high, PAGE_ROWS))):
            for stored in page:
                integrity.add(stored)
                try:
                    row = row_of(stored)
                    tally.add(row, datetime.fromisoformat(row["timestamp"]))
                except (VerificationError, LookupError, TypeError, ValueError, AttributeError):
                    unreadable += 1
            next_seq = page[-1][0] + 1
            time.sleep(_BREATH_S)
    return {**integrity.as_json(), "unreadable": unreadable}


def _first_moment(whole: WholeLog, until: datetime) -> datetime:
    """Give when the log begins, a day before `until` if it is empty."""
    row = whole.parts[0].connection.execute("SELECT ts_us FROM record ORDER BY seq LIMIT 1").fetchone()
    begins = until - timedelta(days=1) if row is None else datetime.fromtimestamp(row[0] / 1e6, UTC)
    return min(begins.replace(microsecond=0), until - timedelta(minutes=1))
