"""A call of a plugin, and what became of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.domain.decision import Decision
from gateway.domain.names import PluginId, UserId
from gateway.domain.outcome import RunResult
from gateway.domain.request import Json
from gateway.domain.trace import Trace
from gateway.executor.waiting import Waiting


@dataclass(slots=True)
class Asks:
    """How many questions a call, and what it called, has left; each one writes a record."""

    left: int

    def take(self) -> bool:
        """Take one; tells whether there was one left."""
        return self.take_some(1)

    def take_some(self, number: int) -> bool:
        """Take so many; tells whether there were as many left."""
        self.left -= number
        return self.left >= 0


@dataclass(slots=True)
class Moved:
    """How many bytes the asks of one call moved."""

    bytes_out: int = 0
    bytes_in: int = 0

    def count(self, sent: int, received: int) -> None:
        """Count bytes that left the plugin, and bytes that reached it."""
        self.bytes_out += sent
        self.bytes_in += received


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call of a plugin, as a caller asks for it."""

    plugin_id: str
    payload: Mapping[str, Json]
    user: UserId | None  # None: nobody, as for a lifecycle hook
    session_id: str | None = None
    timeout_s: float | None = None
    trace: Trace | None = None
    by: UserId | None = None  # whose credential it came with, which need not be the user's
    chain: Mapping[PluginId, str | None] = field(default_factory=dict)
    """The plugins through which the call came, who called last first, each with the digest of the code that it runs."""
    asks: Asks | None = None  # of the call through which it came; its own where it came through none
    waiting: Waiting | None = None  # who hears of it while it runs, and may give it up

    @property
    def trace_id(self) -> str | None:
        """The id of the trace that it belongs to, as it is recorded."""
        return None if self.trace is None else self.trace.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """What became of a call."""

    execution_id: str
    decision: Decision
    generation: int
    results: tuple[RunResult, ...]
    batch: bool = False
    decisions: tuple[Decision, ...] = ()

    @property
    def result(self) -> RunResult:
        """The result of the only call, or of the first of a batch that did not return."""
        return next((each for each in self.results if not each.success), self.results[0])

    @property
    def output(self) -> Json:
        """What the plugin returned; a list for a batch."""
        return [each.output for each in self.results] if self.batch else self.results[0].output
