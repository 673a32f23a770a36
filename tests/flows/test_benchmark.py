"""A plugin's calls are measured as they are: by every ten of them, and by calling on purpose."""

import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Home, MakeHome

PATH = "/v1/plugins/meter/benchmarks"
CODE = """\
import time


def quick(ctx, wait):
    time.sleep(wait)
    return {"ok": True}


def broken(ctx):
    raise ValueError("no")


def fill(ctx):
    with open(f"{ctx.scratch}/full", "wb") as file:
        file.write(b"x" * (3 << 20))
    return {"ok": True}


def spend(ctx):
    return {"ok": True}
"""
CAPABILITIES = [
    {"name": "quick", "description": "", "parameters": {"wait": "number"}, "return_type": "object", "idempotent": True},
    {"name": "broken", "description": "", "return_type": "object", "idempotent": True},
    {"name": "fill", "description": "", "return_type": "object", "idempotent": True},
    {"name": "spend", "description": "", "return_type": "object"},
]
QUICK = {"action": "quick", "wait": 0}


def install(home: "Home", **manifest: object) -> None:
    home.install("meter", CODE, capabilities=CAPABILITIES, **manifest)


def call(home: "Home", times: int, payload: object = None) -> None:
    for _ in range(times):
        answer = home.owner.post("/v1/plugins/meter/execute", {"payload": payload or QUICK})
        assert answer.status_code == 200, answer.text


def test_an_active_benchmark_measures_calls_that_are_recorded_like_any_other(home: "Home") -> None:
    install(home)
    body = {"payload": {"action": "quick", "wait": 0.05}, "test_duration": 1, "concurrency": 2}
    measured = home.owner.post(PATH, body).json()
    ended = home.records(event_type="execution_completed")
    assert measured["executions"] == len(ended) > 1
    assert measured["response_time"]["p50_ms"] >= 50
    assert measured["throughput_per_s"] > 0
    assert measured["tiers"]["response_time"] == "platinum"
    assert measured["provisional"] is True
    kept = home.records(event_type="benchmark_completed")
    assert kept[-1]["details"]["benchmark_id"] == measured["benchmark_id"]
    assert home.owner.get(PATH).json()["latest"] == measured


def test_errors_are_measured_and_thresholds_judged(home: "Home") -> None:
    install(home)
    wished = {"response_time_threshold": 60000, "error_rate_threshold": 0.01, "resource_limits": {"max_memory_mb": 500}}
    measured = home.owner.post(PATH, {"payload": {"action": "broken"}, "test_duration": 0.3, **wished}).json()
    assert (measured["error_rate"], measured["tier"], measured["passed"]) == (1.0, "bronze", False)
    met = {name: each["met"] for name, each in measured["thresholds"].items()}
    assert met == {"response_time_threshold": True, "error_rate_threshold": False, "max_memory_mb": True}
    assert any(each["metric"] == "error_rate" for each in measured["advice"])


@pytest.mark.parametrize("wish", ["pristine", "fork", "shared"])
def test_what_calls_write_and_use_is_measured_and_judged(home: "Home", wish: str) -> None:
    install(home, isolation=wish)
    wished = {"resource_limits": {"max_cpu_percent": 1000, "max_memory_mb": 500, "max_disk_mb": 2}}
    measured = home.owner.post(PATH, {"payload": {"action": "fill"}, "test_duration": 0.3, **wished}).json()
    met = {name: each["met"] for name, each in measured["thresholds"].items()}
    assert met == {"max_cpu_percent": True, "max_memory_mb": True, "max_disk_mb": False}
    assert 3 <= measured["disk_mb"] < 4
    assert measured["passed"] is False
    assert set(measured["tiers"]) == {"response_time", "error_rate", "cpu", "memory", "disk", "throughput"}
    call(home, 10, {"action": "fill"})
    home.until(lambda: home.owner.get(PATH).json()["latest"]["kind"] == "recorded")
    assert 3 <= home.owner.get(PATH).json()["latest"]["disk_mb"] < 4


def test_what_is_not_declared_idempotent_is_never_repeated(home: "Home") -> None:
    install(home)
    refused = home.owner.post(PATH, {"payload": {"action": "spend"}, "test_duration": 0.2})
    assert refused.status_code == 400
    assert "idempotent" in refused.text
    assert home.records(event_type="execution_started") == []


@pytest.mark.parametrize(
    ("user", "scopes", "status"),
    [("alice", ("audit",), 403), ("dave", ("execute",), 403), ("carol", ("execute",), 200)],
)
def test_only_who_may_execute_a_plugin_may_benchmark_it(
    home: "Home", user: str, scopes: tuple[str, ...], status: int
) -> None:
    install(home)
    answer = home.person(user, *scopes).post(PATH, {"payload": QUICK, "test_duration": 0.1})
    assert answer.status_code == status, answer.text


def test_a_plugin_whose_right_is_taken_away_ends_the_benchmark(home: "Home") -> None:
    install(home)
    running = home.owner.start("POST", PATH, {"payload": QUICK, "test_duration": 60})
    home.until(lambda: home.records(event_type="execution_completed"))
    began = time.monotonic()
    assert home.owner.post("/v1/plugins/meter/suspend", {"reason": "enough"}).status_code == 200
    assert running.result(20).status_code in {403, 409}
    assert time.monotonic() - began < 15
    assert home.owner.get(PATH).json()["benchmarks"] == []


def test_two_benchmarks_of_one_plugin_do_not_run_at_once(home: "Home") -> None:
    install(home)
    first = home.owner.start("POST", PATH, {"payload": QUICK, "test_duration": 2})
    home.until(lambda: home.records(event_type="execution_started"))
    assert home.owner.post(PATH, {"payload": QUICK, "test_duration": 0.1}).status_code == 409
    assert first.result(20).status_code == 200


def test_every_ten_calls_are_evaluated_without_being_asked(home: "Home") -> None:
    install(home)
    call(home, 9)
    assert home.owner.get(PATH).json()["benchmarks"] == []
    call(home, 1)
    home.until(lambda: home.owner.get(PATH).json()["benchmarks"])
    told = home.owner.get(PATH).json()
    assert (told["latest"]["kind"], told["latest"]["executions"], told["should_run"]) == ("recorded", 10, True)
    assert told["latest"]["throughput_per_s"] is None


def test_calls_that_end_soon_after_an_evaluation_are_evaluated_too(home: "Home") -> None:
    install(home)
    call(home, 25)
    home.until(lambda: home.owner.get(PATH).json()["latest"]["executions"] > 19)
    assert home.owner.get(PATH).json()["should_run"] is True


def test_a_plugin_that_is_not_to_be_monitored_is_not(home: "Home") -> None:
    install(home, performance_monitoring=False)
    call(home, 11)
    told = home.owner.get(PATH).json()
    assert (told["benchmarks"], told["should_run"]) == ([], False)


def test_calls_before_a_restart_count_too(home: "Home") -> None:
    install(home)
    call(home, 6)
    call(home, 1, {"action": "broken"})
    home.reopen()
    call(home, 10)
    home.until(lambda: home.owner.get(PATH).json()["benchmarks"])
    latest = home.owner.get(PATH).json()["latest"]
    assert (latest["executions"], latest["errors"]) == (17, 1)


def test_a_call_that_a_person_ended_says_nothing_of_the_plugin(home: "Home") -> None:
    install(home, isolation="shared")
    for verb in ("suspend", "resume"):
        running = home.owner.start("POST", "/v1/plugins/meter/execute", {"payload": {"action": "quick", "wait": 30}})
        if verb == "suspend":
            home.until(lambda: home.running("meter"))
            assert home.owner.post("/v1/plugins/meter/suspend", {"reason": "look"}).status_code == 200
            assert running.result(20).json()["outcome"] == "killed"
        else:
            assert running.result(20).status_code == 409
            assert home.owner.post("/v1/plugins/meter/resume", {"reason": "looked"}).status_code == 200
    (ended,) = home.records(event_type="execution_failed")
    assert (ended["resolution"], ended["details"]["from_outside"]) == ("killed", True)
    for _ in range(2):
        call(home, 10)
        home.until(lambda: home.owner.get(PATH).json()["benchmarks"])
        latest = home.owner.get(PATH).json()["latest"]
        assert (latest["executions"] % 10, latest["errors"]) == (0, 0)
        home.reopen()
    assert not any(
        each["name"] == "kills" for each in home.owner.get("/v1/plugins/meter/risk").json()["computed"]["parts"]
    )


def test_an_uninstalled_plugins_figures_go_with_it(make_home: "MakeHome") -> None:
    home = make_home()
    install(home)
    home.owner.post(PATH, {"payload": QUICK, "test_duration": 0.1})
    assert home.owner.post("/v1/plugins/meter/uninstall", {"reason": "done"}).status_code == 200
    install(home)
    assert home.owner.get(PATH).json()["benchmarks"] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"test_duration": 0},
        {"test_duration": 301},
        {"concurrency": 0},
        {"concurrency": 33},
        {"error_rate_threshold": 2},
        {"resource_limits": {"cpu": 1}},
        {"more": 1},
    ],
)
def test_a_wish_that_makes_no_sense_is_refused_before_anything_runs(home: "Home", wrong: dict[str, object]) -> None:
    install(home)
    assert home.owner.post(PATH, {"payload": QUICK, **wrong}).status_code == 400
    assert home.records(event_type="execution_started") == []
