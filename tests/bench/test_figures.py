"""Figures, tiers and advice, as tables."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.bench.advice import advise
from gateway.bench.figures import Figures, Sample, figures_of
from gateway.bench.report import Thresholds, compare, tell
from gateway.bench.runs import EVERY, KEPT, Runs
from gateway.bench.tiers import EDGES, Allowance, Tier, grade, sample_needed
from gateway.domain.outcome import Outcome, RunResult, Usage

ALLOWED = Allowance(cpu_percent=50, memory_mb=512, disk_mb=100)


def sample(ms: float, *, failed: bool = False, cpu_s: float | None = None, memory_mb: int | None = None) -> Sample:
    memory = None if memory_mb is None else memory_mb << 20
    return Sample(wall_s=ms / 1000, failed=failed, cpu_s=cpu_s, memory_bytes=memory)


def test_percentiles_are_values_that_were_measured() -> None:
    figures = figures_of([sample(ms) for ms in range(1, 101)])
    assert (figures.p50_ms, figures.p95_ms, figures.p99_ms, figures.max_ms) == (50, 95, 99, 100)
    assert figures.mean_ms == 50.5


@given(st.lists(st.floats(min_value=0.001, max_value=1e6), min_size=1, max_size=50))
def test_percentiles_are_ordered_and_lie_among_the_samples(times: list[float]) -> None:
    figures = figures_of([sample(each) for each in times])
    ordered = [figures.p50_ms, figures.p95_ms, figures.p99_ms, figures.max_ms]
    assert all(each is not None for each in ordered)
    assert ordered == sorted(each for each in ordered if each is not None)
    assert all(any(math.isclose(each or 0, time, abs_tol=0.001) for time in times) for each in ordered)


def test_what_was_not_measured_is_not_told_as_zero() -> None:
    assert figures_of([]).mean_ms is None
    alone = figures_of([sample(5)])
    assert (alone.cpu_percent, alone.memory_mb, alone.disk_mb, alone.throughput_per_s) == (None, None, None, None)


def test_the_share_of_a_core_and_the_peak_of_memory_are_the_kernels() -> None:
    figures = figures_of([sample(20, cpu_s=0.05, memory_mb=20), sample(300, cpu_s=0.05, memory_mb=30)], elapsed_s=0.5)
    assert (figures.cpu_percent, figures.memory_mb, figures.throughput_per_s) == (25, 30, 4)


def test_a_sample_holds_all_that_the_kernel_counted() -> None:
    usage = Usage(wall_s=0.2, cpu_s=0.1, memory_peak_bytes=3 << 20, disk_bytes=5 << 20)
    found = Sample.of(RunResult(outcome=Outcome.RETURNED, usage=usage))
    assert found == Sample(wall_s=0.2, failed=False, cpu_s=0.1, memory_bytes=3 << 20, disk_bytes=5 << 20)
    assert figures_of([found]).disk_mb == 5


@pytest.mark.parametrize(
    ("outcome", "counts", "failed"),
    [
        (Outcome.RETURNED, True, False),
        (Outcome.FAILED, True, True),
        (Outcome.TIMED_OUT, True, True),
        (Outcome.KILLED, True, True),
        (Outcome.REFUSED, False, False),
        (Outcome.UNKNOWN, False, False),
    ],
)
def test_a_call_that_never_ran_says_nothing_of_the_plugin(outcome: Outcome, *, counts: bool, failed: bool) -> None:
    taken = Sample.of(RunResult(outcome=outcome, usage=Usage(wall_s=0.1)))
    assert (taken is not None) == counts
    assert taken is None or taken.failed == failed


@pytest.mark.parametrize(
    ("dimension", "value", "tier"),
    [
        ("response_time", 499.9, Tier.PLATINUM),
        ("response_time", 500, Tier.GOLD),
        ("response_time", 1000, Tier.GOLD),
        ("response_time", 1000.1, Tier.SILVER),
        ("response_time", 2000, Tier.SILVER),
        ("response_time", 2000.1, Tier.BRONZE),
        ("error_rate", 0.0009, Tier.PLATINUM),
        ("error_rate", 0.001, Tier.GOLD),
        ("error_rate", 0.01, Tier.GOLD),
        ("error_rate", 0.05, Tier.SILVER),
        ("error_rate", 0.051, Tier.BRONZE),
        ("cpu", 50, Tier.PLATINUM),
        ("memory", 75, Tier.GOLD),
        ("disk", 90, Tier.SILVER),
        ("memory", 91, Tier.BRONZE),
        ("throughput", 20, Tier.PLATINUM),
        ("throughput", 4.9, Tier.SILVER),
        ("throughput", 0.5, Tier.BRONZE),
    ],
)
def test_edges_are_where_they_are_said_to_be(dimension: str, value: float, tier: Tier) -> None:
    assert EDGES[dimension].tier(value) is tier


def test_the_worst_dimension_decides() -> None:
    graded = grade(Figures(executions=5000, errors=0, mean_ms=10, memory_mb=500), ALLOWED)
    assert graded is not None
    assert (graded.tier, graded.by_dimension["response_time"]) == (Tier.BRONZE, Tier.PLATINUM)


@pytest.mark.parametrize(("executions", "provisional"), [(1, True), (999, True), (1000, False)])
def test_platinum_is_provisional_until_one_error_in_a_thousand_could_show(
    executions: int, *, provisional: bool
) -> None:
    graded = grade(Figures(executions=executions, errors=0, mean_ms=10), ALLOWED)
    assert graded is not None
    assert (graded.tier, graded.provisional, graded.sample_needed) == (Tier.PLATINUM, provisional, 1000)


def test_a_worse_tier_needs_fewer_calls() -> None:
    assert [sample_needed(tier) for tier in Tier] == [1000, 100, 20, 20]


def test_no_calls_have_no_tier() -> None:
    told = tell(figures_of([]), ALLOWED, Thresholds(), None)
    assert (told["tier"], told["provisional"], told["passed"]) == (None, True, False)


@pytest.mark.parametrize(
    ("figures", "metric", "says"),
    [
        (Figures(executions=100, errors=0, mean_ms=700, cpu_percent=2), "response_time", "it mostly waits"),
        (Figures(executions=100, errors=0, mean_ms=700, cpu_percent=20), "response_time", "it mostly computes"),
        (Figures(executions=100, errors=7, mean_ms=7), "error_rate", "7 of 100 calls failed (7.00%)"),
        (Figures(executions=9, errors=0, mean_ms=7, cpu_percent=45), "cpu", "more than 50 %"),
        (Figures(executions=9, errors=0, mean_ms=7, memory_mb=400), "memory", "more than 512 MB"),
        (Figures(executions=9, errors=0, mean_ms=7, disk_mb=60), "disk", "more than 100 MB"),
        (Figures(executions=9, errors=0, mean_ms=7, throughput_per_s=3, concurrency=2), "throughput", "2 at once"),
        (Figures(executions=9, errors=0, mean_ms=9, p50_ms=2, p99_ms=90), "response_time_p99", "one call in a hundred"),
    ],
)
def test_advice_names_the_metric_the_number_and_the_change(figures: Figures, metric: str, says: str) -> None:
    graded = grade(figures, ALLOWED)
    assert graded is not None
    advice = {each.metric: each for each in advise(figures, graded, ALLOWED)}
    assert says in advice[metric].text


def test_who_runs_well_gets_no_advice() -> None:
    figures = Figures(executions=9, errors=0, mean_ms=7, p50_ms=6, p99_ms=9, cpu_percent=1, memory_mb=9)
    graded = grade(figures, ALLOWED)
    assert graded is not None
    assert advise(figures, graded, ALLOWED) == ()


def test_a_wish_that_was_not_measured_is_not_met() -> None:
    told = tell(Figures(executions=5, errors=0, mean_ms=7), ALLOWED, Thresholds(disk_mb=5), None)
    assert told["thresholds"] == {"max_disk_mb": {"wanted": 5, "measured": None, "met": None}}
    assert told["passed"] is False


@pytest.mark.parametrize(
    ("before", "now", "slower"), [(10, 16, True), (10, 11, False), (1, 5, False), (1000, 1201, True), (50, 10, False)]
)
def test_a_generation_is_slower_only_by_a_fifth_and_five_milliseconds(
    before: float, now: float, *, slower: bool
) -> None:
    old = {"executions": 10, "generation": 1, "response_time": {"mean_ms": before}}
    compared = compare(Figures(executions=10, errors=0, mean_ms=now), old)
    assert compared is not None
    assert compared["slower"] is slower


def test_too_few_calls_are_not_compared() -> None:
    old = {"executions": 9, "generation": 1, "response_time": {"mean_ms": 1.0}}
    assert compare(Figures(executions=50, errors=0, mean_ms=90), old) is None


def test_an_evaluation_is_due_every_ten_calls_of_the_generation_in_force() -> None:
    runs = Runs()
    due = [runs.add("notes", 2, sample(1)) for _ in range(EVERY)]
    assert due == [False] * (EVERY - 1) + [True]
    runs.evaluated("notes")
    assert not runs.add("notes", 1, sample(9))
    assert not runs.add("notes", 2, sample(1))
    assert runs.of("notes", 1) == ()
    assert len(runs.of("notes", 2)) == EVERY + 1


def test_a_new_generation_begins_anew_and_old_calls_are_recalled_before_it() -> None:
    runs = Runs()
    runs.add("notes", 1, sample(1))
    runs.add("notes", 2, sample(2))
    runs.recall("notes", 2, [sample(3)] * KEPT)
    kept = runs.of("notes", 2)
    assert (len(kept), kept[-1], runs.of("notes", 1)) == (KEPT, sample(2), ())
