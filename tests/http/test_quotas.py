"""Rates of keys: counted for each key, refused beyond, told with every answer, on every way in."""

import time
from typing import TYPE_CHECKING

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.quota import Quota, Window, parse_quota
from gateway.errors import MalformedError
from tests.app.served import Gateway

if TYPE_CHECKING:
    from tests.conftest import Home, MakeHome

QUESTION = {"subject": "user:alice", "permission": "vault_read", "scope": "notes"}
EVALUATION = {
    "subject": {"type": "user", "id": "alice"},
    "action": {"name": "read"},
    "resource": {"type": "vault", "id": "x"},
}


def key(home: "Home", user: str = "alice", **members: object) -> str:
    answer = home.owner.post("/v1/keys", {"user": user, "scopes": ["evaluate", "execute"], **members})
    assert answer.status_code == 201, answer.text
    made: str = answer.json()["key"]
    return made


def ask(home: "Home", text: str, path: str = "/v1/decisions", body: object = None) -> httpx.Response:
    return home.stranger.ask("POST", path, body or QUESTION, headers={"authorization": f"Bearer {text}"})


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/decisions", QUESTION),
        ("/access/v1/evaluation", EVALUATION),
        ("/access/v1/evaluations", EVALUATION),
        ("/v1/plugins/nobody/execute", {"payload": {}}),
        ("/v1/decisions", {"subject": 1}),
    ],
)
def test_what_is_left_is_told_and_beyond_it_nothing_is_answered(home: "Home", path: str, body: object) -> None:
    text = key(home, rate="3/60s")
    answers = [ask(home, text, path, body) for _ in range(5)]
    assert [each.headers["ratelimit"].partition(";t=")[0] for each in answers] == [
        f'"key";r={left}' for left in (2, 1, 0, 0, 0)
    ]
    assert {each.headers["ratelimit-policy"] for each in answers} == {'"key";q=3;w=60'}
    assert [each.status_code == 429 for each in answers] == [False, False, False, True, True]
    refused = answers[-1]
    assert refused.json()["type"] == "urn:hearthgate:problem:rate_limited"
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert int(refused.headers["ratelimit"].partition(";t=")[2]) == int(refused.headers["retry-after"])


def test_one_keys_rate_is_nothing_to_another_nor_to_the_owner(home: "Home") -> None:
    first, second, free = key(home, rate="1/60s"), key(home, rate="1/60s"), key(home)
    assert [ask(home, first).status_code for _ in range(2)] == [200, 429]
    assert ask(home, second).status_code == 200
    for answer in (*(ask(home, free) for _ in range(4)), home.owner.post("/v1/decisions", QUESTION)):
        assert answer.status_code == 200
        assert "ratelimit" not in answer.headers


def test_the_settings_rate_is_of_keys_that_have_none(make_home: "MakeHome") -> None:
    home = make_home(settings='[http]\nkey_rate = "2/60s"\n')
    plain, own = key(home), key(home, rate="4/60s")
    assert [ask(home, plain).status_code for _ in range(3)] == [200, 200, 429]
    assert [ask(home, own).status_code for _ in range(5)] == [200, 200, 200, 200, 429]
    assert [home.owner.get("/v1/policy").status_code for _ in range(3)] == [200] * 3


def test_a_rate_outlives_a_restart_and_is_shown(home: "Home") -> None:
    text = key(home, rate="1/60s")
    home.reopen()
    assert [ask(home, text).status_code for _ in range(2)] == [200, 429]
    assert "1/60s" in [each["rate"] for each in home.owner.get("/v1/keys").json()["keys"]]
    assert home.records(event_type="key_added")[-1]["details"]["rate"] == "1/60s"


def test_what_is_refused_is_counted_and_runs_nothing(home: "Home") -> None:
    text = key(home, rate="1/60s")
    assert [ask(home, text).status_code for _ in range(3)] == [200, 429, 429]
    assert len(home.decided(subject="user:alice")) == 1


@pytest.mark.parametrize("wrong", ["0/60s", "5", "5/s", "5/60", "-1/60s", "5/60s ", "1e3/60s", "5/100000s"])
def test_a_rate_that_is_none_is_refused(home: "Home", wrong: str) -> None:
    answer = home.owner.post("/v1/keys", {"user": "alice", "scopes": ["evaluate"], "rate": wrong})
    assert answer.status_code == 400, answer.text
    with pytest.raises(MalformedError):
        parse_quota(wrong)


def test_a_served_gateway_tells_it_on_a_connection_that_stays(make_home: "MakeHome") -> None:
    home = make_home()
    home.close()
    served = Gateway(home.folder)
    try:
        made = served.ask("POST", "/v1/keys", {"user": "alice", "scopes": ["evaluate"], "rate": "3/60s"}).json()["key"]
        headers = {"authorization": f"Bearer {made}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{served.port}", headers=headers) as client:
            answers = [client.post("/v1/decisions", json=QUESTION) for _ in range(4)]
    finally:
        served.end()
    assert [each.status_code for each in answers] == [200, 200, 200, 429]
    assert [each.headers["ratelimit"][:9] for each in answers] == ['"key";r=2', '"key";r=1', '"key";r=0', '"key";r=0']


@given(
    st.integers(1, 5),
    st.integers(1, 10),
    st.lists(st.floats(0, 4, allow_nan=False), max_size=40),
)
def test_no_window_lets_through_more_than_its_quota(requests: int, per_s: int, gaps: list[float]) -> None:
    quota, window, now = Quota(requests=requests, per_s=per_s), Window(), time.monotonic()
    taken: list[float] = []
    for gap in gaps:
        now += gap
        may, standing = window.take(quota, now)
        assert standing.left >= 0
        assert may or standing.left == 0
        assert 1 <= standing.again_s <= per_s
        if may:
            taken.append(now)
        else:
            assert window_opens(quota, window, now + standing.again_s)
    for begin in taken:
        # a fixed window: at most twice its quota in any span as long as it
        assert sum(begin <= each < begin + per_s for each in taken) <= 2 * requests


def window_opens(quota: Quota, window: Window, at: float) -> bool:
    """Tell, of a copy, whether there is one left at a moment."""
    copy = Window()
    copy._began, copy._taken = window._began, window._taken
    return copy.take(quota, at)[0]
