"""A transfer: what one allowed ask of a plugin moved, and how it ended."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from gateway.domain.decision import timestamp
from gateway.domain.outcome import Outcome
from gateway.domain.request import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What is known of a transfer before a byte moves; `host`, `port` and `method` only of requests to a host."""

    decision_id: str
    execution_id: str
    plugin: str
    user: str
    op: str  # the ask, as `http.request`
    at: datetime
    method: str | None = None
    host: str | None = None
    port: int | None = None
    path: str | None = None  # kept only where the settings say so


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """A transfer that is over."""

    start: Start
    status: int | None  # of an HTTP answer
    bytes_out: int
    bytes_in: int
    duration_us: int
    outcome: Outcome
    problem: str | None  # the code of the error that ended it

    @property
    def ended(self) -> datetime:
        """When it was over."""
        return self.start.at + timedelta(microseconds=self.duration_us)


@dataclass(slots=True, kw_only=True)
class Passage:
    """A transfer under way: whoever moves bytes counts them here; `end` closes it, once."""

    start: Start
    closed: Callable[["Passage", Transfer], None]
    bytes_out: int = 0
    bytes_in: int = 0
    status: int | None = None
    began: float = field(default_factory=time.monotonic)

    def count(self, sent: int, received: int) -> None:
        """Count bytes that left the plugin, and bytes that reached it."""
        self.bytes_out += sent
        self.bytes_in += received

    def end(self, outcome: Outcome, problem: str | None = None) -> None:
        """Say how it ended."""
        transfer = Transfer(
            start=self.start,
            status=self.status,
            bytes_out=self.bytes_out,
            bytes_in=self.bytes_in,
            duration_us=self._elapsed_us(),
            outcome=outcome,
            problem=problem,
        )
        self.closed(self, transfer)

    def as_json(self) -> dict[str, Json]:
        """Give the wire shape of a transfer that is not over."""
        return {
            **start_json(self.start),
            "status": self.status,
            "bytes_out": self.bytes_out,
            "bytes_in": self.bytes_in,
            "duration_ms": self._elapsed_us() / 1000,
        }

    def _elapsed_us(self) -> int:
        return int((time.monotonic() - self.began) * 1_000_000)


def start_json(start: Start) -> dict[str, Json]:
    """Give the members that a transfer has from its beginning."""
    return {
        "decision_id": start.decision_id,
        "execution_id": start.execution_id,
        "plugin": start.plugin,
        "user": start.user,
        "op": start.op,
        "method": start.method,
        "host": start.host,
        "port": start.port,
        "path": start.path,
        "started": timestamp(start.at),
    }
