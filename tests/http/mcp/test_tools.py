"""Through `/mcp` a caller sees the tools that are theirs, and a call is the same call as over HTTP."""

import asyncio
import unicodedata
from typing import Any

import httpx
import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult

from tests.app.served import WAIT_S
from tests.http.mcp.conftest import MODES, TOOLS, Served


@pytest.mark.parametrize("mode", MODES)
def test_a_member_sees_every_tool_in_a_lasting_order(served: Served, mode: str) -> None:
    tools = served.tools(mode, served.key("alice"))
    assert [each.name for each in tools] == TOOLS
    assert tools[0].input_schema["required"] == ["a", "b"]
    assert tools[0].input_schema["additionalProperties"] is False


@pytest.mark.parametrize("mode", MODES)
def test_no_word_reaches_a_model_that_a_person_cannot_see(served: Served, mode: str) -> None:
    told = {each.name: each for each in served.tools(mode, served.key("alice"))}
    what = told["demo__say"].input_schema["properties"]["what"]
    assert what == {"type": "string", "title": "a\\u200bb", "description": "What.\\ue0052\\ue0065\\ue0061\\ue0064"}
    for each in told.values():
        assert not [char for char in str(each.model_dump()) if unicodedata.category(char) in {"Cc", "Cf"}]


@pytest.mark.parametrize("mode", MODES)
def test_hints_come_from_rights_and_not_from_the_author(served: Served, mode: str) -> None:
    (hints,) = {each.annotations.model_dump_json() for each in served.tools(mode, served.key("alice"))}
    tool = served.tools(mode, served.key("alice"))[0]
    assert tool.annotations.read_only_hint is False, hints
    assert tool.annotations.destructive_hint is True
    assert tool.annotations.open_world_hint is False


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("who", ["nobody", "no_execute"])
def test_who_may_not_execute_sees_nothing_and_can_tell_nothing_apart(served: Served, mode: str, who: str) -> None:
    key = served.key("erin") if who == "nobody" else served.gateway.key("alice", "evaluate")
    assert served.tools(mode, key) == []
    told = []
    for name in ("demo__add", "demo__none", "other__add", "nothing", "demo__add__x"):
        with pytest.raises(MCPError) as raised:
            served.call(mode, name, key, a=1, b=2)
        told.append((raised.value.error.code, raised.value.error.message.replace(name, "X"), raised.value.error.data))
    assert set(map(str, told)) == {str((-32602, "there is no tool `X`", None))}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("given", [{"action": "add"}, {"batch": []}, {"c": 1}, {}])
def test_no_argument_tells_a_hidden_tool_from_none(served: Served, mode: str, given: dict[str, Any]) -> None:
    for name in ("demo__add", "demo__none"):
        with pytest.raises(MCPError, match=f"^there is no tool `{name}`$"):
            served.call(mode, name, served.key("erin"), **given)


@pytest.mark.parametrize("mode", MODES)
def test_what_was_hidden_was_asked_all_the_same_and_is_in_the_log(served: Served, mode: str) -> None:
    for name in ("demo__add", "other__add"):
        with pytest.raises(MCPError):
            served.call(mode, name, served.key("erin"))
        last = [row for row in served.gateway.rows(user="erin") if row["event_type"] == "access_denied"][-1]
        assert last["decision"]["scope"] == f"plugins/{name.partition('__')[0]}"


@pytest.mark.parametrize("mode", MODES)
def test_a_call_leaves_the_records_that_it_leaves_over_http(served: Served, mode: str) -> None:
    def since(before: int) -> list[tuple[str, str | None, str | None]]:
        rows = [row for row in served.gateway.rows(user="alice")[before:] if "list" not in row["details"]]
        return [(row["event_type"], row["resolution"], (row["decision"] or {}).get("scope")) for row in rows]

    before = len(served.gateway.rows(user="alice"))
    result = served.call(mode, "demo__add", a=1, b=2)
    assert (result.is_error, result.content[0].text) == (False, "3")
    through_mcp = since(before)
    before = len(served.gateway.rows(user="alice"))
    payload = {"action": "add", "a": 1, "b": 2}
    headers = {"authorization": f"Bearer {served.key('alice')}"}
    answer = httpx.post(
        served.url.replace("/mcp", "/v1/plugins/demo/execute"), json={"payload": payload}, headers=headers
    )
    assert answer.json()["output"] == 3
    assert through_mcp == since(before)
    assert [each[0] for each in through_mcp][-2:] == ["execution_started", "execution_completed"]
    told = result.meta["hearthgate/decision_id"]
    assert served.gateway.ask("GET", f"/v1/decisions/{told}").json()["effect"] == "allow"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        ({"a": 1}, "`b` is missing"),
        ({"a": 1, "b": "2"}, "number is needed"),
        ({"a": 1, "b": 2, "c": 3}, "`c` is not known"),
        ({"a": 1, "b": 2, "action": "wait"}, "`action` is no parameter"),
        ({"batch": [{"a": 1, "b": 2}]}, "`batch` is no parameter"),
    ],
)
def test_arguments_are_those_of_the_schema(served: Served, mode: str, arguments: dict[str, Any], wrong: str) -> None:
    result = served.call(mode, "demo__add", **arguments)
    assert result.is_error
    assert wrong in result.content[0].text
    assert result.structured_content["status"] == 400


@pytest.mark.parametrize("mode", MODES)
def test_a_call_that_fails_is_a_result_that_the_model_reads(served: Served, mode: str) -> None:
    result = served.call(mode, "demo__fail")
    assert result.is_error
    assert result.content[0].text == "the call failed: ValueError: as it should"
    assert result.structured_content["outcome"] == "failed"


@pytest.mark.parametrize("mode", MODES)
def test_a_denial_is_a_result_with_its_decision_and_the_way_out(served: Served, mode: str) -> None:
    result = served.call(mode, "demo__diary")
    assert result.is_error
    told = result.structured_content
    assert (told["status"], told["reason"]) == (403, "consent_required")
    assert "hearthgate consent add --user alice --plugin demo" in result.content[0].text
    decision = served.gateway.ask("GET", f"/v1/decisions/{told['decision_id']}").json()
    assert (decision["effect"], decision["subject"]) == ("deny", "plugin:demo")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("parent", "trace"), [(f"00-{'ab' * 16}-{'1' * 16}-01", "ab" * 16), ("nonsense", None)])
def test_the_trace_that_a_call_belongs_to_is_in_its_records(
    served: Served, mode: str, parent: str, trace: str | None
) -> None:
    async def run() -> CallToolResult:
        async with served.client(served.key("alice"), mode) as client:
            return await client.call_tool("demo__add", {"a": 1, "b": 2}, meta={"traceparent": parent})

    result = asyncio.run(asyncio.wait_for(run(), WAIT_S))
    told = (result.meta or {})["hearthgate/execution_id"]
    rows = [row for row in served.gateway.rows(plugin="demo") if row["details"].get("execution_id") == told]
    assert [row["trace_id"] for row in rows] == [trace, trace]


@pytest.mark.parametrize("mode", MODES)
def test_blocks_of_content_are_handed_on_as_such(served: Served, mode: str) -> None:
    (block,) = served.call(mode, "demo__picture").content
    assert (block.type, block.mime_type, block.data) == ("image", "image/png", "AAAA")
