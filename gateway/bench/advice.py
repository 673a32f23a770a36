"""Advice: which figure keeps a plugin from the next tier, by how much, and what to change."""

from dataclasses import dataclass

from gateway.bench.figures import Figures
from gateway.bench.tiers import EDGES, Allowance, Grade, Tier
from gateway.domain.request import Json

_SLOW_TAIL = 3.0
_WAITING_CPU_PERCENT = 20.0
_TIERS = tuple(Tier)


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """One thing to change, with the figure it comes from."""

    metric: str
    measured: float
    wanted: float
    text: str

    def as_json(self) -> dict[str, Json]:
        """Give the wire shape."""
        return {"metric": self.metric, "measured": self.measured, "wanted": self.wanted, "text": self.text}


def advise(figures: Figures, grade: Grade, allowed: Allowance) -> tuple[Advice, ...]:
    """Say what to change, the worst dimension first; nothing where all is platinum and even."""
    behind = [name for name, tier in grade.by_dimension.items() if tier is not Tier.PLATINUM]
    behind.sort(key=lambda name: _TIERS.index(grade.by_dimension[name]), reverse=True)
    found = [_next_tier(name, figures, grade, allowed) for name in behind]
    if (tail := _tail(figures)) is not None:
        found.append(tail)
    return tuple(found)


def _next_tier(name: str, figures: Figures, grade: Grade, allowed: Allowance) -> Advice:
    tier = grade.by_dimension[name]
    better = _TIERS[_TIERS.index(tier) - 1]
    edge = EDGES[name].values[_TIERS.index(better)]
    value = grade.values[name]
    told = f"{_told(name, figures, value)}; {better.value} ends at {_edge(name, edge)}"
    return Advice(metric=name, measured=round(value, 4), wanted=edge, text=f"{told}: {_change(name, figures, allowed)}")


def _told(name: str, figures: Figures, value: float) -> str:
    match name:
        case "response_time":
            return f"a call takes {value:,.0f} ms on average"
        case "error_rate":
            return f"{figures.errors} of {figures.executions} calls failed ({value:.2%})"
        case "throughput":
            return f"{value:.1f} calls a second with {figures.concurrency} at once"
        case "cpu":
            return f"a call uses {figures.cpu_percent:.0f} % of a core, {value:.0f} % of what it may"
        case "memory":
            return f"a call uses up to {figures.memory_mb:.0f} MB of memory, {value:.0f} % of what it may"
        case _:
            return f"a call writes up to {figures.disk_mb:.0f} MB, {value:.0f} % of what it may"


def _edge(name: str, edge: float) -> str:
    return f"{edge:.1%}" if name == "error_rate" else f"{edge:g} {EDGES[name].unit}"


def _change(name: str, figures: Figures, allowed: Allowance) -> str:
    waits = (figures.cpu_percent or 0.0) < _WAITING_CPU_PERCENT
    changes = {
        "response_time": (
            "it mostly waits: ask for less in each call, or for several things at once"
            if waits
            else "it mostly computes: do less in each call, or keep what is computed again and again"
        ),
        "error_rate": "`hearthgate audit search` on execution_failed shows the errors; the commonest first",
        "throughput": "shorten the call, or ask for another `isolation` in the manifest",
        "cpu": f"compute less, or ask for more than {allowed.cpu_percent:g} % (resource_limits.max_cpu_percent)",
        "memory": f"hold less, or ask for more than {allowed.memory_mb:g} MB (resource_limits.max_memory_usage)",
        "disk": f"keep less in scratch, or ask for more than {allowed.disk_mb:g} MB (sandbox_config.max_disk_mb)",
    }
    return changes[name]


def _tail(figures: Figures) -> Advice | None:
    if figures.p50_ms is None or figures.p99_ms is None or figures.p99_ms <= _SLOW_TAIL * max(figures.p50_ms, 1.0):
        return None
    wanted = round(_SLOW_TAIL * max(figures.p50_ms, 1.0), 3)
    return Advice(
        metric="response_time_p99",
        measured=figures.p99_ms,
        wanted=wanted,
        text=f"one call in a hundred takes {figures.p99_ms:,.0f} ms, the middle one {figures.p50_ms:,.0f} ms: "
        "look at what those calls have in common (their payload, the first after a pause, a slow host)",
    )
