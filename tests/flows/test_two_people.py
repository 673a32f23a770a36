"""Where two people are needed, one person under two spellings of a name is one."""

from typing import TYPE_CHECKING

import pytest

from gateway.domain.names import same_person

if TYPE_CHECKING:
    import httpx

    from tests.conftest import Home, MakeHome, Person

RULES = "p, looked-at, plugin:puppet, vault, write, notes/*, approval, allow, each is looked at\n"
ADMIN = {"permission": "core_admin", "scope": "x"}


@pytest.fixture
def home(make_home: "MakeHome") -> "Home":
    """Give a home in which `frank` and `Frank` may do whatever an owner may: an issuer of tokens spelt him so."""
    home = make_home(rules=RULES)
    with (home.folder / "policies" / "roles.csv").open("a") as roles:
        roles.writelines(f"g, user:{user}, role:owner\n" for user in ("frank", "Frank", "FRANK"))
    home.put_in_force()
    home.install("puppet")
    return home


def frank(home: "Home", user: str = "frank") -> "Person":
    return home.person(user, "execute", "approve", "admin", "evaluate")


def refused(answer: "httpx.Response") -> str:
    assert answer.status_code == 403, answer.text
    reason: str = answer.json()["reason"]
    return reason


def test_capitals_make_no_second_person() -> None:
    assert same_person("frank", "Frank")
    assert not same_person("frank", "franka")
    assert not same_person(None, None)


@pytest.mark.parametrize("user", ["frank", "Frank", "FRANK"])
def test_a_right_that_two_must_approve_is_not_approved_by_one(home: "Home", user: str) -> None:
    asked = frank(home).post("/v1/permission-requests", {"plugin_id": "puppet", "permissions": [ADMIN]})
    path = f"/v1/permission-requests/{asked.json()['id']}/approve"
    assert refused(frank(home, user).post(path, {"reason": "me"})) == "four_eyes"
    assert home.person("bob", "approve").post(path, {"reason": "I"}).status_code == 200


@pytest.mark.parametrize("user", ["frank", "Frank", "FRANK"])
def test_a_call_is_not_approved_by_who_made_it_nor_shown_to_another(home: "Home", user: str) -> None:
    frank(home).run("puppet", ["vault.write", "notes/x", "secret"])
    (waits,) = home.owner.get("/v1/call-approvals", status="pending").json()["approvals"]
    assert refused(frank(home, user).post(f"/v1/call-approvals/{waits['id']}/approve", {"reason": "me"})) == "own_call"
    alice = home.person("alice", "execute", "evaluate")
    assert alice.get("/v1/call-approvals").json()["approvals"] == []


@pytest.mark.parametrize("user", ["frank", "Frank", "FRANK"])
def test_a_person_is_not_erased_by_themselves_nor_confirmed_by_who_asked(home: "Home", user: str) -> None:
    approval = home.folder / "policies" / "approval.toml"
    approval.write_text(approval.read_text().replace("erasure = false", "erasure = true"))
    home.put_in_force()
    home.person("erin", "evaluate")
    wish = {"user": "erin", "reason": "by letter"}
    assert frank(home).post("/v1/audit/erase", wish).status_code == 202
    assert refused(frank(home, user).post("/v1/audit/erase", wish)) == "four_eyes"
    assert refused(frank(home, user).post("/v1/audit/erase", {"user": "frank", "reason": "go"})) == "own_erasure"
    assert home.owner.post("/v1/audit/erase", wish).status_code == 200
