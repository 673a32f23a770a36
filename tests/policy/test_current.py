from collections.abc import Callable

import pytest

from gateway.errors import ConflictError, Place, Problem
from gateway.policy.current import CurrentPolicy
from gateway.policy.engine import PolicySet

Build = Callable[..., PolicySet]
RULE = "p, a, plugin:notes, vault, read, x, -, allow, why"


def test_before_the_first_swap_nothing_is_in_force() -> None:
    current = CurrentPolicy()
    assert current.get() is None
    assert current.status()["in_force"] is False


def test_an_older_set_never_comes_back(build: Build) -> None:
    current, first = CurrentPolicy(), build(RULE)
    newer = first.with_memberships({}, 5)
    current.swap(first)
    current.swap(newer)
    for late in (first, newer, first.with_memberships({}, 5)):
        with pytest.raises(ConflictError):
            current.swap(late)
    assert current.get() is newer


def test_a_rejected_edit_is_remembered_until_a_good_one(build: Build) -> None:
    current, policy = CurrentPolicy(), build(RULE)
    current.swap(policy)
    current.reject([Problem(place=Place(file="roles.csv", line=3), message="no")])
    assert current.get() is policy
    assert [str(problem) for problem in current.problems] == ["roles.csv:3: no"]
    assert current.status()["problems"]
    current.swap(policy.with_memberships({}, 2))
    assert current.problems == ()
