"""Dependencies: what a plugin needs is told when it is registered, and there before it is approved."""

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.dependencies import Known, find_circle, needs_of

if TYPE_CHECKING:
    import httpx

    from tests.conftest import Home


def approve(home: "Home", plugin_id: str) -> "httpx.Response":
    return home.owner.post(f"/v1/plugins/{plugin_id}/approve", {"reason": "test"})


@pytest.mark.parametrize(
    ("wanted", "problem"), [("^1.0.0", None), ("^2.0.0", "its version is 1.0.0"), ("*", None), (">=1.0.0 <1.0.1", None)]
)
def test_a_version_that_does_not_fit_is_named(home: "Home", wanted: str, problem: str | None) -> None:
    home.install("inner")
    (need,) = home.register("outer", depends_on={"inner": wanted})["depends_on"]
    assert (need["version"], need["problem"]) == ("1.0.0", problem)
    answer = approve(home, "outer")
    assert answer.status_code == (200 if problem is None else 409)
    if problem is not None:
        assert f"`outer` needs `inner` {wanted}: {problem}" in answer.json()["detail"]


def test_what_is_not_there_holds_the_approval_until_it_is(home: "Home") -> None:
    (need,) = home.register("outer", depends_on={"inner": "^1.0.0"})["depends_on"]
    assert need["problem"] == "it is not registered"
    assert approve(home, "outer").status_code == 409
    home.register("inner")
    assert "it is not active" in approve(home, "outer").text
    assert approve(home, "inner").status_code == 200
    assert approve(home, "outer").status_code == 200


def test_what_others_need_in_turn_is_looked_at(home: "Home") -> None:
    home.install("innermost")
    home.install("inner", depends_on={"innermost": "^1.0.0"})
    home.owner.post("/v1/plugins/innermost/suspend", {"reason": ""})
    home.register("outer", depends_on={"inner": "*"})
    assert "`inner` needs `innermost` ^1.0.0: it is not active" in approve(home, "outer").json()["detail"]


def test_a_conflict_names_every_plugin_that_wants_another_version(home: "Home") -> None:
    home.install("inner")
    home.install("first", depends_on={"inner": "^1.0.0"})
    (need,) = home.register("second", depends_on={"inner": "^2.0.0"})["depends_on"]
    assert need["problem"] == "its version is 1.0.0, and `first` needs ^1.0.0"
    assert f"`second` needs `inner` ^2.0.0: {need['problem']}" in approve(home, "second").json()["detail"]


def test_a_reload_to_a_version_that_others_cannot_use_is_refused(home: "Home") -> None:
    home.install("inner", "def execute(ctx, payload):\n    return 'old'\n")
    home.install("outer", depends_on={"inner": "^1.0.0"})
    home.write_plugin("inner", "def execute(ctx, payload):\n    return 'new'\n", version="2.0.0")
    answer = home.owner.post("/v1/plugins/inner/reload", {"reason": "newer"})
    assert (answer.status_code, "`outer` needs ^1.0.0" in answer.text) == (409, True)
    assert home.owner.post("/v1/plugins/inner/execute", {"payload": {}}).json()["output"] == "old"
    home.write_plugin("inner", "def execute(ctx, payload):\n    return 'new'\n", version="1.1.0")
    assert home.owner.post("/v1/plugins/inner/reload", {"reason": "newer"}).status_code == 200
    assert home.owner.post("/v1/plugins/inner/execute", {"payload": {}}).json()["output"] == "new"


def test_a_circle_is_refused_and_named_whole(home: "Home") -> None:
    home.register("one", depends_on={"two": "*"})
    home.register("two", depends_on={"three": "*"})
    home.write_plugin("three", depends_on={"one": "*"})
    answer = home.owner.post("/v1/plugins", {"folder": "three"})
    assert (answer.status_code, "three -> one -> two -> three" in answer.text) == (409, True)


def test_a_version_that_others_cannot_use_is_refused(home: "Home") -> None:
    home.install("inner")
    home.install("outer", depends_on={"inner": "^1.0.0"})
    home.owner.post("/v1/plugins/inner/uninstall", {"reason": ""})
    home.register("inner", version="2.0.0")
    answer = approve(home, "inner")
    assert (answer.status_code, "`outer` needs ^1.0.0" in answer.text) == (409, True)
    assert home.owner.post("/v1/plugins/outer/revoke", {"reason": ""}).status_code == 200
    assert approve(home, "inner").status_code == 200


@given(st.dictionaries(st.sampled_from("abcdef"), st.sets(st.sampled_from("abcdefg"), max_size=4), min_size=1))
def test_a_circle_is_found_exactly_where_there_is_one(graph: dict[str, set[str]]) -> None:
    plugins = {
        name: Known(version="1.0.0", active=True, depends_on=dict.fromkeys(needs, "*")) for name, needs in graph.items()
    }
    for name, needs in graph.items():
        reached: set[str] = set()
        border = set(needs)
        while border:
            reached |= border
            border = {each for found in border for each in graph.get(found, ())} - reached
        circle = find_circle(name, plugins)
        assert bool(circle) is (name in reached)
        if circle:
            assert circle[0] == circle[-1] == name
            assert all(after in graph[before] for before, after in pairwise(circle))
        assert {each.plugin_id for each in needs_of(name, plugins)} == reached
