"""Exports: JSON Lines that verify alone.

An export is itself recorded. Its record is the last line and carries a signed checkpoint of the log up to and
including that record, so that the file proves itself without the gateway.
"""

import asyncio
import sqlite3
from binascii import hexlify
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from gateway.audit import canonical
from gateway.audit.chosen import PAGE_BYTES, PAGE_ROWS, Chosen, choose
from gateway.audit.log import DecisionLog
from gateway.audit.merkle import TILE_LEVELS, Node, inclusion_proof
from gateway.audit.query import LogReader
from gateway.audit.row import STORED, Stored, spell_line
from gateway.audit.selection import take
from gateway.audit.verification import FILTERED_NOTE
from gateway.audit.wanted import Filter
from gateway.audit.whole import WholeLog
from gateway.domain.record import Record, Resolution
from gateway.domain.request import Json
from gateway.errors import LogUnavailableError

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
    seq: int  # the export's own record
    note: str
    first: int  # the first record that is kept
    wanted: Filter = EVERYTHING
    chosen: Chosen | None = None  # what is wanted, None if everything is

    @property
    def rows(self) -> int:
        """How many records are wanted."""
        return self.seq - self.first if self.chosen is None else self.chosen.numbers.count

    @property
    def slow(self) -> str | None:
        """Why it took longer than usual to begin, None if it did not."""
        return None if self.chosen is None else self.chosen.note

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
            if self.chosen is None and whole.first != self.first:
                raise LogUnavailableError("records were dropped since this export began", way_out="export again")
            proof = None if self.chosen is None else _prover(whole.node, self.seq)

            def spell(found: list[Stored]) -> bytes:
                lines = [spell_line(stored, b"" if proof is None else proof(stored[0])) for stored in found]
                lines.append(b"")
                return b"\n".join(lines)

            def last() -> bytes:
                holder = whole.holder(self.seq).connection
                own = holder.execute(f"{STORED} WHERE record.seq = ?", (self.seq,)).fetchone()
                end = (b"" if proof is None else proof(self.seq)) + self._end(whole.live)
                return spell_line(own, end) + b"\n"

            pages = _pages(whole, self.seq) if self.chosen is None else self.chosen.pages(whole, self.wanted)
            yield Reading(pages=pages, spell=spell, last=last)

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
    before = log.before
    details: dict[str, Json] = {}
    chosen = None
    if not request.wanted.everything:
        chosen = await asyncio.to_thread(_choose, folder, request.wanted)
        details = {
            "rows": chosen.numbers.count,
            "up_to": chosen.up_to,
            "leaves_sha256": chosen.leaves_sha256,
            "not_proven": FILTERED_NOTE,
        }
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
    return Export(folder=folder, wanted=request.wanted, seq=seq, note=note, first=before.size + 1, chosen=chosen)


def _choose(folder: Path, wanted: Filter) -> Chosen:
    with LogReader(folder).whole() as whole:
        return choose(folder, whole, wanted)


def _pages(whole: WholeLog, end: int) -> Iterator[list[Stored]]:
    """Read every record before `end`, oldest first; each page is a read of its own, so the writer is never held up."""
    after = 0
    sql = f"{STORED} WHERE record.seq > ? AND record.seq < ? ORDER BY record.seq LIMIT {PAGE_ROWS}"
    for part in whole.parts:
        while found := take(part.connection.execute(sql, (after, end)), PAGE_BYTES):
            after = found[-1][0]
            yield found


def _prover(node: Node, size: int) -> Callable[[int], bytes]:
    """Give what spells the proof of a record in the tree of `size`."""

    @lru_cache(1)
    def above(tile: int) -> bytes:
        """Give the hashes above a full tile, which its leaves share."""
        return b"".join(map(_spelt, inclusion_proof(tile << TILE_LEVELS, size, node)[TILE_LEVELS:]))

    def prove(seq: int) -> bytes:
        index = seq - 1
        tile = index >> TILE_LEVELS
        if (tile + 1) << TILE_LEVELS <= size:
            beside = b"".join(_spelt(node(level, (index >> level) ^ 1)) for level in range(TILE_LEVELS)) + above(tile)
        else:
            beside = b"".join(map(_spelt, inclusion_proof(index, size, node)))
        return b',"proof":[%b]' % beside[1:]

    return prove


def _spelt(node: bytes) -> bytes:
    return b',"%b"' % hexlify(node)
