from collections.abc import Callable

import pytest

from gateway.errors import ConflictError, Place, Problem
from gateway.policy import current as current_policy
from gateway.policy.current import CurrentPolicy
from gateway.policy.engine import PolicySet
from gateway.policy.parse import ParsedPolicy
from gateway.policy.reach import check_reach

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


def test_what_is_said_in_vain_is_looked_for_once_for_each_text(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []

    def look(parsed: ParsedPolicy, _pause: object) -> tuple[Problem, ...]:
        looked.append(parsed.version)
        return check_reach(parsed)

    monkeypatch.setattr(current_policy, "check_reach", look)
    policy = CurrentPolicy()
    assert policy.vain() == ()
    one = build("p, a, plugin:notes, file, read, /etc/hosts, -, allow, in vain\n")
    policy.swap(one)
    (told,) = policy.vain()
    assert "never allows anything" in told.message
    assert policy.vain() == (told,)
    policy.swap(one.with_memberships({"plugin:notes": ("group:plugins",)}, 2))
    assert policy.vain() == (told,)
    assert looked == [one.version]
    other = build("p, a, plugin:notes, vault, read, notes, -, allow, to some purpose\n")
    policy.swap(other.with_memberships({}, 3))
    assert policy.vain() == ()
    assert looked == [one.version, other.version]
