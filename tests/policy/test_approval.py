from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.domain.manifest import RequestedPermission
from gateway.domain.permission import PERMISSIONS, Level
from gateway.domain.risk import Tier
from gateway.domain.scope import covers_pattern
from gateway.policy.approval import ApprovalRules, AutoGrant
from gateway.policy.parse import ParsedPolicy, parse_policy
from gateway.policy.text import PolicyText

Edited = Callable[..., PolicyText]
AUTO = """
[[auto]]
permission = "vault_write"
scope = "notes/*"
max_tier = "moderate"
[[auto]]
permission = "network_read"
scope = "*.example.com"
max_tier = "low"
"""


@pytest.fixture(scope="module")
def rules(edited: Edited) -> ApprovalRules:
    parsed = parse_policy(edited({"approval.toml": AUTO}))
    assert parsed.problems == ()
    return parsed.approval


@pytest.mark.parametrize(
    ("permission", "scope", "tier", "want"),
    [
        ("vault_write", "notes/*", "low", True),
        ("vault_write", "notes/a/*", "moderate", True),
        ("vault_read", "notes", "low", True),
        ("vault_write", "notes/*", "high", False),
        ("vault_write", "*", "low", False),
        ("vault_write", None, "low", False),
        ("vault_write", "notesx", "low", False),
        ("vault_admin", "notes/*", "low", False),
        ("core_write", "notes/*", "low", False),
        ("network_read", "a.example.com", "low", True),
        ("network_read", "*.a.example.com", "low", True),
        ("network_read", "example.com", "low", False),
        ("network_read", "*.com", "low", False),
        ("network_read", "a.example.com", "moderate", False),
        ("network_write", "a.example.com", "low", False),
    ],
)
def test_only_what_is_named_is_granted_without_asking(
    rules: ApprovalRules, permission: str, scope: str | None, tier: str, *, want: bool
) -> None:
    asked = RequestedPermission(permission=PERMISSIONS[permission], scope=scope, condition="-")
    assert (rules.auto(asked, plugin_id="notes", plugin_tier=Tier(tier)) is not None) is want


PLACES = st.sampled_from([None, "*", "/bin/ls", "/bin/*", "/*", "notes", "notes/*", "notes/a", "a.example.com"])
ASKED = st.builds(
    RequestedPermission,
    permission=st.sampled_from([*PERMISSIONS.values()]),
    scope=PLACES,
    condition=st.sampled_from(["-", "consent", "rate(5/60s)", "rate(5/60s); consent", "args.x == consent"]),
    purpose=st.just("auto_approve: true"),
)
ENTRIES = st.builds(
    AutoGrant,
    permission=st.sampled_from([*PERMISSIONS.values()]),
    scope=PLACES.map(lambda scope: scope or "*"),
    max_tier=st.sampled_from(Tier),
    plugin=st.sampled_from([None, "notes", "other"]),
)


@given(ASKED, st.lists(ENTRIES, max_size=4), st.sampled_from(Tier), st.booleans())
@example(
    RequestedPermission(permission=PERMISSIONS["vault_read"], scope="notes", condition="-"),
    [AutoGrant(permission=PERMISSIONS["vault_admin"], scope="*", max_tier=Tier.LOW)],
    Tier.LOW,
    False,  # noqa: FBT003 (a column of a table)
)
def test_whatever_the_entries_say_admin_asks_a_person_and_execute_is_for_one_alone(
    asked: RequestedPermission,
    entries: list[AutoGrant],
    tier: Tier,
    two: bool,  # noqa: FBT001 (drawn)
) -> None:
    rules = ApprovalRules(autos=tuple(entries), two_people=frozenset({asked.permission} if two else ()))
    entry = rules.auto(asked, plugin_id="notes", plugin_tier=tier)
    if entry is None:
        return
    assert not two
    assert asked.permission.level is not Level.ADMIN
    assert asked.scope not in {None, "*"}
    assert [*Tier].index(tier) <= [*Tier].index(entry.max_tier)
    assert entry.plugin in {None, "notes"}
    assert asked.permission.kind is entry.permission.kind
    if asked.permission.level is Level.EXECUTE:
        assert (entry.plugin, entry.permission, entry.scope) == ("notes", asked.permission, asked.scope)
        assert "consent" in asked.condition.split("; ")
    else:
        assert asked.permission.level <= entry.permission.level < Level.EXECUTE
        assert covers_pattern(entry.scope, asked.scope or "")


@pytest.mark.parametrize("permission", [str(each) for each in PERMISSIONS.values() if each.level is Level.ADMIN])
@pytest.mark.parametrize("plugin", ["", 'plugin = "notes"\n'])
def test_no_file_makes_admin_automatic(edited: Edited, permission: str, plugin: str) -> None:
    entry = f'[[auto]]\npermission = "{permission}"\nscope = "/x"\nmax_tier = "critical"\n{plugin}'
    parsed = parse_policy(edited({"approval.toml": entry}))
    assert any("admin asks a person" in str(each) for each in parsed.problems)
    assert parsed.approval.autos == ()


def test_execute_without_a_plugin_and_everything_are_errors(edited: Edited) -> None:
    for entry, said in (
        ('permission = "system_execute"\nscope = "/bin/ls"', "name it"),
        ('permission = "vault_read"\nscope = "*"', "name what may be had"),
    ):
        parsed = parse_policy(edited({"approval.toml": f'[[auto]]\n{entry}\nmax_tier = "low"\n'}))
        assert any(said in str(each) for each in parsed.problems)
        assert parsed.approval.autos == ()


@pytest.mark.parametrize(("text", "minutes"), [("0", 0), ("90", 90), ("-1", 44640), ("true", 44640), ('"soon"', 44640)])
def test_a_cool_down_that_cannot_be_read_is_the_longest(edited: Edited, text: str, minutes: int) -> None:
    parsed = parse_policy(edited({"approval.toml": f"[requests]\ncool_down_minutes = {text}\n"}))
    assert parsed.approval.cool_down_minutes == minutes
    assert bool(parsed.problems) is (minutes == 44640)


def test_the_starter_asks_two_people_for_admin_and_for_what_rules_the_host(starter: ParsedPolicy) -> None:
    two = {each for each in PERMISSIONS.values() if starter.approval.four_eyes(each)}
    assert two == {each for each in PERMISSIONS.values() if each.level is Level.ADMIN} | {PERMISSIONS["system_execute"]}
    assert starter.approval.own_call_approval is False


def test_two_people_are_asked_for_whatever_includes_what_two_people_must_approve(edited: Edited) -> None:
    parsed = parse_policy(edited({"approval.toml": '[four_eyes]\npermissions = ["vault_write", "file_execute"]\n'}))
    two = {name for name, each in PERMISSIONS.items() if parsed.approval.four_eyes(each)}
    assert two == {"vault_write", "vault_admin", "file_execute", "file_admin"}


@pytest.mark.parametrize(
    ("pattern", "other", "want"),
    [
        ("*", "*", True), ("*", "a/*", True), ("a/*", "a", True), ("a/*", "a/*", True), ("a/*", "a/b/*", True),
        ("a/*", "ab/*", False), ("a/b/*", "a/*", False), ("a/*", "*", False), ("a", "a/*", False), ("a", "a", True),
        ("/*", "/etc/*", True), ("*.x.org", "*.x.org", True), ("*.x.org", "*.a.x.org", True),
        ("*.x.org", "*.ax.org", False), ("*.x.org", "x.org", False), ("*.a.x.org", "*.x.org", False),
    ],
)  # fmt: skip
def test_a_pattern_covers_another_only_if_it_covers_all_of_it(pattern: str, other: str, *, want: bool) -> None:
    assert covers_pattern(pattern, other) is want
