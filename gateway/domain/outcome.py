"""How a call ended."""

from dataclasses import dataclass, field
from enum import StrEnum

from gateway.domain.isolation import Isolation
from gateway.domain.request import Json


class Outcome(StrEnum):
    """The six ways a call can end."""

    RETURNED = "returned"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    KILLED = "killed"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a call used, as the kernel counted it; None where the host does not tell."""

    wall_s: float
    cpu_s: float | None = None
    memory_peak_bytes: int | None = None
    disk_bytes: int | None = None  # what lay on its disk when it ended
    bytes_out: int = 0  # what its asks and connections moved, as the traffic log counts it
    bytes_in: int = 0

    def as_json(self) -> dict[str, Json]:
        """Give the wire shape."""
        return {
            "wall_s": self.wall_s,
            "cpu_s": self.cpu_s,
            "memory_peak_bytes": self.memory_peak_bytes,
            "disk_bytes": self.disk_bytes,
            "bytes_out": self.bytes_out,
            "bytes_in": self.bytes_in,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """How a run in the sandbox ended, with what it returned or why it did not."""

    outcome: Outcome
    output: Json = None
    error: str | None = None
    usage: Usage
    stdout: str = ""  # the beginning of what the plugin printed
    logs: tuple[str, ...] = ()
    asks: tuple[dict[str, Json], ...] = field(default=())  # what it asked for: decision id, op, effect
    files: dict[str, Json] | None = None  # which of the host's files its cell saw; None: its manifest names none
    isolation: Isolation = Isolation.PRISTINE  # how the call was kept apart from others
    broke_protocol: bool = False  # what its cell sent was no frame
    from_outside: bool = False  # a person, or the gateway, ended it, which says nothing of the plugin
    backend: str | None = None  # who made its cell; None: nobody did

    @property
    def success(self) -> bool:
        """Whether the plugin returned a value."""
        return self.outcome is Outcome.RETURNED
