"""Recorded decisions judged again: with the facts of their time, against the policy in force and an edited one."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.policy.text import PolicyText
from gateway.policy_files import read_policy_folder

Home = Any  # what conftest.py gives
MakeHome = Any
RULES = """\
p, home-notes, plugin:notes, vault, read,  notes/*, -,                            allow, notes
p, home-diary, plugin:notes, vault, read,  diary,   consent,                      allow, the diary
p, home-often, plugin:notes, vault, write, count,   rate(2/1h),                   allow, now and then
p, home-small, robot:r2,     todo,  read,  *,       context.amount <= 10,         allow, small ones
p, home-own,   robot:r2,     todo,  open,  *,       resource.owner == subject.id, allow, its own
"""


def asked(home: Home, subject: str, permission: str, scope: str, **more: object) -> dict[str, Any]:
    body = {"subject": subject, "permission": permission, "scope": scope, **more}
    answer = home.owner.post("/v1/decisions", body)
    assert answer.status_code == 200, answer.text
    decision: dict[str, Any] = answer.json()
    return decision


def posted(text: PolicyText) -> dict[str, Any]:
    return {"files": {path: data.decode() for path, data in text.files.items()}}


def impact(home: Home, edits: dict[str, str | None] | None = None) -> dict[str, Any]:
    text = read_policy_folder(home.folder / "policies")
    for path, content in (edits or {}).items():
        text = text.with_file(path, None if content is None else content.encode())
    answer = home.owner.post("/v1/policy/impact", posted(text))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture
def lived_in(make_home: Home) -> Home:
    """Give a home with every kind of decision in its log."""
    home = make_home(rules=RULES)
    home.install("notes")
    asked(home, "plugin:notes", "vault_read", "notes/a")
    asked(home, "plugin:notes", "vault_read", "diary", user="alice")
    given = {"user_id": "alice", "plugin_id": "notes", "permission": "vault_read", "scope": "diary"}
    assert home.owner.ask("POST", "/v1/consents", given, headers={"hearthgate-on-behalf": "alice"}).status_code < 300
    asked(home, "plugin:notes", "vault_read", "diary", user="alice")
    for _ in range(3):
        asked(home, "plugin:notes", "vault_write", "count")
    asked(home, "plugin:stranger", "vault_read", "notes/a")
    return home


def test_an_unchanged_policy_flips_nothing_and_replays_all(lived_in: Home) -> None:
    lived_in.owner.post("/v1/plugins/notes/suspend", {"reason": "a rest"})
    asked(lived_in, "plugin:notes", "vault_read", "notes/a")
    lived_in.rules(RULES + "p, later, plugin:stranger, vault, read, notes/*, -, allow, since then\n")
    found = impact(lived_in)
    assert (found["flips"], found["cannot_replay"]) == ([], 0)
    assert found["replayed"] >= 8


def test_flips_are_told_and_grouped_by_the_rule_that_makes_them(lived_in: Home) -> None:
    wanted = asked(lived_in, "plugin:notes", "vault_read", "notes/b")
    edits = {"rules/95-edit.csv": "p, no-b, plugin:notes, vault, read, notes/b, -, deny, not this one\n"}
    found = impact(lived_in, edits)
    assert [(flip["decision_id"], flip["from"], flip["to"]) for flip in found["flips"]] == [
        (wanted["decision_id"], "allow", "deny")
    ]
    assert found["flips"][0]["rule"]["file"] == "rules/95-edit.csv"
    assert found["by_rule"] == [{"rule": "no-b", "allow_to_deny": 1}]


def test_consent_time_and_counters_are_as_they_were(lived_in: Home) -> None:
    lived_in.owner.get("/v1/consents")
    for consent in lived_in.owner.get("/v1/consents", user_id="alice").json()["consents"]:
        lived_in.owner.delete(f"/v1/consents/{consent['id']}", {"reason": "test"})
    edited = RULES.replace("p, home-diary, plugin:notes, vault, read,", "p, home-diary, plugin:notes, vault, write,")
    found = impact(lived_in, {"rules/90-test.csv": edited.replace("rate(2/1h)", "rate(3/1h)")})
    flips = [(flip["permission"], flip["from"], flip["to"]) for flip in found["flips"]]
    assert flips == [("vault_write", "deny", "allow")]
    assert found["cannot_replay"] == 0


def test_what_the_record_lacks_is_counted_and_never_guessed(lived_in: Home) -> None:
    before = impact(lived_in)["replayed"]
    edited = RULES.replace("rate(2/1h)", "rate(2/30m)")
    found = impact(lived_in, {"rules/90-test.csv": edited})
    assert (found["cannot_replay"], found["flips"]) == (3, [])
    assert found["missing"] == {"how much of the rate of `home-often` was used": 3}
    assert found["replayed"] >= before - 3


def test_attributes_that_rules_asked_for_are_kept_and_no_others(make_home: Home) -> None:
    home = make_home(
        rules=RULES.replace("robot:r2,     todo", "user:erin,    user").replace("user,  open", "user,  write")
    )
    small = asked(home, "user:erin", "user_read", "a", context={"amount": 5, "secret": "x"})
    asked(home, "user:erin", "user_read", "a", context={"amount": 50, "secret": "x"})
    asked(home, "user:erin", "user_write", "a", context={"resource": {"owner": "erin", "secret": "x"}})
    record = home.owner.get("/v1/audit", event_id=f"audit-{small['decision_id']}").json()["records"][0]
    assert record["replay"]["attributes"] == {"context.amount": 5}
    assert record["replay"]["unkept"] == ["context"]
    assert "secret" not in json.dumps(record["decision"]) + json.dumps(record["details"])
    now = (home.folder / "policies/rules/90-test.csv").read_text()
    flips = impact(home, {"rules/90-test.csv": now.replace("<= 10", "<= 100")})
    assert [(flip["from"], flip["to"]) for flip in flips["flips"]] == [("deny", "allow")]
    other = impact(home, {"rules/90-test.csv": now.replace("context.amount <= 10", "context.secret == x")})
    assert (other["flips"], other["cannot_replay"]) == ([], 2)


def test_risk_follows_an_edited_risk_table(make_home: Home) -> None:
    home = make_home(rules="p, calm, plugin:notes, vault, read, a, risk<=20, allow, why\n")
    asked(home, "plugin:notes", "vault_read", "a")
    risk = (home.folder / "policies" / "risk.toml").read_text()
    edited = risk.replace("read = 10", "read = 30", 1)
    assert edited != risk
    assert [flip["to"] for flip in impact(home, {"risk.toml": edited})["flips"]] == ["deny"]


def test_a_broken_policy_is_refused_with_its_problems(home: Home) -> None:
    text = read_policy_folder(home.folder / "policies").with_file("rules/95-edit.csv", b"p, a\n")
    answer = home.owner.post("/v1/policy/impact", posted(text))
    assert answer.status_code == 409
    assert answer.json()["problems"][0]["file"] == "rules/95-edit.csv"


def test_the_verb_works_beside_a_running_gateway_and_without_one(lived_in: Home, tmp_path: Path) -> None:
    folder = tmp_path / "edited"
    shutil.copytree(lived_in.folder / "policies", folder)

    def run() -> subprocess.CompletedProcess[str]:
        program = str(Path(sys.executable).with_name("hearthgate"))
        command = [program, "policy", "impact", str(folder), "--json", "--home", str(lived_in.folder)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    same = run()
    assert (same.returncode, json.loads(same.stdout)["flips"]) == (0, []), same.stderr
    (folder / "rules" / "95-edit.csv").write_text("p, no-a, plugin:notes, vault, read, notes/*, -, deny, none\n")
    for _ in range(2):
        other = run()
        assert other.returncode == 4, other.stderr
        assert {flip["rule"]["id"] for flip in json.loads(other.stdout)["flips"]} == {"no-a"}
        lived_in.close()


def test_a_record_explains_itself_with_the_rules_that_spoke(lived_in: Home) -> None:
    decision = asked(lived_in, "plugin:notes", "vault_read", "notes/a", user="alice")
    path = f"/v1/decisions/{decision['decision_id']}/explain"
    told = lived_in.owner.get(path).json()
    assert told["decision"]["spoke"] == [
        {"id": "home-notes", "file": "rules/90-test.csv", "line": 1, "why": "notes", "effect": "allow"}
    ]
    assert any("`home-notes` (rules/90-test.csv:1) allows it: notes" in each for each in told["sentences"])
