"""What is counted for whoever watches the gateway from outside: numbers and times, never who or on what."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

CONTENT_TYPE = CONTENT_TYPE_LATEST.removesuffix("; charset=utf-8")  # the framework says that of every text
_QUICK = (0.000_01, 0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.005, 0.025, 0.1)
_DISK = (0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0)
_CALL = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0)
_Labels = TypeVar("_Labels", bound=tuple[str, ...])
Gauges = Mapping[str, tuple[str, float | Mapping[str, float]]]  # name -> help, value or values by state


class Times:
    """How often something took how long, in seconds."""

    __slots__ = ("_counts", "_edges", "_sum")

    def __init__(self, edges: tuple[float, ...]) -> None:
        self._edges = edges
        self._counts = [0] * (len(edges) + 1)
        self._sum = 0.0

    def took(self, seconds: float) -> None:
        """Count one."""
        self._counts[bisect_left(self._edges, seconds)] += 1
        self._sum += seconds

    def buckets(self) -> tuple[list[tuple[str, float]], float]:
        """Give how many took at most how long, and the sum of all."""
        names = [*map(str, self._edges), "+Inf"]
        return list(zip(names, map(float, accumulate(self._counts)), strict=True)), self._sum


class Meter:
    """The counters of one home since it was opened."""

    def __init__(self) -> None:
        self._decisions: Counter[tuple[str, str, str]] = Counter()
        self._runs: Counter[tuple[str, str, str]] = Counter()
        self._reloads: Counter[tuple[str, str]] = Counter()
        self._records = 0
        self.decide = Times(_QUICK)
        self._commit = Times(_DISK)
        self._run = Times(_CALL)

    def decided(self, effect: str, reason: str, *, dry_run: bool) -> None:
        """Count a recorded decision."""
        self._decisions[effect, reason, "true" if dry_run else "false"] += 1

    def committed(self, seconds: float, records: int) -> None:
        """Count one commit of the log, with how many records it made durable."""
        self._records += records
        self._commit.took(seconds)

    def ran(self, plugin_id: str, outcome: str, isolation: str, seconds: float) -> None:
        """Count a call that ended."""
        self._runs[plugin_id, outcome, isolation] += 1
        self._run.took(seconds)

    def forget(self, plugin_id: str) -> None:
        """Count no longer what a plugin did that is gone."""
        for key in [key for key in self._runs if key[0] == plugin_id]:
            del self._runs[key]

    def reloaded(self, what: str, result: str) -> None:
        """Count a reload of `policy` or `plugin`."""
        self._reloads[what, result] += 1

    def text(self, gauges: Gauges) -> bytes:
        """Give it all, and what is so at this moment, in the exposition format of Prometheus."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Families((*self._families(), *(_gauge(name, *each) for name, each in gauges.items()))))
        return generate_latest(registry)

    def _families(self) -> Iterator[Metric]:
        yield _counted("hearthgate_decisions", "Recorded decisions.", ("effect", "reason", "dry_run"), self._decisions)
        yield _timed("hearthgate_decide_seconds", "Time to judge a request.", self.decide)
        yield _counted("hearthgate_log_records", "Records made durable.", (), {(): self._records})
        yield _timed("hearthgate_log_commit_seconds", "Time of a commit of the decision log.", self._commit)
        yield _counted(
            "hearthgate_executions", "Calls of plugins that ended.", ("plugin", "outcome", "isolation"), self._runs
        )
        yield _timed("hearthgate_execution_seconds", "Time of a call in its cell.", self._run)
        yield _counted("hearthgate_reloads", "Reloads of the policy and of plugins.", ("what", "result"), self._reloads)


class _Families(Collector):
    """Families as a registry takes them."""

    def __init__(self, families: tuple[Metric, ...]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """Give every family."""
        return self._families


def _counted(name: str, told: str, labels: tuple[str, ...], counts: Mapping[_Labels, int]) -> Metric:
    family = CounterMetricFamily(name, told, labels=labels)
    for values, count in tuple(counts.items()):
        family.add_metric(list(values), count)
    return family


def _timed(name: str, told: str, times: Times) -> Metric:
    buckets, total = times.buckets()
    family = HistogramMetricFamily(name, told)
    family.add_metric([], buckets, total)
    return family


def _gauge(name: str, told: str, value: float | Mapping[str, float]) -> Metric:
    if not isinstance(value, Mapping):
        return GaugeMetricFamily(name, told, value)
    family = GaugeMetricFamily(name, told, labels=("state",))
    for state, number in value.items():
        family.add_metric([state], number)
    return family


def states(names: Iterable[str], counted: Iterable[str]) -> Iterator[tuple[str, float]]:
    """Give how many are in each of the named states."""
    counts = Counter(counted)
    return ((name, float(counts[name])) for name in names)
