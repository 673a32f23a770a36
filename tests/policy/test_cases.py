from collections.abc import Callable

import pytest

from gateway.policy.cases import run_cases, unexercised
from gateway.policy.engine import PolicySet, build_policy_set
from gateway.policy.parse import ParsedPolicy, parse_policy
from gateway.policy.text import PolicyText

Build = Callable[..., PolicySet]
Edited = Callable[..., PolicyText]
RULES = """\
p, diary, plugin:notes, vault, read, user_data/*, business_hours; consent, allow, why
p, web, plugin:notes, network, read, example.com, rate(5/60s), allow, why
p, low, tier:low, api, read, shop/*, -, deny, why
p, mild, plugin:notes, core, read, state, risk<=20, allow, why
p, call, plugin:notes, system, execute, /bin/ls, approval, allow, why
p, big, user:alice, todo, read, 1, context.size > 3; resource.owner == subject.id; args.x == y, allow, why
"""
ASK = {
    "diary": 'subject = "plugin:notes", kind = "vault", level = "read", scope = "user_data/diary"',
    "web": 'subject = "plugin:notes", kind = "network", level = "read", scope = "EXAMPLE.com."',
    "shop": 'subject = "plugin:notes", kind = "api", level = "read", scope = "shop/cart"',
    "state": 'subject = "plugin:notes", kind = "core", level = "read", scope = "state"',
    "call": 'subject = "plugin:notes", kind = "system", level = "execute", scope = "/bin/ls"',
    "todo": 'subject = "user:alice", kind = "todo", level = "read", scope = "1"',
    "granted": 'subject = "plugin:notes", kind = "vault", level = "read", scope = "granted"',
}
DAY = 'at = "2026-11-23T09:30:00Z"'
ROWS = [
    ("diary", f'{DAY}, consents = ["vault_read user_data/diary"]', "allow", ""),
    ("diary", f'{DAY}, consents = ["vault_write user_data/*"]', "allow", 'rule = "diary"'),
    ("diary", f'{DAY}, consents = ["vault_read user_data/other"]', "deny", 'reason = "consent_required"'),
    ("diary", f'{DAY}, consents = ["core_read user_data/*"]', "deny", 'near_miss = "diary"'),
    ("diary", 'at = 2026-11-22T09:30:00Z, consents = ["vault_read *"]', "deny", 'reason = "condition"'),
    ("web", "used = { web = 4 }", "allow", ""),
    ("web", "used = { web = 5 }", "deny", 'reason = "rate_limited"'),
    ("shop", 'roles = ["tier:low"]', "deny", 'rule = "low"'),
    ("shop", 'roles = ["tier:high"]', "deny", 'reason = "no_rule"'),
    ("state", "risk = 20", "allow", ""),
    ("state", "risk = 21", "deny", 'reason = "risk_too_high"'),
    ("state", 'roles = ["tier:low"]', "allow", ""),
    ("state", 'roles = ["tier:critical"]', "deny", 'reason = "risk_too_high"'),
    ("call", "approved = true", "allow", ""),
    ("call", "approved = false", "deny", 'reason = "approval_required"'),
    ("todo", 'context = { size = 4 }, resource = { owner = "alice" }, args = { x = "y" }', "allow", ""),
    (
        "todo",
        'context = { size = 4 }, resource = { owner = "bob" }, args = { x = "y" }',
        "deny",
        'reason = "condition"',
    ),
]


def case(name: str, given: str, want: str, more: str) -> str:
    ask = ASK[name]
    return f'[[case]]\nname = "{name}"\nask = {{ {ask} }}\ngiven = {{ {given} }}\nwant = "{want}"\n{more}\n'


def test_the_starter_policy_passes_its_cases_and_they_exercise_every_rule(starter: ParsedPolicy) -> None:
    policy = build_policy_set(starter, memberships={}, generation=1)
    results = run_cases(policy)
    assert [result for result in results if not result.passed] == []
    assert unexercised(policy, results) == ()


def test_the_starter_cases_survive_ordinary_edits_and_memberships(build: Build) -> None:
    policy = build(
        "p, mine-1, group:plugins, file, read, /srv/*, -, deny, mine\n"
        "p, mine-2, plugin:some-plugin, network, read, *, -, allow, mine\n"
        "p, mine-3, user:alice, gateway, admin, plugins/*, -, allow, mine\n"
        "p, mine-4, group:plugins, network, read, *, -, deny, no network\n",
        {"plugin:some-plugin": ("group:plugins", "tier:moderate"), "user:alice": ("group:users",)},
    )
    assert [result.message for result in run_cases(policy) if not result.passed] == []


@pytest.mark.parametrize(("name", "given", "want", "more"), ROWS)
def test_a_case_is_judged_by_what_it_gives(build: Build, name: str, given: str, want: str, more: str) -> None:
    policy = build(RULES, **{"tests/here_toml": case(name, given, want, more)})
    result = next(result for result in run_cases(policy) if result.file == "tests/here.toml")
    assert (result.passed, result.message) == (True, "")


@pytest.mark.parametrize(
    ("want", "more", "message"),
    [
        ("allow", "", "wanted allow, got deny (consent_required) for `diary` (rules/90-here.csv:1)"),
        ("deny", 'rule = "web"', "wanted rule `web`, got deny (consent_required) for `diary`"),
        ("deny", 'reason = "no_rule"', "wanted reason `no_rule`, got deny (consent_required) for `diary`"),
        ("deny", 'near_miss = "web"', "wanted near miss `web`, got deny"),
    ],
)
def test_a_failing_case_says_what_came_instead(build: Build, want: str, more: str, message: str) -> None:
    policy = build(RULES, **{"tests/here_toml": "# one\n\n" + case("diary", DAY, want, more)})
    result = next(result for result in run_cases(policy) if result.file == "tests/here.toml")
    assert not result.passed
    assert message in result.message
    assert result.line == 3


@pytest.mark.parametrize(("with_grants", "want"), [("true", "allow"), ("false", "deny")])
def test_grants_count_only_for_cases_that_say_so(build: Build, with_grants: str, want: str) -> None:
    files = {
        "grants_csv": "p, grant-1, plugin:notes, vault, read, granted, -, allow, why\n",
        "tests/here_toml": case("granted", "", want, f"with_grants = {with_grants}"),
    }
    assert all(result.passed for result in run_cases(build(RULES, **files)))


def test_a_tier_in_a_case_stands_for_that_of_the_registry(build: Build) -> None:
    files = {"tests/here_toml": case("shop", 'roles = ["tier:high"]', "deny", 'reason = "no_rule"')}
    policy = build(RULES, {"plugin:notes": ("group:plugins", "tier:low")}, **files)
    assert all(result.passed for result in run_cases(policy))


def test_cases_of_one_subject_in_different_standings_do_not_meet(edited: Edited) -> None:
    cases = case("shop", 'roles = ["tier:low"]', "deny", 'rule = "low"') + case(
        "shop", "", "deny", 'reason = "no_rule"'
    )
    parsed = parse_policy(edited({"rules/90-here.csv": RULES, "tests/here.toml": cases}))
    results = run_cases(build_policy_set(parsed, memberships={}, generation=1))
    assert [result.message for result in results if not result.passed] == []
