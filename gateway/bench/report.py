"""A benchmark as it is told: figures, tier, what was wished for, advice, and the generation before."""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.bench.advice import Advice, advise
from gateway.bench.figures import Figures
from gateway.bench.tiers import Allowance, grade
from gateway.domain.request import Json

_SLOWER_BY = 1.2
_SLOWER_MS = 5.0
_COMPARABLE = 10  # calls of each generation


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """What whoever asks for a benchmark wants to be met; None: no wish."""

    response_time_ms: float | None = None  # on average
    error_rate: float | None = None
    cpu_percent: float | None = None
    memory_mb: float | None = None
    disk_mb: float | None = None

    def judge(self, figures: Figures) -> dict[str, Json]:
        """Say of each wish whether it was met; None where it was not measured."""
        wishes = (
            ("response_time_threshold", self.response_time_ms, figures.mean_ms),
            ("error_rate_threshold", self.error_rate, figures.error_rate),
            ("max_cpu_percent", self.cpu_percent, figures.cpu_percent),
            ("max_memory_mb", self.memory_mb, figures.memory_mb),
            ("max_disk_mb", self.disk_mb, figures.disk_mb),
        )
        return {
            name: {"wanted": wanted, "measured": measured, "met": None if measured is None else measured <= wanted}
            for name, wanted, measured in wishes
            if wanted is not None
        }


def tell(
    figures: Figures, allowed: Allowance, thresholds: Thresholds, before: Mapping[str, Json] | None
) -> dict[str, Json]:
    """Give the JSON of a benchmark; `before` is that of an older generation."""
    graded = grade(figures, allowed)
    met = thresholds.judge(figures)
    compared = None if before is None else compare(figures, before)
    return {
        **figures.as_json(),
        "tier": None if graded is None else graded.tier.value,
        "tiers": {} if graded is None else {name: tier.value for name, tier in graded.by_dimension.items()},
        "provisional": graded is None or graded.provisional,
        "sample_needed": None if graded is None else graded.sample_needed,
        "thresholds": met,
        "passed": bool(figures.executions) and all(_is_met(each) for each in met.values()),
        "advice": [
            *([] if graded is None else [each.as_json() for each in advise(figures, graded, allowed)]),
            *_became_slower(figures, compared),
        ],
        "compared": compared,
    }


def _became_slower(figures: Figures, compared: Mapping[str, Json] | None) -> list[Json]:
    if compared is None or compared["slower"] is not True or figures.mean_ms is None:
        return []
    before = float(str(compared["mean_ms"]))
    told = (
        f"a call takes {figures.mean_ms:,.0f} ms, in generation {compared['generation']} it took {before:,.0f} ms: "
        "`hearthgate plugin reloads` tells which reload made it slower; look at what that changed"
    )
    return [Advice(metric="response_time_before", measured=figures.mean_ms, wanted=before, text=told).as_json()]


def _is_met(judged: Json) -> bool:
    return isinstance(judged, dict) and judged["met"] is True


def compare(figures: Figures, before: Mapping[str, Json]) -> dict[str, Json] | None:
    """Set a generation beside an older one; None where either has too few calls to compare."""
    executions, times = before.get("executions"), before.get("response_time")
    mean = times.get("mean_ms") if isinstance(times, dict) else None
    if not isinstance(executions, int) or not isinstance(mean, int | float) or figures.mean_ms is None:
        return None
    if min(executions, figures.executions) < _COMPARABLE:
        return None
    return {
        "generation": before.get("generation"),
        "mean_ms": mean,
        "change_percent": round(100 * (figures.mean_ms / mean - 1), 1) if mean else None,
        "slower": figures.mean_ms > _SLOWER_BY * mean and figures.mean_ms > mean + _SLOWER_MS,
    }
