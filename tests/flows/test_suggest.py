"""The smallest change that would allow a denied call, proven by applying it aside."""

from datetime import UTC, datetime
from typing import Any

import pytest

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
    home.put_in_force()
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
    assert first["sentence"] == "Rule `by-day` allows it once it is asked at 2026-11-24T09:00:00Z."


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


CONDITIONS = {
    # the condition of a rule: what is sent, what must come true in words, what a rule of its own would ask for
    "consent": ({"user": "alice"}, "`alice` consents", "-"),
    "consent; risk<=90": ({"user": "alice"}, "`alice` consents", "risk<=90"),
    "approval": ({}, "a person approves this very call", "-"),
    "rate(1/1h)": ({}, "fewer than 1 of its calls were allowed within 3600 s", "-"),
    "risk<=10": ({}, "its risk is at most 10 (it is 35)", "risk<=35"),
    "risk<=32": ({}, "its risk is at most 32 (it is 35), as it is for a plugin of tier low", "risk<=35"),
    "hours(09:10-09:14 UTC)": ({}, "it is asked at 2026-11-24T09:10:00Z", "-"),
    "business_hours; hours(03:00-10:00 Europe/Berlin)": ({}, "it is asked at 2026-11-24T08:00:00Z", "business_hours"),
    "from(2026-12-24T18:00:00Z)": ({}, "it is asked at 2026-12-24T18:00:00Z", "-"),
    "from(2026-12-24T18:00:00Z); hours(09:00-10:00 UTC)": ({}, "it is asked at 2026-12-25T09:00:00Z", "-"),
    "until(2026-11-01T00:00:00Z)": ({}, None, "-"),
    "from(2026-12-24T18:00:00Z); until(2026-12-24T19:00:00Z); hours(09:00-10:00 UTC)": (
        {}, None, "until(2026-12-24T19:00:00Z)",
    ),
    "context.x == y": ({}, "`context.x` is `y` (it was not given)", "-"),
    "context.x != y": ({"context": {"x": "y"}}, "`context.x` is known and is not `y` (it is `y`)", "-"),
    "context.on == true; consent": (
        {"context": {"on": False}, "user": "alice"},
        "`context.on` is `true` (it is `false`), and `alice` consents", "-",
    ),
    "args.n <= 5": ({"args": {"n": 7}}, "`args.n` is at most `5` (it is `7`)", "-"),
    "args.n < 5": ({"args": {"n": 5}}, "`args.n` is less than `5` (it is `5`)", "-"),
    "args.n > 5": ({"args": {"n": 5}}, "`args.n` is more than `5` (it is `5`)", "-"),
    "args.n >= 5.5": ({"args": {"n": "7"}}, "`args.n` is at least `5.5` (it is `7`)", "-"),
    "context.city in rome|oslo": (
        {"context": {"city": "bonn"}}, "`context.city` is one of `rome` or `oslo` (it is `bonn`)", "-",
    ),
    "context.path startswith home": ({}, "`context.path` begins with `home` (it was not given)", "-"),
    "context.order.total <= 5; context.order.paid == true": (
        {"context": {"order": {"total": 9, "paid": True}}}, "`context.order.total` is at most `5` (it is `9`)",
        "context.order.paid == true",
    ),
    "resource.owner == subject.id": ({}, "`resource.owner` is `notes`, as is `subject.id` (it was not given)", "-"),
    "subject.id == resource.owner": ({}, "`resource.owner` is `notes`, as is `subject.id` (it was not given)", "-"),
    "context.a == context.b": ({}, None, "-"),
    "subject.id == other": ({}, None, "-"),
    "resource.colour == red": (
        {}, "entities.toml says of vault `wanted` that `resource.colour` is `red` (it is `blue`)", "-",
    ),
}  # fmt: skip


@pytest.fixture
def painted(make_home: MakeHome) -> Home:
    """Give a home that knows the colour of a thing."""
    home = make_home()
    (home.folder / "policies" / "entities.toml").write_text('[vault.wanted]\ncolour = "blue"\n')
    home.install("notes")
    home.at(datetime(2026, 11, 23, 11, tzinfo=UTC))
    return home


def test_every_condition_is_offered_in_words_and_as_the_smallest_rule(painted: Home) -> None:
    for condition, (sent, words, left) in CONDITIONS.items():
        painted.write_rules(f"p, wanted, plugin:notes, vault, write, wanted, {condition}, allow, why\n")
        assert [each for each in painted.reload().problems if each.severity == "error"] == [], condition
        if condition.startswith("rate"):
            allowed = {"subject": "plugin:notes", "permission": "vault_write", "scope": "wanted"}
            assert painted.owner.post("/v1/decisions", allowed).json()["effect"] == "allow"
        found = suggested(painted, "vault_write", "wanted", **sent)
        offers = [each["sentence"] for each in found["suggestions"] if each["type"] == "condition"]
        assert offers == ([] if words is None else [f"Rule `wanted` allows it once {words}."])
        (rule,) = [each for each in found["suggestions"] if each["type"] == "rule"]
        assert rule["line"].startswith(
            f"p, notes-vault-write, plugin:notes, vault, write, wanted, {left}, allow, asked for"
        )
        assert found["decision_id"] in {flip["decision_id"] for flip in rule["flips"]}, condition


def test_a_condition_that_is_stored_is_offered_with_what_else_it_changes(painted: Home) -> None:
    painted.rules("p, wanted, plugin:notes, vault, write, wanted, resource.colour == red, allow, why\n")
    found = suggested(painted, "vault_write", "wanted")
    (offer,) = [each for each in found["suggestions"] if each["type"] == "condition"]
    assert [flip["decision_id"] for flip in offer["flips"]] == [found["decision_id"]]


def test_a_rule_that_would_lift_a_plugin_into_a_tier_that_is_denied_is_not_offered(make_home: MakeHome) -> None:
    home = make_home(rules="p, calm, tier:critical, vault, read, *, -, deny, none that critical\n")
    home.install("notes", wants=("vault_read album",))
    tier = home.owner.get("/v1/policy").json()["memberships"]["plugin:notes"][1]
    assert tier != "tier:critical"
    found = suggested(home, "vault_admin", "secrets")
    assert [each for each in found["suggestions"] if each["type"] == "rule"] == []


def test_a_conditional_guardrail_says_when_it_speaks(make_home: MakeHome) -> None:
    home = make_home(rules="p, unsafe, plugin:notes, vault, read, a, context.safe != true, deny, only safe ones\n")
    home.install("notes")
    found = suggested(home, "vault_read", "a")
    assert not found["possible"]
    assert "denies it where `context.safe != true` holds or cannot be told" in found["sentences"][0]
