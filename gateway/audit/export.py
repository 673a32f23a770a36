"""Exports: JSON Lines that verify alone.

An export is itself recorded. Its record is the last line and carries a signed checkpoint of the log up to and
including that record, so that the file proves itself without the gateway.
"""

import asyncio
import hashlib
import sqlite3
from binascii import hexlify
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from gateway.audit import canonical
from gateway.audit.index.words import match_expression
from gateway.audit.log import DecisionLog
from gateway.audit.merkle import Node, inclusion_proof
from gateway.audit.query import LogReader
from gateway.audit.row import STORED, Stored, spell_line
from gateway.audit.search import Sieve
from gateway.audit.selection import conditions, take
from gateway.audit.verification import FILTERED_NOTE
from gateway.audit.wanted import Filter
from gateway.audit.whole import WholeLog
from gateway.domain.record import Record, Resolution
from gateway.domain.request import Json
from gateway.errors import LogUnavailableError

PAGE_ROWS = 2000
EVERYTHING = Filter()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """Who exports what, when, and under which event id."""

    event_id: str  # "audit-" + UUIDv7
    at: datetime
    user_id: str | None
    wanted: Filter = EVERYTHING
    trace_id: str | None = None
    how: dict[str, Json] = field(default_factory=lambda: {"format": "jsonl"})  # recorded too


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What an export holds, while its log is open."""

    pages: Iterator[list[Stored]]  # what was wanted, oldest first
    spell: Callable[[list[Stored]], bytes]  # gives lines
    last: Callable[[], bytes]  # gives the line of the export's own record


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """An export that is recorded and can be read, `chunks` of whole lines at a time."""

    folder: Path
    wanted: Filter
    up_to: int  # the last record that could match
    seq: int  # the export's own record
    note: str
    first: int  # the first record that is kept
    rows: int  # how many records are wanted

    def chunks(self) -> Iterator[bytes]:
        """Give the lines, oldest first, some thousand at a time; memory stays the same whatever the length.

        Raises:
            LogUnavailableError: the log cannot be read; what came so far has no checkpoint and so proves nothing.
            VerificationError: a record was changed so that it cannot be read.

        """
        with self.reading() as reading:
            yield from map(reading.spell, reading.pages)
            yield reading.last()

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        """Open the log to read what is exported.

        Raises:
            LogUnavailableError: it cannot be read.

        """
        with LogReader(self.folder).whole() as whole:
            if self.wanted.everything and whole.first != self.first:
                raise LogUnavailableError("records were dropped since this export began", way_out="export again")
            proof = None if self.wanted.everything else _prover(whole.node, self.seq)

            def spell(found: list[Stored]) -> bytes:
                lines = [spell_line(stored, b"" if proof is None else proof(stored[0])) for stored in found]
                lines.append(b"")
                return b"\n".join(lines)

            def last() -> bytes:
                holder = whole.holder(self.seq).connection
                own = holder.execute(f"{STORED} WHERE record.seq = ?", (self.seq,)).fetchone()
                end = (b"" if proof is None else proof(self.seq)) + self._end(whole.live)
                return spell_line(own, end) + b"\n"

            yield Reading(pages=_pages(whole, self.wanted, self.up_to), spell=spell, last=last)

    def _end(self, connection: sqlite3.Connection) -> bytes:
        """Give what only the last line has: the checkpoint, and how the key that signed it came to its office."""
        checkpoint = b',"checkpoint":%b' % canonical.encode(self.note)
        sql = "SELECT note FROM rotation WHERE size <= ? ORDER BY size"
        rotations = [note for (note,) in connection.execute(sql, (self.seq,))]
        return checkpoint + (b',"rotations":%b' % canonical.encode(rotations) if rotations else b"")


async def begin_export(log: DecisionLog, folder: Path, request: ExportRequest) -> Export:
    """Record an export of what `request` wants; reading its chunks is for a thread.

    Raises:
        LogUnavailableError: it cannot be recorded, so nothing is exported.
        MalformedError: the filter cannot be understood.

    """
    size, rows, before = 0, 0, log.before
    details: dict[str, Json] = {}
    if not request.wanted.everything:
        size, rows, details = await asyncio.to_thread(_survey, folder, request.wanted)
    elif before.size:
        details = {"first": before.size + 1, "frontier": [each.hex() for each in before.hashes]}
    record = Record(
        event_id=request.event_id,
        at=request.at,
        event_type="exported",
        resolution=Resolution.COMPLETED,
        user_id=request.user_id,
        details={**request.how, "complete": request.wanted.everything, **details},
        personal={} if request.wanted.everything else {"filters": request.wanted.as_json()},
        trace_id=request.trace_id,
    )
    seq, note = await log.append_signed(record)
    up_to = seq - 1 if request.wanted.everything else size
    first = before.size + 1
    rows = seq - first if request.wanted.everything else rows
    return Export(folder=folder, wanted=request.wanted, up_to=up_to, seq=seq, note=note, first=first, rows=rows)


def _survey(folder: Path, wanted: Filter) -> tuple[int, int, dict[str, Json]]:
    """Count and hash what will be exported, so that its record commits to it."""
    rows, digest = 0, hashlib.sha256()
    with LogReader(folder).whole() as whole:
        size = whole.size
        for found in _pages(whole, wanted, size):
            rows += len(found)
            for stored in found:
                digest.update(stored[2])
    details: dict[str, Json] = {
        "rows": rows,
        "up_to": size,
        "leaves_sha256": digest.hexdigest(),
        "not_proven": FILTERED_NOTE,
    }
    return size, rows, details


def _pages(whole: WholeLog, wanted: Filter, up_to: int) -> Iterator[list[Stored]]:
    """Read what `wanted` describes, oldest first; each page is a read of its own, so the writer is never held up."""
    after = 0
    with closing(Sieve(None if wanted.q is None else match_expression(wanted.q))) as sieve:
        for part in whole.between(*wanted.span):
            where, values = conditions(wanted, part.connection)
            sql = (
                f"{STORED} WHERE {' AND '.join(where)} AND record.seq > ? AND record.seq <= ? "
                "ORDER BY record.seq LIMIT ?"
            )
            while found := take(part.connection.execute(sql, (*values, after, up_to, PAGE_ROWS))):
                after = found[-1][0]
                if passed := sieve.passed(found):
                    yield passed


def _prover(node: Node, size: int) -> Callable[[int], bytes]:

    def prove(seq: int) -> bytes:
        hashes = b",".join(b'"%b"' % hexlify(each) for each in inclusion_proof(seq - 1, size, node))
        return b',"proof":[%b]' % hashes

    return prove
