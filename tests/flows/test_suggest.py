"""The smallest change that would allow a denied call, proven by applying it aside."""

from datetime import UTC, datetime
from typing import Any

Home = Any  # what conftest.py gives
MakeHome = Any
RULES = """\
p, diary,   plugin:notes,   vault, read, diary,   consent,                 allow, the diary
p, by-day,  plugin:notes,   vault, read, day,     hours(09:00-10:00 UTC),  allow, by day
p, family,  group:family,   vault, read, album/*, -,                       allow, the album
p, no-keys, group:plugins,  vault, read, keys/*,  -,                       deny,  nobody's business
"""


def suggested(home: Home, permission: str, scope: str, subject: str = "plugin:notes", **more: object) -> dict[str, Any]:
    asked = home.owner.post("/v1/decisions", {"subject": subject, "permission": permission, "scope": scope, **more})
    found = home.owner.get(f"/v1/decisions/{asked.json()['decision_id']}/suggest")
    assert found.status_code == 200, found.text
    body: dict[str, Any] = found.json()
    return body


def test_what_no_rule_allows_takes_a_rule_and_its_flips_are_told(make_home: MakeHome) -> None:
    home = make_home(rules=RULES)
    home.install("notes")
    home.owner.post("/v1/decisions", {"subject": "plugin:notes", "permission": "vault_read", "scope": "a,b"})
    found = suggested(home, "vault_write", "a,b")
    (change,) = found["suggestions"]
    assert change["line"].startswith("p, notes-vault-write, plugin:notes, vault, write, a%2Cb, -, allow, ")
    assert sorted((flip["permission"], flip["to"]) for flip in change["flips"]) == [
        ("vault_read", "allow"),
        ("vault_write", "allow"),
    ]
    home.write_rules(RULES + change["line"] + "\n")
    assert home.reload().activated
    asked = {"subject": "plugin:notes", "permission": "vault_write", "scope": "a,b"}
    assert home.owner.post("/v1/decisions", asked).json()["effect"] == "allow"


def test_a_condition_that_can_be_fulfilled_is_the_smallest_change(make_home: MakeHome) -> None:
    home = make_home(rules=RULES)
    home.install("notes")
    first = suggested(home, "vault_read", "diary", user="alice")["suggestions"][0]
    assert (first["type"], first["terms"], first["sentence"]) == (
        "condition", ["consent"], "Rule `diary` allows it once `alice` consents.",
    )  # fmt: skip
    home.at(datetime(2026, 11, 23, 11, tzinfo=UTC))
    first = suggested(home, "vault_read", "day")["suggestions"][0]
    assert first["sentence"] == "Rule `by-day` allows it once it is asked at 2026-11-24T09:00:00+00:00."


def test_a_role_or_a_group_that_has_the_right_is_named(make_home: MakeHome) -> None:
    home = make_home(rules=RULES)
    home.install("notes")
    lines = [each.get("line") for each in suggested(home, "vault_read", "album/1")["suggestions"]]
    assert "g, plugin:notes, group:family" in lines
    asked = home.person("erin", "evaluate").get("/v1/policy")
    found = home.owner.get(f"/v1/decisions/{asked.json()['decision_id']}/suggest").json()
    roles = {each["line"] for each in found["suggestions"] if each["type"] == "role"}
    assert "g, user:erin, role:auditor" in roles
    assert "g, user:erin, role:member" not in roles


def test_for_a_guardrail_no_edit_is_offered(make_home: MakeHome) -> None:
    home = make_home(rules=RULES)
    home.install("notes")
    found = suggested(home, "vault_read", "keys/a")
    assert (found["possible"], found["suggestions"]) == (False, [])
    assert "Rule `no-keys` (rules/90-test.csv:4) denies it" in found["sentences"][0]
    assert "no edit but taking that guardrail out" in found["sentences"][0]


def test_for_a_plugin_that_is_not_active_no_edit_is_offered(make_home: MakeHome) -> None:
    home = make_home(rules=RULES)
    home.register("notes")
    found = suggested(home, "vault_read", "diary", user="alice")
    assert (found["possible"], "not active" in found["sentences"][0]) == (False, True)


def test_an_explanation_ends_with_the_smallest_change(make_home: MakeHome) -> None:
    home = make_home(rules=RULES)
    home.install("notes")
    asked = {"subject": "plugin:notes", "permission": "vault_read", "scope": "diary", "user": "alice"}
    decision = home.owner.post("/v1/decisions", asked).json()
    told = home.owner.get(f"/v1/decisions/{decision['decision_id']}/explain").json()
    assert told["suggestion"]["suggestions"][0]["type"] == "condition"
    assert "flips" not in told["suggestion"]["suggestions"][-1]
