"""Delivering the log to one sink: read behind the writer, spell, send, remember; again and again until stopped."""

import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Protocol

from gateway.audit.checkpoint import parse_note
from gateway.audit.formats.redaction import mark, redact_line
from gateway.audit.query import LogReader
from gateway.audit.row import row_of, spell_line
from gateway.audit.sinks.place import Aside, Place, Position, failed
from gateway.audit.sinks.sink import Row, Sink
from gateway.domain.decision import timestamp
from gateway.errors import HearthgateError

POLL_S = 0.25
FIRST_WAIT_S = 0.5
MAX_WAIT_S = 60.0
_MAX_STEPS = 7


class UndeliveredError(Exception):
    """A batch was not taken; the sentence names no value of a record and no secret."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Records to deliver, each spelt, and the numbers that it was read from."""

    first_seq: int
    last_seq: int
    messages: list[bytes]  # with their line breaks


class Target(Protocol):
    """Takes batches."""

    def send(self, batch: Batch) -> None:
        """Deliver, or raise `UndeliveredError`."""

    def close(self) -> None:
        """Let go of connections."""


class Delivery:
    """Delivers to one sink, in one thread of a process that decides nothing."""

    def __init__(self, data: Path, sink: Sink, target: Target, now: Callable[[], datetime]) -> None:
        self._reader = LogReader(data)
        self._sink, self._target, self._now = sink, target, now
        self.place = Place(data, sink.name)
        self._log_name: str | None = None

    def run(self, stop: threading.Event) -> None:
        """Deliver until `stop` is set."""
        wait_s = 0.0
        try:
            while not stop.wait(wait_s):
                wait_s = self._turn()
        finally:
            self._target.close()

    def _turn(self) -> float:
        """Do what there is to do, and give how long to wait then."""
        try:
            return self.step()
        except HearthgateError as error:
            with suppress(HearthgateError, OSError):
                self._tell(error.message)
        except OSError:
            pass  # WHY: its position cannot be kept, so nothing moved; the gateway tells of a disk that is full
        except Exception as error:  # noqa: BLE001 (a delivery that ended would be missed by nobody)
            with suppress(HearthgateError, OSError):
                self._tell(f"the records cannot be spelt ({type(error).__name__})")
        return _pause(1)

    def _tell(self, why: str) -> None:
        """Keep why the log cannot be read."""
        position = self.place.read()
        if position is not None and position.last_error != why:
            self.place.write(replace(position, last_error=why, last_error_at=timestamp(self._now())))

    def step(self) -> float:
        """Deliver one batch, and give how long to wait for the next step.

        Raises:
            LogUnavailableError: the log cannot be read.
            OSError: its position cannot be kept.

        """
        position = self.place.read() or self._begin()
        if position.failures == 0:
            position = self._deliver_again(position)
        batch = self._read(position.position, None, self._sink.batch_rows)
        if batch is None:
            return POLL_S
        if batch.first_seq > position.position + 1:
            position = self._missed(position, position.position + 1, batch.first_seq - 1)
        try:
            self._send(batch)
        except UndeliveredError as error:
            return self._failed(position, batch, error)
        moved = replace(position, position=batch.last_seq, sent=position.sent + len(batch.messages), failures=0)
        self.place.write(moved)
        return 0.0

    def _send(self, batch: Batch) -> None:
        try:
            if batch.messages:
                self._target.send(batch)
        except UndeliveredError:
            raise
        except Exception as error:  # noqa: BLE001 (nothing that a receiver answers ends a delivery)
            # SECURITY: by its kind alone, for its words may be a record's.
            raise UndeliveredError(f"it cannot be sent ({type(error).__name__})") from None

    def _begin(self) -> Position:
        last = self._reader.extent()[1]
        position = Position(position=0 if self._sink.from_start else last)
        self.place.write(position)
        return position

    def _missed(self, position: Position, first: int, last: int) -> Position:
        """Keep that records were dropped from the log before they could be delivered."""
        moved = replace(
            position,
            position=max(position.position, last),
            missed=position.missed + last - first + 1,
            last_error=f"records {first} to {last} were dropped from the log before this sink took them",
            last_error_at=timestamp(self._now()),
        )
        self.place.write(moved)
        return moved

    def _failed(self, position: Position, batch: Batch, error: UndeliveredError) -> float:
        moved = failed(position, str(error), timestamp(self._now()))
        if moved.failures < self._sink.attempts:
            self.place.write(moved)
            return max(error.retry_after_s or 0.0, _pause(moved.failures))
        self.place.put_aside(self._aside(batch, moved.failures, str(error)))
        count = len(batch.messages)
        self.place.write(replace(moved, position=batch.last_seq, put_aside=moved.put_aside + count, failures=0))
        return _pause(1)

    def _aside(self, batch: Batch, attempts: int, error: str) -> Aside:
        return Aside(
            first_seq=batch.first_seq,
            last_seq=batch.last_seq,
            records=len(batch.messages),
            attempts=attempts,
            error=error,
            at=timestamp(self._now()),
        )

    def _deliver_again(self, position: Position) -> Position:
        """Deliver once more what was put aside and asked for; what fails again is put aside again."""
        asked = self.place.again()
        for at, each in enumerate(asked):
            batch = self._read(each.first_seq - 1, each.last_seq, each.last_seq - each.first_seq + 1)
            kept = each.last_seq + 1 if batch is None else batch.first_seq
            try:
                if batch is not None:
                    self._send(batch)
            except UndeliveredError as error:
                self.place.put_aside(replace(each, error=str(error), at=timestamp(self._now())), *asked[at + 1 :])
                break
            if kept > each.first_seq:
                position = self._missed(position, each.first_seq, kept - 1)
        if asked:
            self.place.done_again()
        return position

    def _read(self, after: int, up_to: int | None, limit: int) -> Batch | None:
        """Read and spell what is behind number `after`; None if there is nothing."""
        found = [each for each in self._reader.after(after, limit) if up_to is None or each[0] <= up_to]
        if not found:
            return None
        messages = []
        for stored in found:
            row = row_of(stored)
            if self._sink.wants(row):
                messages.append(self._spell(row, spell_line(stored)))
        return Batch(first_seq=found[0][0], last_seq=found[-1][0], messages=messages)

    def _spell(self, row: Row, line: bytes) -> bytes:
        sink = self._sink
        if sink.form.encoder is None:
            return (redact_line(line, sink.redacted) if sink.redacted else line) + b"\n"
        return sink.form.encoder(self._name()).rows([mark(row, sink.redacted)])

    def _name(self) -> str:
        """Give the log's name, once a checkpoint tells it."""
        if self._log_name is None:
            note = self._reader.checkpoint()
            if note is None:
                return "hearthgate.log"
            self._log_name = parse_note(note).origin
        return self._log_name


def _pause(failures: int) -> float:
    """Give how long to wait after this many failures: doubling, with jitter, so that many do not come back at once."""
    full = min(MAX_WAIT_S, FIRST_WAIT_S * (1 << min(failures - 1, _MAX_STEPS)))
    return full * (0.5 + secrets.randbelow(1000) / 2000)
