"""The door `/mcp` is the same door: whoever is unknown, foreign, ambiguous or too large stays outside."""

import asyncio
import importlib.util
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.app.served import WAIT_S, until
from tests.http.mcp.conftest import Served, serve_demo

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Home

INITIALIZE: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}


def call(name: str, **arguments: object) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": name, "arguments": arguments}}


def begin(served: Served, key: str) -> str:
    """Open a session of the older revisions and give its id."""
    answer = served.post(INITIALIZE, key)
    assert answer.status_code == 200, answer.text
    session: str = answer.headers["mcp-session-id"]
    ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    assert served.post(ready, key, mcp_session_id=session).status_code == 202
    return session


@pytest.mark.parametrize("key", [None, "nonsense", "hg_00000000_" + "A" * 43])
@pytest.mark.parametrize("version", ["2026-07-28", "2025-11-25"])
def test_nobody_unknown_is_answered(served: Served, key: str | None, version: str) -> None:
    answer = served.post(INITIALIZE, key, mcp_protocol_version=version)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.json()["type"] == "urn:hearthgate:problem:unauthenticated"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 421),
        ({"origin": "http://evil.example"}, 403),
        ({"content-type": "text/plain"}, 415),
    ],
)
def test_what_a_web_page_could_send_is_refused(served: Served, headers: dict[str, str], status: int) -> None:
    assert served.post(INITIALIZE, served.key("alice"), **headers).status_code == status


@pytest.mark.parametrize(
    "body",
    [
        b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/list"}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"demo__add","arguments":{"a":1,"a":2,"b":1}}}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":NaN}}',
        b'{"jsonrpc":',
        b"",
        b"[" * 100_000,
        b'"\\ud800"',
    ],
)
@pytest.mark.parametrize("version", ["2026-07-28", "2025-11-25"])
def test_a_body_that_two_readers_could_read_differently_is_refused(served: Served, body: bytes, version: str) -> None:
    answer = served.post(body, served.key("alice"), mcp_protocol_version=version)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32700)


def test_a_body_is_bounded(served: Served) -> None:
    answer = served.post(call("demo__tell", of="x" * (1 << 20)), served.key("alice"))
    assert answer.status_code == 413


def test_a_session_answers_only_the_key_that_opened_it(served: Served) -> None:
    session = begin(served, served.key("alice"))
    body = {"jsonrpc": "2.0", "id": 3, "method": "tools/list"}
    assert served.post(body, served.key("alice"), mcp_session_id=session).status_code == 200
    for key in (served.key("bob"), served.gateway.key("alice", "execute")):
        assert served.post(body, key, mcp_session_id=session).status_code == 404
    for method in ("GET", "DELETE"):
        headers = {"authorization": f"Bearer {served.key('bob')}", "accept": "text/event-stream"}
        answer = httpx.request(method, served.url, headers={**headers, "mcp-session-id": session}, timeout=WAIT_S)
        assert answer.status_code == 404


def test_a_revoked_key_ends_its_session_with_it(served: Served) -> None:
    made = served.gateway.ask("POST", "/v1/keys", {"user": "alice", "scopes": ["execute"]}).json()
    session = begin(served, made["key"])
    assert served.gateway.ask("DELETE", f"/v1/keys/{made['id']}").status_code == 200
    assert served.post(call("demo__add", a=1, b=2), made["key"], mcp_session_id=session).status_code == 401


@pytest.mark.parametrize("era", ["2026-07-28", "2025-11-25"])
def test_a_revoked_key_hears_nothing_more(served: Served, era: str) -> None:
    made = served.gateway.ask("POST", "/v1/keys", {"user": "alice", "scopes": ["execute"]}).json()
    with listening(served, made["key"], era) as stream:
        assert stream.status_code == 200
        assert served.gateway.ask("DELETE", f"/v1/keys/{made['id']}").status_code == 200
        assert "list_changed" not in stream.read().decode()


def test_one_key_cannot_take_all_sessions(served: Served) -> None:
    key = served.gateway.key("alice", "execute")
    for _ in range(32):
        begin(served, key)
    refused = served.post(INITIALIZE, key)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
    begin(served, served.key("bob"))


def test_one_key_cannot_take_all_sessions_at_once(served: Served) -> None:
    key = served.gateway.key("alice", "execute")
    headers = {"authorization": f"Bearer {key}", "accept": "application/json, text/event-stream"}

    async def flood() -> list[int]:
        async with httpx.AsyncClient(headers=headers, timeout=WAIT_S) as client:
            answers = await asyncio.gather(*(client.post(served.url, json=INITIALIZE) for _ in range(100)))
        return [each.status_code for each in answers]

    found = Counter(asyncio.run(flood()))
    assert set(found) == {200, 429}
    assert found[200] <= 32
    while (refused := served.post(INITIALIZE, key)).status_code == 200:
        found[200] += 1
    assert (refused.status_code, found[200]) == (429, 32)
    begin(served, served.key("bob"))


def test_only_its_own_path_is_answered(served: Served) -> None:
    headers = {"authorization": f"Bearer {served.key('alice')}"}
    assert httpx.post(f"{served.url}/x", json=INITIALIZE, headers=headers, timeout=WAIT_S).status_code == 404


def test_the_library_is_not_loaded_before_somebody_asks() -> None:
    late = {"mcp", "mcp_types", "starlette"}
    code = f"import sys, gateway.app, gateway.cli.main; print({late} & set(sys.modules))"
    left = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert left.stdout == "set()\n"


def test_without_the_extra_the_answer_says_how_to_install_it(home: "Home", monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "mcp" else found(name))
    answer = home.owner.post("/mcp", INITIALIZE)
    assert answer.status_code == 503
    assert answer.json()["way_out"] == "pip install 'hearthgate[mcp]'"
    assert home.stranger.post("/mcp", INITIALIZE).status_code == 401


LISTEN = {
    "jsonrpc": "2.0",
    "id": 7,
    "method": "subscriptions/listen",
    "params": {
        "notifications": {"toolsListChanged": True},
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        },
    },
}


def listening(served: Served, key: str, era: str) -> AbstractContextManager[httpx.Response]:
    """Open the stream on which a client of a revision hears of changes."""
    headers = {"authorization": f"Bearer {key}", "accept": "application/json, text/event-stream"}
    if era == "2025-11-25":
        headers |= {"mcp-session-id": begin(served, key)}
        return httpx.stream("GET", served.url, headers=headers, timeout=WAIT_S)
    headers |= {"mcp-protocol-version": era, "mcp-method": "subscriptions/listen"}
    return httpx.stream("POST", served.url, headers=headers, json=LISTEN, timeout=WAIT_S)


@pytest.mark.parametrize("era", ["2026-07-28", "2025-11-25"])
def test_the_gateway_ends_in_time_while_clients_listen(tmp_path: "Path", era: str) -> None:
    served = Served(serve_demo(tmp_path / "home"))
    try:
        with listening(served, served.key("alice"), era) as stream:
            assert stream.status_code == 200
            began = time.monotonic()
            served.gateway.process.terminate()
            b"".join(stream.iter_bytes())
        assert served.gateway.process.wait(WAIT_S) == 0
        assert time.monotonic() - began < 8, "it waited for a stream that goes on for ever"
    finally:
        served.gateway.end()
    assert "stopped" in served.gateway.said
    assert "ERROR" not in served.gateway.said, served.gateway.said


@pytest.mark.parametrize("era", ["2026-07-28", "2025-11-25"])
def test_a_call_under_way_comes_to_its_end_when_the_gateway_ends(tmp_path: "Path", era: str) -> None:
    served = Served(serve_demo(tmp_path / "home"))
    key, body = served.key("alice"), call("demo__wait", for_s=1.0)
    headers = {"mcp-protocol-version": era}
    if era == "2025-11-25":
        headers |= {"mcp-session-id": begin(served, key)}
    else:
        headers |= {"mcp-method": "tools/call", "mcp-name": "demo__wait"}
        body["params"]["_meta"] = LISTEN["params"]["_meta"]
    try:
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(served.post, body, key, **headers)
            until(lambda: served.gateway.ask("GET", "/v1/plugins/demo").json()["running"])
            served.gateway.process.terminate()
            told = answer.result(WAIT_S)
        assert served.gateway.process.wait(WAIT_S) == 0
    finally:
        served.gateway.end()
    assert (told.status_code, '"isError":false' in told.text) == (200, True), told.text
    assert "ERROR" not in served.gateway.said, served.gateway.said


def test_a_session_that_its_client_ends_takes_its_calls_with_it(served: Served) -> None:
    def running() -> int:
        return int(served.gateway.ask("GET", "/v1/plugins/demo").json()["running"])

    key = served.gateway.key("alice", "execute")
    session = begin(served, key)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(served.post, call("demo__wait", for_s=60), key, mcp_session_id=session)
        until(running)
        headers = {"authorization": f"Bearer {key}", "mcp-session-id": session}
        assert httpx.delete(served.url, headers=headers, timeout=WAIT_S).status_code == 200
        until(lambda: not running())
        answer.result(WAIT_S)
    again = served.post({"jsonrpc": "2.0", "id": 3, "method": "tools/list"}, key, mcp_session_id=session)
    assert again.status_code == 404
