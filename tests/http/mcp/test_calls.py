"""A call tells how far it is, ends when its client gives it up, and clients hear when their tools change."""

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from tests.app.served import WAIT_S, until
from tests.http.mcp.conftest import MODES, TOOLS, Served

if TYPE_CHECKING:
    pass


@pytest.mark.parametrize("mode", MODES)
def test_a_client_hears_how_far_the_call_is_in_growing_numbers(served: Served, mode: str) -> None:
    heard: list[tuple[float, float | None, str | None]] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, total, message))

    async def run() -> Any:  # noqa: ANN401 (the client's own)
        async with served.client(served.key("alice"), mode) as client:
            return await client.call_tool("demo__tell", {"of": "it"}, progress_callback=hear)

    result = asyncio.run(asyncio.wait_for(run(), WAIT_S))
    assert result.structured_content == {"of": "it"}
    assert heard == [(0.0, 1.0, "first"), (0.5, 1.0, None), (1.0, 1.0, "last")]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("what", ["text", "object", "nan", "null", "list", "blocks", "fake", "link", "deep"])
def test_whatever_a_plugin_returns_is_told_as_text_and_names_its_decision(served: Served, mode: str, what: str) -> None:
    heard: list[str | None] = []

    async def hear(_progress: float, _total: float | None, message: str | None) -> None:
        heard.append(message)

    async def run() -> Any:  # noqa: ANN401 (the client's own)
        async with served.client(served.key("alice"), mode) as client:
            odd = await client.call_tool("demo__say", {"what": what}, progress_callback=hear)
            assert (await client.call_tool("demo__add", {"a": 1, "b": 2})).content[0].text == "3"
            return odd

    result = asyncio.run(asyncio.wait_for(run(), WAIT_S))
    assert result.content[0].type == "text"
    assert result.meta["hearthgate/decision_id"] != "x"
    assert served.gateway.ask("GET", f"/v1/decisions/{result.meta['hearthgate/decision_id']}").status_code == 200
    assert heard == ["a bell: \\x07"]


@pytest.mark.parametrize("mode", MODES)
def test_a_call_that_is_given_up_ends_with_its_cell_and_a_record(served: Served, mode: str) -> None:
    def ended() -> list[dict[str, Any]]:
        return [row for row in served.gateway.rows(plugin="demo") if row["resolution"] == "killed"]

    def running() -> int:
        return int(served.gateway.ask("GET", "/v1/plugins/demo").json()["running"])

    before = len(ended())

    async def run() -> None:
        async with served.client(served.key("alice"), mode) as client:
            call = asyncio.create_task(client.call_tool("demo__wait", {"for_s": 60}))
            await asyncio.to_thread(until, running)
            call.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await call
            await asyncio.to_thread(until, lambda: not running())

    asyncio.run(asyncio.wait_for(run(), WAIT_S))
    until(lambda: len(ended()) == before + 1)
    last = ended()[-1]
    assert (last["event_type"], last["details"]["outcome"]) == ("execution_failed", "killed")
    assert last["details"]["error"] == "its caller gave it up"


@pytest.mark.parametrize("mode", MODES)
def test_clients_hear_that_their_tools_changed(served: Served, mode: str) -> None:
    heard = asyncio.Event()

    async def run() -> None:
        async def on_message(message: object) -> None:
            if "ToolListChanged" in type(getattr(message, "root", message)).__name__:
                heard.set()

        async with served.client(served.key("alice"), mode, message_handler=on_message) as client:
            if mode == "legacy":
                await listening(client, heard)
            else:
                async with client.listen(tools_list_changed=True) as events:
                    await asyncio.to_thread(act, "suspend")
                    await anext(aiter(events))
            assert (await client.list_tools()).tools == []
            await asyncio.to_thread(act, "resume")
            assert [each.name for each in (await client.list_tools()).tools] == TOOLS

    async def listening(client: Any, heard: asyncio.Event) -> None:  # noqa: ANN401 (the client's own)
        # The stream on which it hears opens by itself, a moment after the session; until then nothing comes.
        while not heard.is_set():
            await asyncio.to_thread(act, "suspend")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(heard.wait(), 0.5)
            if not heard.is_set():
                await asyncio.to_thread(act, "resume")
        assert client is not None

    def act(verb: str) -> None:
        assert served.gateway.ask("POST", f"/v1/plugins/demo/{verb}", {"reason": "test"}).status_code == 200

    asyncio.run(asyncio.wait_for(run(), WAIT_S))
