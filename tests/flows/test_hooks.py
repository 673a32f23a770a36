"""Lifecycle hooks: run confined after each event, recorded, and with no way to stop, delay or undo it."""

import time
from typing import TYPE_CHECKING, Any

import pytest

from gateway.domain.lifecycle import LIFECYCLE_EVENTS

if TYPE_CHECKING:
    from tests.conftest import Home, MakeHome

HOOKS = {event: f"on_{event}" for event in LIFECYCLE_EVENTS}
TELLING = "\n".join(f"def on_{event}(ctx):\n    ctx.log('{event}')\n" for event in LIFECYCLE_EVENTS)
IDLE = "def execute(ctx, payload):\n    return 1\n\n\n"
TRYING = """
def tried(ctx):
    ended = []
    for deed in (lambda: ctx.core.get("time"), lambda: ctx.vault.read("notes/a"), lambda: ctx.plugins.list()):
        try:
            ended.append(str(deed()))
        except PermissionError as error:
            ended.append(error.reason)
        except OSError as error:
            ended.append(str(error))
    raise SystemExit(" | ".join(ended))
"""


def ends(home: "Home", plugin_id: str = "hooked", **wanted: object) -> list[dict[str, Any]]:
    """Give the outcomes of hooks, oldest first."""
    rows = [row for row in home.records(plugin=plugin_id, category="execution") if "hook" in row["details"]]
    ended = [row for row in rows if row["event_type"] not in {"execution_started", "access_granted"}]
    return [row for row in ended if wanted.items() <= row["details"].items()]


def move(home: "Home", verb: str, plugin_id: str = "hooked") -> None:
    answer = home.owner.post(f"/v1/plugins/{plugin_id}/{verb}", {"reason": "test"})
    assert answer.status_code == 200, answer.text


def test_every_event_of_a_life_calls_its_hook_after_it_is_in_force(home: "Home") -> None:
    home.install("hooked", IDLE + TELLING, lifecycle_hooks=HOOKS)
    home.until(lambda: len(ends(home)) == 3)
    for so_many, verb in enumerate(("suspend", "resume", "revoke"), start=4):
        move(home, verb)
        home.until(lambda so_many=so_many: len(ends(home)) == so_many)
    assert home.owner.post("/v1/plugins", {"folder": "hooked"}).status_code == 201
    home.until(lambda: len(ends(home)) == 7)
    move(home, "uninstall")
    home.until(lambda: len(ends(home)) == 8)
    told = [(row["details"]["hook"], row["details"]["outcome"]) for row in ends(home)]
    assert told == [
        (event, "returned")
        for event in (
            "registered",
            "approved",
            "activated",
            "suspended",
            "activated",
            "revoked",
            "updated",
            "uninstalled",
        )
    ]
    events = {row["event_id"]: row["event_type"] for row in home.records(plugin="hooked", category="lifecycle")}
    assert all(events[row["details"]["of"]] == row["details"]["hook"] for row in ends(home))


@pytest.mark.parametrize(
    ("body", "outcome"),
    [("    raise ValueError('no')\n", "failed"), ("    while True: pass\n", "timed_out"), (None, "failed")],
    ids=["raises", "never ends", "is not there"],
)
def test_a_hook_that_fails_changes_nothing(home: "Home", body: str | None, outcome: str) -> None:
    hook = "" if body is None else f"def on_approved(ctx):\n{body}"
    home.install(
        "hooked", IDLE + hook, lifecycle_hooks={"approved": "on_approved"}, sandbox_config={"max_execution_time": 0.5}
    )
    assert home.state("hooked") == "active"
    home.until(lambda: ends(home, outcome=outcome))
    assert home.state("hooked") == "active"


def test_taking_away_waits_for_no_hook(home: "Home") -> None:
    hook = "def on_revoked(ctx):\n    while True: pass\n"
    home.install("hooked", IDLE + hook, lifecycle_hooks={"revoked": "on_revoked"})
    started = time.monotonic()
    move(home, "revoke")
    assert time.monotonic() - started < 3  # the hook itself may take five seconds
    assert home.state("hooked") == "revoked"
    home.until(lambda: ends(home, outcome="timed_out"))


@pytest.mark.parametrize("event", ["registered", "suspended", "revoked", "uninstalled"])
def test_a_hook_of_what_is_not_active_gets_nothing_whatever_rules_say(make_home: "MakeHome", event: str) -> None:
    home = make_home(rules="p, test-all, plugin:hooked, *, admin, *, -, allow, everything\n")
    home.write_plugin("hooked", IDLE + TRYING, lifecycle_hooks={event: "tried"})
    assert home.owner.post("/v1/plugins", {"folder": "hooked"}).status_code == 201
    if event != "registered":
        move(home, "approve")
        move(home, {"suspended": "suspend", "revoked": "revoke", "uninstalled": "uninstall"}[event])
    home.until(lambda: ends(home))
    (ended,) = ends(home)
    assert "inactive | inactive | inactive" in ended["details"]["error"]
    assert {each["effect"] for each in ended["details"]["asks"]} == {"deny"}


def test_a_hook_of_an_active_plugin_asks_as_that_plugin_for_nobody(make_home: "MakeHome") -> None:
    home = make_home(rules="p, test-all, plugin:hooked, *, admin, *, -, allow, everything\n")
    home.owner.ask("POST", "/v1/plugins", {"plugin_id": "other", "name": "other", "version": "1.0.0"})
    home.install("hooked", IDLE + TRYING, lifecycle_hooks={"activated": "tried"})
    home.until(lambda: ends(home))
    (ended,) = ends(home)
    told = ended["details"]["error"].split(" | ")
    assert "on behalf of nobody" in told[1]
    assert "inactive" not in told[0]
    asked = home.decided(subject="plugin:hooked", kind="core")
    assert [each["user"] for each in asked] == [None]


def test_a_hook_is_no_call_in_the_figures(home: "Home") -> None:
    home.install("hooked", IDLE + TELLING, lifecycle_hooks=HOOKS)
    home.until(lambda: len(ends(home)) == 3)
    home.reopen()
    assert home.owner.get("/v1/plugins/hooked/benchmarks").json()["executions_since"] == 0


def test_no_hook_runs_under_a_lockdown(home: "Home") -> None:
    home.install("hooked", IDLE + TELLING, lifecycle_hooks={"suspended": "on_suspended"})
    assert home.owner.post("/v1/lockdown", {"scope": "plugin:hooked", "reason": "test"}).status_code == 201
    move(home, "suspend")
    home.until(lambda: ends(home, outcome="refused"))


def test_code_that_waits_for_a_review_runs_no_hook(home: "Home") -> None:
    home.register("hooked", IDLE + TELLING, lifecycle_hooks={"registered": "on_registered"}, code_review_required=True)
    home.until(lambda: ends(home, outcome="refused"))
    assert "not reviewed" in ends(home)[0]["details"]["error"]


def test_a_gateway_that_ends_lets_hooks_end_first(make_home: "MakeHome") -> None:
    home = make_home()
    home.install("hooked", IDLE + TELLING, lifecycle_hooks=HOOKS)
    home.reopen()
    assert len(ends(home)) == 3
    assert [row["event_type"] for row in home.records(event_type="execution_lost")] == []


def test_a_hooks_cell_is_made_by_whom_calls_cells_are_made(home: "Home", monkeypatch: pytest.MonkeyPatch) -> None:
    code = "def execute(ctx, payload):\n    return 1\n\n\ndef on_it(ctx):\n    return 1\n"
    home.install("hooked", code, lifecycle_hooks={"activated": "on_it"})
    pool, made = home.parts.pool, dict[str, str]()
    run = pool.run

    async def noting(job: Any, spec: Any, *given: Any, **more: Any) -> Any:  # noqa: ANN401 (whatever the pool takes)
        made[job.function] = spec.backend
        return await run(job, spec, *given, **more)

    monkeypatch.setattr(type(pool), "run", lambda _pool, *given, **more: noting(*given, **more))
    object.__setattr__(home.parts, "backend", "bwrap")
    home.owner.post("/v1/plugins/hooked/execute", {"payload": {}})
    home.owner.post("/v1/plugins/hooked/suspend", {"reason": "test"})
    home.owner.post("/v1/plugins/hooked/resume", {"reason": "test"})
    home.until(lambda: "on_it" in made)
    assert made == {"execute": "bwrap", "on_it": "bwrap"}


def test_the_timeline_tells_how_each_hook_ended(home: "Home") -> None:
    code = IDLE + "def well(ctx):\n    pass\n\n\ndef badly(ctx):\n    raise ValueError('no')\n"
    home.install("hooked", code, lifecycle_hooks={"activated": "well", "suspended": "badly"})
    home.until(lambda: ends(home))
    move(home, "suspend")
    home.until(lambda: len(ends(home)) == 2)
    events = home.owner.get("/v1/plugins/hooked/timeline").json()["events"]
    told = {each["event_type"]: each["hook"] for each in events}
    assert told["registered"] is None
    assert (told["activated"]["function"], told["activated"]["outcome"]) == ("well", "returned")
    assert (told["suspended"]["function"], told["suspended"]["outcome"]) == ("badly", "failed")
    assert "no" in told["suspended"]["error"]
    assert {told["activated"]["event_id"], told["suspended"]["event_id"]} == {row["event_id"] for row in ends(home)}
