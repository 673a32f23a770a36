"""Versions and ranges: ordered as semver.org says, and nothing else is a version."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.version import Version, parse_range, parse_version
from gateway.errors import MalformedError

ORDERED = (
    "0.0.0",
    "0.9.9",
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0",
    "1.0.1",
    "1.2.0",
    "1.10.0",
    "2.0.0",
)
numbers = st.tuples(*[st.integers(0, 99)] * 3)


@pytest.mark.parametrize("first", range(len(ORDERED)))
def test_versions_are_ordered_as_the_specification_orders_them(first: int) -> None:
    for second in range(len(ORDERED)):
        one, other = parse_version(ORDERED[first]), parse_version(ORDERED[second])
        assert (one < other) is (first < second)
        assert (one == other) is (first == second)


def test_what_stands_behind_a_plus_does_not_count() -> None:
    assert parse_version("1.0.0+a") == parse_version("1.0.0+b.1")


NO_VERSIONS = ("", "1", "1.0", "1.0.0.0", "01.0.0", "1.0.0-", "1.0.0-01", "1.0.0-a..b", "1.0.0+", "v1.0.0", "1.0.0\n")
NO_RANGES = ("", " ", "||", "^1.0.0 ||", "latest", ">=", "^^1.0.0", "1.x", ">1", "1.0.0 - 2.0.0", "*" * 300)


@pytest.mark.parametrize("text", [*NO_VERSIONS, "٣.0.0", f"{'9' * 5000}.0.0"])
def test_nothing_else_is_a_version(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_version(text)


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("*", ["0.0.1", "9.9.9"], ["1.0.0-rc.1"]),
        ("1.2.3", ["1.2.3"], ["1.2.4", "1.2.3-rc.1"]),
        ("=1.2.3", ["1.2.3"], ["1.2.4"]),
        ("^1.2.3", ["1.2.3", "1.9.0"], ["1.2.2", "2.0.0", "2.0.0-rc.1", "1.3.0-rc.1"]),
        ("^0.2.3", ["0.2.3", "0.2.9"], ["0.3.0", "1.0.0"]),
        ("^0.0.3", ["0.0.3"], ["0.0.4"]),
        ("^1.2", ["1.2.0", "1.9.0"], ["1.1.9", "2.0.0"]),
        ("~1.2.3", ["1.2.3", "1.2.9"], ["1.3.0"]),
        ("~1.2", ["1.2.0", "1.2.9"], ["1.3.0"]),
        ("1", ["1.0.0", "1.9.9"], ["2.0.0", "0.9.9"]),
        ("1.2", ["1.2.0", "1.2.9"], ["1.3.0"]),
        (">=1.0.0 <2.0.0", ["1.0.0", "1.9.9"], ["0.9.9", "2.0.0", "2.0.0-rc.1"]),
        (">1.0.0 <=1.1.0", ["1.1.0"], ["1.0.0", "1.1.1"]),
        ("^1.0.0-rc.1", ["1.0.0-rc.2", "1.0.0", "1.5.0"], ["1.0.0-beta", "1.5.0-rc.1"]),
        ("^1.0.0 || ^3.0.0", ["1.5.0", "3.1.0"], ["2.0.0"]),
    ],
)
def test_a_range_holds_what_it_says(text: str, inside: list[str], outside: list[str]) -> None:
    found = parse_range(text)
    assert [each for each in inside if parse_version(each) not in found] == []
    assert [each for each in outside if parse_version(each) in found] == []


@pytest.mark.parametrize("text", NO_RANGES)
def test_nothing_else_is_a_range(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_range(text)


@given(numbers, numbers)
def test_a_caret_keeps_the_first_number_that_is_not_zero(
    base: tuple[int, int, int], other: tuple[int, int, int]
) -> None:
    kept = next((place for place in range(3) if base[place]), 2)
    wanted = other >= base and other[: kept + 1] == base[: kept + 1]
    assert (Version(other) in parse_range(f"^{Version(base)}")) is wanted
