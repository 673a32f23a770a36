from collections.abc import Callable

import pytest

from gateway.domain.permission import PERMISSIONS
from gateway.domain.risk import Tier
from gateway.domain.scope import covers_pattern
from gateway.policy.approval import ApprovalRules
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
    assert rules.auto(PERMISSIONS[permission], scope, Tier(tier)) is want


def test_the_starter_asks_two_people_for_what_rules_the_host(starter: ParsedPolicy) -> None:
    assert starter.approval.four_eyes(PERMISSIONS["system_execute"])
    assert not starter.approval.four_eyes(PERMISSIONS["vault_read"])
    assert starter.approval.own_call_approval is False


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
