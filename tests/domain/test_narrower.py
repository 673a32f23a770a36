"""Rights compared: what covers what, and what is left where two meet."""

import pytest
from hypothesis import given
from hypothesis.strategies import builds, lists, sampled_from

from gateway.domain.narrower import Right, covers_right, is_tighter, meet
from gateway.domain.permission import Kind, Level, Permission
from gateway.domain.scope import covers

TERMS = ("consent", "business_hours", "rate(5/60s)", "rate(10/60s)", "rate(10/1h)", "until(2026-01-01T00:00:00Z)")
SCOPES = ("*", "a", "a/*", "a/b", "a/b/*", "c", "*.example.com", "x.example.com")
conditions = lists(sampled_from(TERMS), max_size=2, unique=True).map(lambda terms: "; ".join(terms) or "-")
rights = builds(
    Right,
    permission=builds(Permission, sampled_from([Kind.VAULT, Kind.API]), sampled_from(list(Level))),
    scope=sampled_from(SCOPES),
    condition=conditions,
)


@given(rights, rights)
def test_what_is_left_of_two_rights_is_covered_by_both(one: Right, other: Right) -> None:
    left = meet(one, other)
    if left is not None:
        assert covers_right(one, left)
        assert covers_right(other, left)


@given(rights, rights, rights)
def test_covering_goes_on(one: Right, other: Right, third: Right) -> None:
    assert covers_right(one, one)
    if covers_right(one, other) and covers_right(other, third):
        assert covers_right(one, third)


@given(rights, rights, sampled_from(SCOPES))
def test_who_is_covered_reaches_nothing_more(one: Right, other: Right, asked: str) -> None:
    if covers_right(one, other) and "*" not in asked and covers(other.scope, asked):
        assert covers(one.scope, asked)
        assert one.permission.level >= other.permission.level


@pytest.mark.parametrize(
    ("condition", "than", "wanted"),
    [
        ("-", "-", True),
        ("consent", "-", True),
        ("-", "consent", False),
        ("rate(5/60s)", "rate(10/60s)", True),
        ("rate(5/1m)", "rate(5/60s)", True),
        ("rate(20/60s)", "rate(10/60s)", False),
        ("rate(5/30s)", "rate(10/60s)", False),
        ("until(2026-01-01T00:00:00Z)", "until(2026-06-01T00:00:00Z)", True),
        ("until(2027-01-01T00:00:00Z)", "until(2026-06-01T00:00:00Z)", False),
        ("hours(09:00-17:00 Mon UTC)", "hours(09:00-17:00 Mon+Tue UTC)", False),
        ("from(2026-01-01T00:00:00Z)", "consent", False),
    ],
)
def test_in_doubt_a_condition_is_not_tighter(condition: str, than: str, *, wanted: bool) -> None:
    assert is_tighter(condition, than) is wanted
