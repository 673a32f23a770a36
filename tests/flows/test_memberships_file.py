"""data/memberships.csv: with it stock Casbin answers over a home's own files what the gateway answers."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import casbin
import pytest
from casbin.persist.adapters import FileAdapter

from gateway.domain.names import Subject
from gateway.domain.request import AccessRequest, Facts
from gateway.flows.decide import decide
from gateway.policy.encode import encode_field
from gateway.policy.functions import build_functions

if TYPE_CHECKING:
    from tests.conftest import Home

ASKED = [
    ("vault", "read", "notes/a"),
    ("vault", "write", "notes/a"),
    ("core", "admin", "x"),
    ("file", "read", "/etc/passwd"),
]


def memberships(home: "Home") -> Path:
    return home.folder / "data" / "memberships.csv"


def stock(home: "Home", whole: Path) -> casbin.Enforcer:
    """Give a stock enforcer over the files of a home, in the order in which the gateway merges them."""
    policies = home.folder / "policies"
    files = [policies / "roles.csv", *sorted((policies / "rules").glob("*.csv")), policies / "grants.csv"]
    whole.write_bytes(b"\n".join(path.read_bytes() for path in (*files, memberships(home))))
    enforcer = casbin.Enforcer(str(policies / "model.conf"), FileAdapter(str(whole)))
    policy = home.parts.policy.get()
    assert policy is not None
    for name, function in build_functions(policy.calendars).items():
        enforcer.add_function(name, function)
    return enforcer


def test_stock_casbin_answers_over_the_homes_files_as_the_gateway_does(home: "Home", tmp_path: Path) -> None:
    home.install("notes", wants=("vault_write notes",))
    enforcer = stock(home, tmp_path / "policy.csv")
    answers = []
    for kind, level, scope in ASKED:
        asked = {"subject": "plugin:notes", "permission": f"{kind}_{level}", "scope": scope, "dry_run": True}
        ours = home.owner.post("/v1/decisions", asked).json()
        facts = Facts(at=home.parts.now(), risk=ours["risk"]["score"])
        theirs = enforcer.enforce(encode_field("plugin:notes"), kind, level, scope, facts)
        answers.append((ours["effect"] == "allow", theirs))
    assert all(ours is theirs for ours, theirs in answers)
    assert {ours for ours, _ in answers} == {True, False}


def test_so_it_does_of_people_who_hold_keys(home: "Home", tmp_path: Path) -> None:
    home.rules("p, lists, group:users, todo, read, *, -, allow, whoever holds a key\n")
    home.person("alice", "evaluate")
    home.person("a+b.c_d@example.org", "evaluate")
    enforcer = stock(home, tmp_path / "policy.csv")
    facts = Facts(at=home.parts.now())
    for who in ("alice", "a+b.c_d@example.org", "nobody"):
        request = AccessRequest(subject=Subject(f"user:{who}"), user=None, kind="todo", level="read", scope="1")
        theirs = enforcer.enforce(encode_field(request.subject), "todo", "read", "1", facts)
        assert decide(home.parts, request).allowed is theirs is (who != "nobody")


def test_it_follows_what_the_registry_says_and_outlives_nobody(home: "Home") -> None:
    home.install("notes", wants=("vault_read notes",))
    assert "g, plugin:notes, group:plugins\n" in memberships(home).read_text()
    assert "g, plugin:notes, tier:low\n" in memberships(home).read_text()
    assert memberships(home).stat().st_mode & 0o777 == 0o600
    home.reopen()
    assert "g, plugin:notes, group:plugins\n" in memberships(home).read_text()
    assert home.owner.post("/v1/plugins/notes/uninstall", {"reason": "test"}).status_code == 200
    assert "plugin:notes" not in memberships(home).read_text()


def test_an_edit_of_it_gives_nobody_anything_and_does_not_last(home: "Home") -> None:
    home.install("notes", wants=("vault_read notes",))
    with memberships(home).open("a") as file:
        file.write("g, user:mallory, role:owner\n")
    home.reopen()
    assert "mallory" not in memberships(home).read_text()
    assert "user:mallory" not in home.owner.get("/v1/policy").json()["memberships"]


def test_where_it_cannot_be_written_rights_are_taken_away_all_the_same(home: "Home") -> None:
    home.install("notes", wants=("vault_read notes",))
    memberships(home).unlink()
    memberships(home).mkdir()
    assert home.owner.post("/v1/plugins/notes/revoke", {"reason": "test"}).status_code == 200
    assert home.state("notes") == "revoked"
    assert {path.name for path in memberships(home).parent.glob(".*.new")} == set()


def test_what_could_not_be_written_is_written_with_the_next_set(home: "Home") -> None:
    home.install("notes", wants=("vault_read notes",))
    memberships(home).unlink()
    memberships(home).mkdir()
    home.person("erin", "evaluate")
    memberships(home).rmdir()
    home.rules("p, more, user:zoe, vault, read, a, -, allow, more\n")
    assert "g, user:erin, group:users\n" in memberships(home).read_text()


@pytest.mark.parametrize("lies", ["link", "pipe", "open"])
def test_what_lies_in_its_way_is_neither_followed_nor_waited_for(home: "Home", tmp_path: Path, lies: str) -> None:
    fresh, other = memberships(home).with_name(".memberships.csv.new"), tmp_path / "other"
    other.write_text("mine")
    if lies == "link":
        fresh.symlink_to(other)
    elif lies == "pipe":
        os.mkfifo(fresh)
    else:
        fresh.touch()
        fresh.chmod(0o666)
    home.install("notes", wants=("vault_read notes",))
    assert "g, plugin:notes, group:plugins\n" in memberships(home).read_text()
    assert (memberships(home).stat().st_mode & 0o777, other.read_text()) == (0o600, "mine")
