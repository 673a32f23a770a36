"""The client against a real socket, and against a house of its own."""

import json
import socket
import sys
import threading
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from gateway.client import Client, socket_of
from gateway.errors import DeniedError, HomeInUseError, OutcomeUnknownError, UnavailableError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]


async def echo(
    scope: Scope, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """Answer what was asked; `/denied` denies, `/lines` sends lines in odd pieces."""
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    answer = {
        "method": scope["method"],
        "path": scope["path"],
        "query": scope["query_string"].decode(),
        "body": json.loads(body) if body else None,
        "on_behalf": headers.get("hearthgate-on-behalf"),
        "client": list(scope["client"] or ()),
    }
    status, kind, pieces = 200, b"application/json", [json.dumps(answer).encode()]
    if scope["path"] == "/denied":
        problem = {"type": "urn:hearthgate:problem:denied", "detail": "no rule allows it", "decision_id": "019a"}
        status, kind, pieces = 403, b"application/problem+json", [json.dumps(problem).encode()]
    elif scope["path"] == "/lines":
        kind, pieces = b"application/jsonl", [b'{"a":', b'1}\n{"b":2}\n{"c"', b":3}"]
    elif scope["path"] == "/empty":
        status, pieces = 204, []
    told = [(b"content-type", kind), (b"retry-after", b"7")]
    await send({"type": "http.response.start", "status": status, "headers": told})
    for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def bound_to(path: Path) -> socket.socket:
    """Give a unix socket bound to `path`, however long that is."""
    bound = socket.socket(socket.AF_UNIX)
    path.parent.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as here:
        here.chdir(path.parent)  # a socket address holds 107 bytes
        bound.bind(path.name)
    return bound


def serve_on(path: Path) -> Callable[[], None]:
    """Serve `echo` on a unix socket; give what stops it."""
    listener = bound_to(path)
    listener.listen()
    server = uvicorn.Server(uvicorn.Config(echo, log_level="critical", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()

    def stop() -> None:
        server.should_exit = True
        thread.join()
        listener.close()

    return stop


@pytest.fixture(params=["short", "long"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / ("h" if request.param == "short" else "h" * 120)
    stop = serve_on(socket_of(home))
    yield home
    stop()


class Houses:
    """Stands in for the composition root: opens `echo` as a house, and counts."""

    def __init__(self) -> None:
        self.opened = self.closed = self.in_use = 0

    @asynccontextmanager
    async def open_house(self, _home: Path) -> AsyncIterator[types.SimpleNamespace]:
        if self.in_use:
            self.in_use -= 1
            raise HomeInUseError("another process has this home open")
        self.opened += 1
        yield types.SimpleNamespace(asgi=echo)
        self.closed += 1


@pytest.fixture
def houses(monkeypatch: pytest.MonkeyPatch) -> Houses:
    houses = Houses()
    app = types.ModuleType("gateway.app")
    app.open_house = houses.open_house  # type: ignore[attr-defined] # that is what a stand-in is
    monkeypatch.setitem(sys.modules, "gateway.app", app)
    return houses


def test_a_serving_gateway_is_asked_over_its_socket(served: Path, houses: Houses) -> None:
    with Client(served) as client:
        body = {"reason": "why not"}
        reply = client.request("POST", "/v1/x", json=body, params={"q": "a b", "none": None}, on_behalf="alice")
    assert reply.status == 200
    assert reply.body | {"client": []} == {
        "method": "POST", "path": "/v1/x", "query": "q=a+b", "body": {"reason": "why not"},
        "on_behalf": "alice", "client": [],
    }  # fmt: skip
    assert houses.opened == 0


def test_a_home_that_nobody_serves_is_opened_and_closed_again(tmp_path: Path, houses: Houses) -> None:
    with Client(tmp_path) as client:
        assert client.request("GET", "/v1/plugins").body["client"][0].startswith("unix-uid:")
        assert (houses.opened, houses.closed) == (1, 0)
    assert (houses.opened, houses.closed) == (1, 1)


def test_a_socket_that_nobody_listens_on_is_no_gateway(tmp_path: Path, houses: Houses) -> None:
    bound_to(socket_of(tmp_path)).close()
    with Client(tmp_path):
        assert houses.opened == 1


def test_a_home_that_is_being_left_is_waited_for(tmp_path: Path, houses: Houses) -> None:
    houses.in_use = 3
    with Client(tmp_path):
        assert houses.opened == 1


def test_a_home_that_stays_in_use_is_an_error(tmp_path: Path, houses: Houses, monkeypatch: pytest.MonkeyPatch) -> None:
    houses.in_use = 1_000_000
    monkeypatch.setattr("gateway.client.client._IN_USE_WAIT_S", 0.1)
    with pytest.raises(HomeInUseError):
        Client(tmp_path)
    assert not [thread for thread in threading.enumerate() if thread.name == "hearthgate-client"]


def test_a_problem_becomes_the_error_it_tells_of(served: Path) -> None:
    with Client(served) as client, pytest.raises(DeniedError, match="no rule allows it") as caught:
        client.request("GET", "/denied")
    assert caught.value.decision_id == "019a"
    assert caught.value.retry_after_s == 7


def test_an_answer_without_a_body_is_none_or_empty(served: Path) -> None:
    with Client(served) as client:
        assert not client.request("DELETE", "/empty").body


@pytest.mark.parametrize("way", ["socket", "own house"])
def test_lines_arrive_whole(way: str, tmp_path: Path, houses: Houses) -> None:
    stop = serve_on(socket_of(tmp_path)) if way == "socket" else None
    with Client(tmp_path) as client:
        assert list(client.stream_lines("/lines")) == [b'{"a":1}\n', b'{"b":2}\n', b'{"c":3}']
        with pytest.raises(DeniedError):
            list(client.stream_lines("/denied"))
    assert houses.opened == (way == "own house")
    if stop is not None:
        stop()


def test_a_gateway_that_goes_away_is_told_apart_from_an_outcome_that_nobody_knows(tmp_path: Path) -> None:
    listener = bound_to(socket_of(tmp_path))
    listener.listen()

    def hang_up() -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer:
                peer.recv(10)

    thread = threading.Thread(target=hang_up)
    thread.start()
    try:
        with Client(tmp_path) as client:
            with pytest.raises(UnavailableError):
                client.request("GET", "/v1/plugins")
            with pytest.raises(OutcomeUnknownError) as caught:
                client.request("POST", "/v1/plugins/notes/execute", json={})
            assert caught.value.exit_status == 5
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
