"""What a plugin tries and its cell refuses counts against it: the risk rises, and a person alone takes it back."""

from typing import TYPE_CHECKING, Any

import pytest

from gateway.registry.conduct import MOST_STEPS, PER_STEP

if TYPE_CHECKING:
    from tests.conftest import Home

TRIER = """\
def execute(ctx, payload):
    for path in payload["paths"]:
        try:
            open(path)
        except OSError:
            pass
"""
BREAKER = """\
import os

def execute(ctx, payload):
    os.write(3, b"x" * 64)
"""


def try_paths(home: "Home", *paths: str) -> None:
    answer = home.person("alice", "execute").post("/v1/plugins/trier/execute", {"payload": {"paths": paths}})
    assert answer.json()["success"], answer.text


def risk(home: "Home", plugin_id: str = "trier") -> dict[str, Any]:
    told: dict[str, Any] = home.owner.get(f"/v1/plugins/{plugin_id}").json()["risk"]
    return told


def assessed(home: "Home") -> list[dict[str, Any]]:
    return [row for row in home.records(event_type="risk_assessment") if "step" in row["details"]]


def test_ten_different_tries_are_a_step_and_it_is_recorded(home: "Home") -> None:
    home.install("trier", TRIER)
    before = risk(home)
    try_paths(home, *(f"/opt/{number}" for number in range(PER_STEP - 1)))
    assert risk(home) == before
    assert assessed(home) == []
    try_paths(home, "/opt/last")
    after = risk(home)
    assert after["score"] == before["score"] + 10
    assert {"name": "misconduct", "points": 10} in after["parts"]
    (row,) = assessed(home)
    assert row["risk_score"] == after["score"]
    assert row["details"]["why"] == "its cells refused what it tried"


def test_the_same_try_counts_once_a_day(home: "Home") -> None:
    home.install("trier", TRIER)
    for _ in range(PER_STEP + 1):
        try_paths(home, "/opt/again")
    assert assessed(home) == []


def test_a_step_may_lift_a_plugin_into_another_tier_and_ends_its_looser_mode(home: "Home") -> None:
    home.install("trier", TRIER, isolation="shared")
    assert risk(home)["tier"] == "low"
    assert home.owner.get("/v1/plugins/trier").json()["isolation"]["effective"] == "shared"
    for start in range(0, 3 * PER_STEP, PER_STEP):
        try_paths(home, *(f"/opt/{start + number}" for number in range(PER_STEP)))
    assert risk(home)["tier"] == "moderate"
    assert home.owner.get("/v1/plugins/trier").json()["isolation"]["effective"] == "fork"
    policy = home.parts.policy.get()
    assert policy is not None
    assert "tier:moderate" in policy.memberships["plugin:trier"]


def test_it_rises_no_further_than_so_many_steps(home: "Home") -> None:
    home.install("trier", TRIER)
    plugin = home.parts.registry.plugins.get("trier")
    assert plugin is not None
    before = risk(home)["score"]
    steps = [
        home.parts.registry.conduct.note(plugin.id, plugin.registration, str(number))
        for number in range(3 * PER_STEP * MOST_STEPS)
    ]
    assert [each for each in steps if each] == list(range(1, MOST_STEPS + 1))
    assert risk(home)["score"] == min(100, before + 10 * MOST_STEPS)


def test_breaking_the_protocol_is_a_step_at_once(home: "Home") -> None:
    home.install("breaker", BREAKER)
    before = risk(home, "breaker")["score"]
    answer = home.person("alice", "execute").post("/v1/plugins/breaker/execute", {"payload": {}}).json()
    assert answer["outcome"] == "killed", answer
    assert risk(home, "breaker")["score"] == before + 10
    assert len(assessed(home)) == 1


@pytest.mark.parametrize("by", ["a restart", "the plugin", "resuming", "registering anew"])
def test_it_stays_until_a_person_looks_at_it(home: "Home", by: str) -> None:
    home.install("trier", TRIER)
    before = risk(home)["score"]
    try_paths(home, *(f"/opt/{number}" for number in range(PER_STEP)))
    raised = risk(home)["score"]
    assert raised == before + 10
    match by:
        case "a restart":
            home.close()
            home.open()
        case "the plugin":
            try_paths(home)
        case "resuming":
            for verb in ("suspend", "resume"):
                assert home.owner.post(f"/v1/plugins/trier/{verb}", {"reason": "looked at"}).status_code == 200
        case _:
            assert home.owner.post("/v1/plugins/trier/uninstall", {"reason": "anew"}).status_code == 200
            home.install("trier", TRIER)
    assert risk(home)["score"] == (raised if by in {"a restart", "the plugin"} else before)
