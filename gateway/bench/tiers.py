"""Tiers: each dimension has stated edges, and the worst dimension decides."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from gateway.bench.figures import Figures


class Tier(StrEnum):
    """How well a plugin runs, the best first."""

    PLATINUM = "platinum"
    GOLD = "gold"
    SILVER = "silver"
    BRONZE = "bronze"


_ORDER = tuple(Tier)


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What a plugin may use, against which its use is measured."""

    cpu_percent: float = 100.0  # of one core
    memory_mb: float = 256.0
    disk_mb: float = 32.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """Where platinum, gold and silver end; what lies beyond the last is bronze."""

    unit: str
    values: tuple[float, float, float]
    more_is_better: bool = False
    first_is_open: bool = False  # a value on the first edge belongs to the second tier

    def tier(self, value: float) -> Tier:
        """Give the tier of a value."""
        for tier, edge in zip(_ORDER, self.values, strict=False):
            inside = value >= edge if self.more_is_better else value <= edge
            if inside and not (self.first_is_open and tier is Tier.PLATINUM and value == edge):
                return tier
        return Tier.BRONZE


EDGES: Mapping[str, Edges] = {
    "response_time": Edges(unit="ms", values=(500, 1000, 2000), first_is_open=True),
    "error_rate": Edges(unit="of all calls", values=(0.001, 0.01, 0.05), first_is_open=True),
    "cpu": Edges(unit="% of what it may use", values=(50, 75, 90)),
    "memory": Edges(unit="% of what it may use", values=(50, 75, 90)),
    "disk": Edges(unit="% of what it may use", values=(50, 75, 90)),
    "throughput": Edges(unit="calls a second", values=(20, 5, 1), more_is_better=True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Grade:
    """The tier of each measured dimension, and of all together.

    It is provisional while fewer calls were made than the error rate of that tier needs to show itself once.
    """

    tier: Tier
    by_dimension: Mapping[str, Tier]
    values: Mapping[str, float]
    provisional: bool
    sample_needed: int


def grade(figures: Figures, allowed: Allowance) -> Grade | None:
    """Grade figures; None where there were no calls."""
    values = _values(figures, allowed)
    if "response_time" not in values:
        return None
    tiers = {name: EDGES[name].tier(value) for name, value in values.items()}
    worst = max(tiers.values(), key=_ORDER.index)
    needed = sample_needed(worst)
    return Grade(
        tier=worst,
        by_dimension=tiers,
        values=values,
        provisional=figures.executions < needed,
        sample_needed=needed,
    )


def sample_needed(tier: Tier) -> int:
    """Give how many calls it takes until one error more or less can tell a tier from the next."""
    edges = EDGES["error_rate"].values
    return round(1 / edges[min(_ORDER.index(tier), len(edges) - 1)])


def _values(figures: Figures, allowed: Allowance) -> dict[str, float]:
    measured = {
        "response_time": figures.mean_ms,
        "error_rate": figures.error_rate,
        "cpu": None if figures.cpu_percent is None else 100 * figures.cpu_percent / allowed.cpu_percent,
        "memory": None if figures.memory_mb is None else 100 * figures.memory_mb / allowed.memory_mb,
        "disk": None if figures.disk_mb is None else 100 * figures.disk_mb / allowed.disk_mb,
        "throughput": figures.throughput_per_s,
    }
    return {name: value for name, value in measured.items() if value is not None}
