"""The kill switch: what it names is denied and killed at once, over a restart too, until it is lifted with a reason."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Home

CASES = [
    ("all", "killed", "locked_down", "locked_down"),
    ("plugin:puppet", "killed", "locked_down", "no_rule"),
    ("plugin:other", "returned", "rule", "locked_down"),
    ("user:alice", "killed", "locked_down", "locked_down"),
    ("user:bob", "returned", "rule", "no_rule"),
    ("kind:vault", "killed", "locked_down", "locked_down"),
]


def ask(home: "Home", plugin_id: str) -> str:
    body = {"subject": f"plugin:{plugin_id}", "permission": "vault_read", "scope": "notes/a", "user": "alice"}
    answer = home.owner.post("/v1/decisions", {**body, "dry_run": True})
    reason: str = answer.json()["reason"]
    return reason


@pytest.mark.parametrize(("scope", "outcome", "puppet", "other"), CASES)
def test_what_it_names_is_denied_and_killed_until_lifted(
    home: "Home", scope: str, outcome: str, puppet: str, other: str
) -> None:
    home.install("puppet", wants=("vault_read notes",))
    home.install("other")
    began = home.person("alice", "execute").begin("puppet", ["sleep", 2], timeout_s=20)
    home.until(lambda: home.parts.pool._conversations)
    locked = home.owner.post("/v1/lockdown", {"scope": scope, "reason": "smoke"})
    assert locked.status_code == 201, locked.text
    assert began.result(20).json()["outcome"] == outcome
    if scope != "all":  # the owner cannot ask either while all is locked
        assert (ask(home, "puppet"), ask(home, "other")) == (puppet, other)
    home.reopen()
    (there,) = home.owner.get("/v1/lockdown").json()["lockdowns"]
    assert there == locked.json()
    again = home.person("alice", "execute").begin("puppet").result(20)
    assert (again.status_code == 403) is (outcome == "killed" and not scope.startswith("kind:"))
    path = f"/v1/lockdown/{there['id']}"
    assert home.owner.delete(path, {"reason": ""}).status_code == 400
    assert home.owner.delete(path, {}).status_code == 400
    assert home.owner.delete(path, {"reason": "false alarm"}).status_code == 200
    assert home.person("alice", "execute").begin("puppet").result(20).status_code == 200
    assert [
        row["details"]["reason"] for row in home.records(category="security") if "lockdown" in row["event_type"]
    ] == [
        "smoke",
        "false alarm",
    ]


def test_a_locked_users_call_for_another_is_killed_too(home: "Home") -> None:
    home.install("puppet")
    began = home.owner.behalf("alice").begin("puppet", ["sleep", 5], timeout_s=20)
    home.until(lambda: home.parts.pool._conversations)
    locked = home.owner.post("/v1/lockdown", {"scope": f"user:{home.parts.owner}", "reason": "smoke"})
    assert locked.status_code == 201, locked.text
    assert began.result(20).json()["outcome"] == "killed"
    assert home.owner.delete(f"/v1/lockdown/{locked.json()['id']}", {"reason": "false alarm"}).status_code == 200


@pytest.mark.parametrize(
    "scope", ["", "everything", "plugin:", "plugin:UPPER", "user:", "kind:", "kind:toaster", "ALL"]
)
def test_a_scope_that_names_nothing_is_an_error(quiet_home: "Home", scope: str) -> None:
    assert quiet_home.owner.post("/v1/lockdown", {"scope": scope, "reason": "x"}).status_code == 400
    assert quiet_home.owner.get("/v1/lockdown").json()["lockdowns"] == []


def test_the_owner_can_always_lift_it_and_each_time_is_recorded(home: "Home") -> None:
    home.install("puppet")
    locked = home.owner.post("/v1/lockdown", {"scope": "all", "reason": "x"}).json()
    assert home.owner.post("/v1/keys", {"user": "x", "scopes": ["admin"]}).status_code == 403
    assert home.owner.get("/v1/plugins").status_code == 403
    assert home.owner.get("/v1/policy").status_code == 200
    assert home.owner.delete(f"/v1/lockdown/{locked['id']}", {"reason": "calm"}).status_code == 200
    overrides = home.records(event_type="owner_override")
    assert [row["details"]["scope"] for row in overrides] == ["policy", "lockdown"]
    assert all(row["category"] == "security" for row in overrides)


def test_an_operator_locked_out_by_their_own_lockdown_cannot_lift_it(home: "Home") -> None:
    carol = home.person("carol", "admin")
    locked = carol.post("/v1/lockdown", {"scope": "all", "reason": "x"}).json()
    assert carol.delete(f"/v1/lockdown/{locked['id']}", {"reason": "x"}).status_code == 403
    assert home.owner.delete(f"/v1/lockdown/{locked['id']}", {"reason": "x"}).status_code == 200


def test_a_rule_against_the_owner_is_overridden_for_lockdown_and_policy_alone(home: "Home") -> None:
    (home.folder / "policies" / "tests" / "people.toml").unlink()
    home.rules("p, no-owner, role:owner, gateway, read, *, -, deny, mutiny\n")
    assert home.owner.get("/v1/plugins").status_code == 403
    assert home.owner.get("/v1/policy").status_code == 200
    assert home.owner.get("/v1/lockdown").status_code == 200
    home.write_rules("# mended\n")
    home.reload()
    assert len(home.records(event_type="owner_override")) == 2


@pytest.mark.parametrize("name", ["alice", "bob", "dave", "erin"])
def test_not_everybody_holds_the_switch(home: "Home", name: str) -> None:
    person = home.person(name, "admin")
    assert person.post("/v1/lockdown", {"scope": "all", "reason": "x"}).status_code == 403
    assert person.get("/v1/lockdown").status_code == 403
