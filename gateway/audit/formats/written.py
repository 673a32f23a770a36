"""An export in a format, written as a stream; what it held is known when it ended."""

import hashlib
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import msgspec

from gateway.audit import canonical
from gateway.audit.checkpoint import parse_note
from gateway.audit.export import Export, Reading
from gateway.audit.formats.compressed import compressor
from gateway.audit.formats.known import Format
from gateway.audit.formats.redaction import mark, redact_line
from gateway.audit.row import Stored, row_of
from gateway.domain.request import Json

MAX_POLICY_VERSIONS = 1000
_NAMED = b'"policy_version":'
_ROWS_AT_ONCE = 250  # a row taken apart holds some ten times its bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How an export is written."""

    form: Format
    compress: str | None = None
    redacted: frozenset[str] = frozenset()

    def as_json(self) -> dict[str, Json]:
        """Give what the export's record says of it."""
        told: dict[str, Json] = {"format": self.form.name}
        if self.compress is not None:
            told["compress"] = self.compress
        if self.redacted:
            told["redacted"] = [*sorted(self.redacted)]
        return told


class _Asked(msgspec.Struct, gc=False):
    policy_version: str


class _Committed(msgspec.Struct, gc=False):
    decision: _Asked | None


_committed = msgspec.json.Decoder(_Committed)


@dataclass(slots=True, kw_only=True)
class Tally:
    """What was written."""

    rows: int = 0
    first_seq: int | None = None
    last_seq: int | None = None
    policy_versions: set[str] = field(default_factory=set)
    size: int = 0  # in bytes, as written
    sha256: str = ""  # of the bytes as written; empty until the end
    _newest: bytes = b"\n"  # as it is spelt in a record; this occurs in none

    def count(self, page: list[Stored]) -> None:
        """Count a page."""
        self.rows += len(page)
        self.first_seq = page[0][0] if self.first_seq is None else self.first_seq
        self.last_seq = page[-1][0]
        for stored in page:
            committed = stored[1]
            named = committed.count(_NAMED)
            # WHY: nearly every decision was made under the same policy as the one before, and finding that out so is
            # cheaper than reading. A record that names two, as in a detail that somebody chose, is read.
            if not named or (named == 1 and self._newest in committed):
                continue
            decision = _committed.decode(committed).decision
            if decision is not None and len(self.policy_versions) < MAX_POLICY_VERSIONS:
                self.policy_versions.add(decision.policy_version)
                self._newest = _NAMED + canonical.encode(decision.policy_version)


class Written:
    """Writes an export; `tally` is whole once `chunks` has ended."""

    def __init__(self, export: Export, manner: Manner) -> None:
        self.export, self.manner = export, manner
        self.tally = Tally()
        make = manner.form.encoder
        self._encoder = None if make is None else make(parse_note(export.note).origin)
        self._out = compressor(manner.compress)
        self._digest = hashlib.sha256()
        self._hashed: Future[None] | None = None

    def chunks(self) -> Generator[bytes, None, None]:
        """Give the bytes, oldest record first; memory stays the same whatever the length.

        Raises:
            LogUnavailableError: the log cannot be read.
            VerificationError: a record was changed so that it cannot be read.

        """
        # WHY: a thread hashes one chunk while the next is made; it holds no lock of the interpreter meanwhile.
        with ThreadPoolExecutor(1) as hashing, self.export.reading() as reading:
            for piece in self._spelt(reading):
                chunk = self._out.compress(piece)
                if chunk:
                    yield self._noted(chunk, hashing)
            if rest := self._out.flush():
                yield self._noted(rest, hashing)
        self.tally.sha256 = self._digest.hexdigest()

    def _noted(self, chunk: bytes, hashing: ThreadPoolExecutor) -> bytes:
        if self._hashed is not None:
            self._hashed.result()
        self._hashed = hashing.submit(self._digest.update, chunk)
        self.tally.size += len(chunk)
        return chunk

    def _spelt(self, reading: Reading) -> Iterator[bytes]:
        encoder, redacted = self._encoder, self.manner.redacted
        if encoder is not None:
            yield encoder.begin()
        for page in reading.pages:
            self.tally.count(page)
            if encoder is None:
                yield self._redact(reading.spell(page))
            else:
                for at in range(0, len(page), _ROWS_AT_ONCE):
                    part = page[at : at + _ROWS_AT_ONCE]
                    yield encoder.rows([mark(row_of(stored), redacted) for stored in part])
        yield self._redact(reading.last()) if encoder is None else encoder.end()

    def _redact(self, lines: bytes) -> bytes:
        redacted = self.manner.redacted
        if not redacted:
            return lines
        return b"".join(redact_line(line, redacted) + b"\n" for line in lines.split(b"\n") if line)
