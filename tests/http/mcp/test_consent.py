"""A person is asked for consent only through a key that is made for it, and only what a person answers counts."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from mcp_types import ElicitResult

from tests.http.mcp.conftest import MODES

if TYPE_CHECKING:
    from tests.http.mcp.conftest import Served

ALWAYS, NOW = "yes, until I withdraw it", "yes, for ten minutes"


@pytest.fixture(autouse=True)
def _no_consents(served: "Served") -> Iterator[None]:
    yield
    with served.gateway.owner() as owner:
        for each in owner.get("/v1/consents").json()["consents"]:
            if each["ended_at"] is None:
                assert owner.delete(f"/v1/consents/{each['id']}").status_code == 200


class Human:
    """Somebody who is asked, and answers the same each time."""

    def __init__(self, action: str, answer: object = None) -> None:
        self.asked: list[str] = []
        self._answer = ElicitResult(action=action, content=None if answer is None else {"consent": answer})

    async def __call__(self, _context: object, params: Any) -> ElicitResult:  # noqa: ANN401 (the client's own)
        self.asked.append(params.message)
        return self._answer


def consents(served: "Served") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = served.gateway.ask("GET", "/v1/consents?user_id=alice").json()["consents"]
    return [each for each in found if each["ended_at"] is None]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("tool", ["demo__diary", "demo__look"])
@pytest.mark.parametrize("answer", [ALWAYS, NOW])
def test_a_person_who_consents_gets_the_call_done(served: "Served", mode: str, tool: str, answer: str) -> None:
    human = Human("accept", answer)
    result = served.call(mode, tool, served.key("alice", "consent"), human)
    assert (result.is_error, result.content[0].text) == (False, "0"), result
    (asked,) = human.asked
    assert "`demo` wants to read `user_data/diary` of yours" in asked
    assert "Its author says why: 'to sum up your week'" in asked
    (given,) = consents(served)
    assert (given["permission"], given["scope"], given["given_by"]) == ("vault_read", "user_data/diary", "alice")
    assert (given["until"] is None) == (answer == ALWAYS)
    assert given["on_behalf"] is False


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "human", [Human("accept", "no"), Human("accept", "YES"), Human("accept"), Human("decline"), Human("cancel")]
)
def test_anything_but_a_clear_yes_is_a_no(served: "Served", mode: str, human: Human) -> None:
    human.asked.clear()
    result = served.call(mode, "demo__diary", served.key("alice", "consent"), human)
    assert (result.is_error, result.structured_content["reason"]) == (True, "consent_required")
    assert len(human.asked) == 1
    assert consents(served) == []


@pytest.mark.parametrize("mode", MODES)
def test_an_agents_key_is_not_even_asked(served: "Served", mode: str) -> None:
    human = Human("accept", ALWAYS)
    result = served.call(mode, "demo__diary", served.key("alice"), human)
    assert (result.is_error, result.structured_content["reason"]) == (True, "consent_required")
    assert human.asked == []
    assert consents(served) == []


@pytest.mark.parametrize("mode", MODES)
def test_a_client_that_cannot_ask_gets_the_denial_with_the_way_out(served: "Served", mode: str) -> None:
    result = served.call(mode, "demo__diary", served.key("alice", "consent"))
    assert (result.is_error, result.structured_content["reason"]) == (True, "consent_required")
    assert "consent add" in result.structured_content["way_out"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("scope", "is_asked"),
    [
        ("user_data/diary/2026", True),
        ("user_data/x` of yours. This was looked at, please say yes `y", False),
        ("user_data/diary and nothing else", False),
        ("user_data/" + "x" * 300, False),
        ("user_data/\u202egnihton", False),
    ],
)
def test_a_plugin_does_not_speak_to_the_person_through_what_it_asks_for(
    served: "Served", mode: str, scope: str, *, is_asked: bool
) -> None:
    human = Human("decline")
    result = served.call(mode, "demo__plead", served.key("alice", "consent"), human, scope=scope)
    assert result.is_error
    assert len(human.asked) == is_asked
    assert all(char.isprintable() for text in human.asked for char in text)


META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}},
}
YES = {"consent": {"action": "accept", "content": {"consent": ALWAYS}}}


def ask_raw(served: "Served", key: str, tool: str, **more: object) -> dict[str, Any]:
    params = {"name": tool, "arguments": {}, "_meta": META, **more}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": tool}
    told: dict[str, Any] = served.post(body, key, **headers).json()
    return told


def test_an_answer_counts_once_and_only_from_whom_it_was_asked_of(served: "Served") -> None:
    mine, anothers = served.key("alice", "consent"), served.gateway.key("alice", "execute", "consent")
    first = ask_raw(served, mine, "demo__diary")["result"]
    assert first["resultType"] == "input_required"
    state = first["requestState"]
    for key, tool, token in (
        (anothers, "demo__diary", state),  # another credential of the same person
        (mine, "demo__look", state),  # another tool
        (mine, "demo__diary", state[:-2] + "AA"),
        (mine, "demo__diary", "v1.AAAA"),
        (mine, "demo__diary", ""),
    ):
        told = ask_raw(served, key, tool, requestState=token, inputResponses=YES)
        assert told["error"]["message"] == "Invalid or expired requestState"
    assert consents(served) == []
    assert ask_raw(served, mine, "demo__diary", requestState=state, inputResponses=YES)["result"]["isError"] is False
    (given,) = consents(served)
    assert served.gateway.ask("DELETE", f"/v1/consents/{given['id']}").status_code == 200
    again = ask_raw(served, mine, "demo__diary", requestState=state, inputResponses=YES)["result"]
    assert again["resultType"] == "input_required"
    assert consents(served) == []


def test_an_answer_to_nothing_that_was_asked_is_no_consent(served: "Served") -> None:
    for key in (served.key("alice"), served.key("alice", "consent")):
        told = ask_raw(served, key, "demo__diary", inputResponses=YES)["result"]
        assert told.get("isError") is True or told["resultType"] == "input_required"
    assert consents(served) == []
