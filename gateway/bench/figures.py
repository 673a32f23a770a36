"""Figures of calls that were really made: response time, errors, use of the machine."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.domain.outcome import Outcome, RunResult
from gateway.domain.request import Json

_MB = 1 << 20
_PERIOD_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One call that ran: how long, with what end, and what the kernel counted."""

    wall_s: float
    failed: bool
    cpu_s: float | None = None
    memory_bytes: int | None = None
    disk_bytes: int | None = None

    @classmethod
    def of(cls, result: RunResult) -> "Sample | None":
        """Take a call's end; None if it says nothing of the plugin: it never ran, or was ended from outside."""
        if result.from_outside or result.outcome in {Outcome.REFUSED, Outcome.UNKNOWN}:
            return None
        usage = result.usage
        return cls(
            wall_s=usage.wall_s,
            failed=not result.success,
            cpu_s=usage.cpu_s,
            memory_bytes=usage.memory_peak_bytes,
            disk_bytes=usage.disk_bytes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a number of calls add up to; None where nothing was measured.

    Times are milliseconds from the moment the plugin has its call until its result is there. `cpu_percent` is the
    mean share of one core while a call ran, or of a tenth of a second where it was shorter, for the kernel bounds the
    share over such periods; `throughput_per_s` is how many ended in a second of an active run.
    """

    executions: int
    errors: int
    mean_ms: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    max_ms: float | None = None
    cpu_percent: float | None = None
    memory_mb: float | None = None
    disk_mb: float | None = None
    throughput_per_s: float | None = None
    concurrency: int | None = None

    @property
    def error_rate(self) -> float | None:
        """The share of calls that failed, 0 to 1."""
        return self.errors / self.executions if self.executions else None

    def as_json(self) -> dict[str, Json]:
        """Give the wire shape."""
        return {
            "executions": self.executions,
            "errors": self.errors,
            "error_rate": self.error_rate,
            "response_time": {
                "mean_ms": self.mean_ms,
                "p50_ms": self.p50_ms,
                "p95_ms": self.p95_ms,
                "p99_ms": self.p99_ms,
                "max_ms": self.max_ms,
            },
            "cpu_percent": self.cpu_percent,
            "memory_mb": self.memory_mb,
            "disk_mb": self.disk_mb,
            "throughput_per_s": self.throughput_per_s,
            "concurrency": self.concurrency,
        }


def figures_of(samples: Sequence[Sample], *, elapsed_s: float | None = None, concurrency: int | None = None) -> Figures:
    """Add samples up; `elapsed_s` is how long an active run of them took."""
    if not samples:
        return Figures(executions=0, errors=0, concurrency=concurrency)
    times = sorted(each.wall_s * 1000 for each in samples)
    busy = [(each.cpu_s, max(each.wall_s, _PERIOD_S)) for each in samples if each.cpu_s is not None]
    memory = [each.memory_bytes for each in samples if each.memory_bytes is not None]
    disk = [each.disk_bytes for each in samples if each.disk_bytes is not None]
    return Figures(
        executions=len(samples),
        errors=sum(each.failed for each in samples),
        mean_ms=_rounded(math.fsum(times) / len(times)),
        p50_ms=_rounded(_percentile(times, 50)),
        p95_ms=_rounded(_percentile(times, 95)),
        p99_ms=_rounded(_percentile(times, 99)),
        max_ms=_rounded(times[-1]),
        cpu_percent=_rounded(100 * sum(cpu for cpu, _ in busy) / sum(wall for _, wall in busy)) if busy else None,
        memory_mb=_rounded(max(memory) / _MB) if memory else None,
        disk_mb=_rounded(max(disk) / _MB) if disk else None,
        throughput_per_s=_rounded(len(samples) / elapsed_s) if elapsed_s else None,
        concurrency=concurrency,
    )


def _percentile(ordered: Sequence[float], percent: int) -> float:
    """Give the nearest rank: the least value that `percent` of a hundred do not exceed."""
    return ordered[max(0, math.ceil(percent * len(ordered) / 100) - 1)]


def _rounded(value: float) -> float:
    return round(value, 3)
