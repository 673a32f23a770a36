"""The trace of a request is told with its answer, whichever way it takes, and kept with its records."""

from typing import TYPE_CHECKING

import httpx
import pytest

from tests.app.served import Gateway

if TYPE_CHECKING:
    from tests.conftest import Home, MakeHome

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
QUESTION = {"subject": "user:alice", "permission": "vault_read", "scope": "notes"}
WAYS = [("POST", "/v1/decisions", QUESTION), ("POST", "/v1/decisions", {"subject": 1}), ("GET", "/v1/policy", None)]


@pytest.mark.parametrize(("method", "path", "body"), WAYS)
def test_it_is_told_with_the_answer(home: "Home", method: str, path: str, body: object) -> None:
    answer = home.owner.ask(method, path, body, headers={"traceparent": PARENT})
    assert answer.headers["traceparent"] == PARENT
    assert "traceparent" not in home.owner.ask(method, path, body).headers


@pytest.mark.parametrize(("method", "path", "body"), WAYS)
@pytest.mark.parametrize("wrong", [f"00-{'0' * 32}-00f067aa0ba902b7-01", "x" * 60_000, "", "\xff"])
def test_what_is_none_is_ignored(home: "Home", method: str, path: str, body: object, wrong: str) -> None:
    plain = home.owner.ask(method, path, body)
    answer = home.owner.ask(method, path, body, headers={b"traceparent": wrong.encode("latin-1")})
    assert (answer.status_code, "traceparent" in answer.headers) == (plain.status_code, False)
    assert not any(row["trace_id"] for row in home.records())


def test_who_is_not_known_gives_records_no_trace(home: "Home") -> None:
    size = home.parts.log.size
    answer = home.stranger.ask("POST", "/v1/decisions", QUESTION, headers={"traceparent": PARENT})
    assert answer.status_code == 401
    assert home.parts.log.size == size


def test_a_served_gateway_tells_each_answers_own_on_a_connection_that_stays(make_home: "MakeHome") -> None:
    home = make_home()
    home.close()
    served = Gateway(home.folder)
    another = PARENT.replace("4bf9", "aaaa")
    sent = [[PARENT], [], [another], ["nonsense"], [PARENT, another], []]
    try:
        made = served.ask("POST", "/v1/keys", {"user": "alice", "scopes": ["evaluate"]}).json()["key"]
        headers = {"authorization": f"Bearer {made}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{served.port}", headers=headers) as client:
            answers = [
                client.post("/v1/decisions", json=QUESTION, headers=[("traceparent", one) for one in each])
                for each in sent
            ]
    finally:
        served.end()
    assert [each.status_code for each in answers] == [200] * 6
    assert [each.headers.get("traceparent") for each in answers] == [PARENT, None, another, None, None, None]
