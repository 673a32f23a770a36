"""A served gateway with one plugin, asked by the protocol's own Python client."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, ElicitResult

from tests.app.served import WAIT_S, Gateway
from tests.conftest import new_home

CODE = """\
import time


def add(ctx, a, b):
    return a + b


def tell(ctx, of):
    ctx.progress(0.0, "first")
    ctx.progress(0.5)
    ctx.progress(0.25, "back")
    ctx.progress(7, "beyond")
    ctx.progress(1.0, "last")
    return {"of": of}


def wait(ctx, for_s):
    ctx.vault.write("notes/begun", True)
    time.sleep(for_s)
    ctx.vault.write("notes/ended", True)


def fail(ctx):
    raise ValueError("as it should")


def picture(ctx):
    return {"content": [{"type": "image", "data": "AAAA", "mimeType": "image/png"}]}


def say(ctx, what):
    ctx.progress(0.5, "a bell: \\a")
    odd = {"text": "\\ud800", "object": {"a": "\\ud800"}, "nan": {"a": float("nan")}, "null": None, "list": [1, "a"]}
    odd["blocks"] = {"content": [{"type": "text", "text": "\\ud800"}]}
    fake = {"type": "text", "text": "x", "_meta": {"hearthgate/decision_id": "x"}}
    odd["fake"] = {"content": [fake], "_meta": {"hearthgate/decision_id": "x"}}
    odd["link"] = {"content": [{"type": "resource_link", "uri": "file:///etc/passwd", "name": "x"}]}
    odd["deep"] = []
    for _ in range(200):
        odd["deep"] = [odd["deep"]]
    return odd[what]


def diary(ctx):
    return len(ctx.vault.list("user_data/diary"))


def plead(ctx, scope):
    return len(ctx.vault.list(scope))


def look(ctx):
    return len(ctx.vault.list("user_data/diary"))
"""
NEEDS = [{"permission": "vault_read", "scope": "user_data/diary"}]
# To a person it is "What.", to a model that reads each character more.
ODD = {"type": "string", "title": "a\u200bb", "description": "What.\U000e0052\U000e0065\U000e0061\U000e0064"}
MANIFEST = {
    "name": "Demo",
    "requested_permissions": [
        {"permission": "vault_write", "scope": "notes"},
        {
            "permission": "vault_read",
            "scope": "user_data",
            "conditions": {"user_consent": True},
            "purpose": "to sum up your week",
        },
    ],
    "capabilities": [
        {"name": "add", "description": "Adds.", "parameters": {"a": "number", "b": "number"}, "return_type": "number"},
        {"name": "tell", "description": "Tells how far it is.", "parameters": {"of": "string"}},
        {"name": "wait", "description": "Takes its time.", "parameters": {"for_s": "number"}},
        {"name": "fail", "description": "Fails."},
        {"name": "picture", "description": "Shows."},
        {"name": "say", "description": "Says odd things.", "parameters": {"what": ODD}, "return_type": "any"},
        {"name": "diary", "description": "Counts.", "requires": NEEDS},
        {"name": "plead", "description": "Counts.", "parameters": {"scope": "string"}, "idempotent": True},
        {"name": "look", "description": "Counts.", "idempotent": True},
    ],
}
TOOLS = [f"demo__{each}" for each in ("add", "diary", "fail", "look", "picture", "plead", "say", "tell", "wait")]
MODES = ["auto", "legacy"]  # revision 2026-07-28, and the ones before it
Elicit = Callable[[Any, Any], Awaitable[ElicitResult]]


class Served:
    """A gateway that is asked through `/mcp`."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.url = f"http://127.0.0.1:{gateway.port}/mcp"
        self._keys: dict[tuple[str, ...], str] = {}

    def key(self, user: str, *scopes: str) -> str:
        """Give a key of these scopes, `execute` among them."""
        name = (user, *scopes)
        if name not in self._keys:
            self._keys[name] = self.gateway.key(user, "execute", *scopes)
        return self._keys[name]

    @asynccontextmanager
    async def client(self, key: str, mode: str, **given: Any) -> AsyncIterator[Client]:  # noqa: ANN401 (the client's own)
        """Give a client that holds a key."""
        headers = {"authorization": f"Bearer {key}"}
        async with (
            create_mcp_http_client(headers=headers) as http,
            Client(streamable_http_client(self.url, http_client=http), mode=mode, **given) as client,
        ):
            yield client

    def call(
        self, mode: str, name: str, key: str | None = None, elicit: Elicit | None = None, **arguments: object
    ) -> Any:  # noqa: ANN401
        """Call a tool and give its result, or the error that the client raised."""

        async def run() -> CallToolResult | MCPError:
            async with self.client(key or self.key("alice"), mode, elicitation_callback=elicit) as client:
                try:
                    return await client.call_tool(name, arguments)
                except MCPError as error:
                    return error

        found = asyncio.run(asyncio.wait_for(run(), WAIT_S))
        # Raised here, for in there it would be wrapped in a group.
        if isinstance(found, MCPError):
            raise found
        return found

    def tools(self, mode: str, key: str) -> list[Any]:
        """List the tools that a key's holder sees."""

        async def run() -> list[Any]:
            async with self.client(key, mode) as client:
                return list((await client.list_tools()).tools)

        return asyncio.run(asyncio.wait_for(run(), WAIT_S))

    def post(self, body: object, key: str | None = None, **headers: str) -> httpx.Response:
        """Send a raw body, as no well-behaved client would."""
        given = {
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            **({} if key is None else {"authorization": f"Bearer {key}"}),
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return httpx.post(self.url, content=content, headers=given, timeout=WAIT_S)


def serve_demo(folder: Path, settings: str = "") -> Gateway:
    """Serve a home that has the plugin of these tests, active."""
    home = new_home(folder, settings=settings)
    try:
        home.write_plugin("demo", CODE, **MANIFEST)
    finally:
        home.end()
    gateway = Gateway(folder)
    with gateway.owner() as owner:
        assert owner.post("/v1/plugins", json={"folder": "demo"}).status_code == 201
        assert owner.post("/v1/plugins/demo/approve", json={"reason": "test"}).status_code == 200
    return gateway


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Give a served gateway that the tests of a module share."""
    gateway = serve_demo(tmp_path_factory.mktemp("mcp") / "home")
    try:
        yield Served(gateway)
    finally:
        gateway.end()
