"""On a connection, too, the short way answers as the framework's does: in whatever pieces a request comes."""

import asyncio
import json
import logging
import random
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from gateway.http.peer import PeerProtocol
from gateway.http.straight import StraightWay
from gateway.http.straight_protocol import StraightProtocol
from tests.http.test_straight import ASKED, BODIES, EVALUATIONS, GOOD, VARYING

if TYPE_CHECKING:
    from tests.conftest import Home

WAIT_S = 20.0
KNOWN = "authorization: Bearer {key}\r\n"  # which `with_key` fills in
JSON = "content-type: application/json\r\n"


def ask(body: str = GOOD, head: str = KNOWN + JSON, line: str = "POST /v1/decisions HTTP/1.1") -> str:
    return f"{line}\r\nHost: localhost\r\n{head}Content-Length: {len(body.encode())}\r\n\r\n{body}"


EVALUATE = "POST /access/v1/evaluation HTTP/1.1"
HEALTH = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
WISH = "Connection: Upgrade\r\nUpgrade: h2c\r\n"
CHUNKED = f"transfer-encoding: chunked\r\n\r\n{len(GOOD):x}\r\n{GOOD}\r\n0\r\n\r\n"
STREAMS = {
    "one": (ask(), 1),
    "ten, one behind the other": (ask() * 10, 10),
    "others between": (ask() + HEALTH + ask("{}") + ask() + HEALTH + HEALTH + ask(), 7),
    "a refusal between": (ask(GOOD.replace("role:owner", "user:bob")) + ask() + ask("["), 3),
    "in chunks": (f"POST /v1/decisions HTTP/1.1\r\nHost: localhost\r\n{KNOWN}{JSON}{CHUNKED}" + ask(), 2),
    "closed behind it": (ask(head=KNOWN + JSON + "Connection: close\r\n") + ask(), 1),
    "old": (ask(line="POST /v1/decisions HTTP/1.0"), 1),
    "old, kept": (ask(head=KNOWN + JSON + "Connection: keep-alive\r\n", line="POST /v1/decisions HTTP/1.0"), 1),
    "waits to be let": (ask(head=KNOWN + JSON + "Expect: 100-continue\r\n"), 2),
    "wants another protocol": (ask(head=KNOWN + JSON + WISH) + HEALTH + ask(head=KNOWN + JSON + WISH), 3),
    "wants to go through": (ask(line="CONNECT localhost:80 HTTP/1.1") + ask(), 1),
    "in AuthZEN's words": (ask(ASKED, line=EVALUATE) + ask() + ask(ASKED, line=EVALUATE), 3),
    "in AuthZEN's words, with an id": (ask(ASKED, KNOWN + JSON + "X-Request-ID: 7\r\n", EVALUATE) + ask(), 2),
    "a query": (ask(line="POST /v1/decisions?reason=x HTTP/1.1"), 1),
    "a whole address": (ask(line="POST http://localhost/v1/decisions HTTP/1.1"), 1),
    "spelt otherwise": (ask(line="POST /v1/%64ecisions HTTP/1.1"), 1),
    "another method": (ask(line="PUT /v1/decisions HTTP/1.1"), 1),
    "a stranger": (ask(head=JSON), 1),
    "a wrong key": (ask(head="authorization: Bearer hg_00000000_x\r\n" + JSON) + ask(), 2),
    "a host of another": (ask().replace("Host: localhost", "Host: evil.example") + ask(), 2),
    "an origin of another": (ask(head=KNOWN + JSON + "Origin: http://evil.example\r\n"), 1),
    "a form": (ask(head=KNOWN + "content-type: text/plain\r\n"), 1),
    "two hosts": (ask(head="Host: evil.example\r\n" + KNOWN + JSON), 1),
    "too long": (ask(GOOD[:-1] + ',"args":{"a":"' + "x" * 66_000 + '"}}'), 1),
    "nearly too long": (ask(GOOD[:-1] + ',"args":{"a":"' + "x" * 65_000 + '"}}') + ask(), 2),
    "two lengths": (ask(head=KNOWN + JSON + "Content-Length: 3\r\n"), 1),
    "no HTTP": ("nonsense\r\n\r\n", 1),
    "a body too many": (ask() + "nonsense\r\n\r\n", 1),
    "half a body": (ask() + ask()[:-3], 1),
    "half a head": (ask() + ask()[:30], 1),
    "a trace": (ask(head=KNOWN + JSON + f"traceparent: 00-{'a' * 32}-{'b' * 16}-01\r\n"), 1),
}


class Wire(asyncio.Transport):
    """The transport of a connection that tests are at the other end of."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.sent, self.closed, self.paused = bytearray(), False, False

    def write(self, data: Any) -> None:  # noqa: ANN401 (bytes of any kind)
        if not self.closed:
            self.sent += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


def connect(kind: type[PeerProtocol], app: Any) -> tuple[PeerProtocol, Wire, ServerState]:  # noqa: ANN401 (any application)
    config = uvicorn.Config(
        app, ws="none", lifespan="off", interface="asgi3", access_log=False, log_config=None, proxy_headers=False
    )
    state = ServerState()
    state.default_headers = [(b"date", b"Mon, 23 Nov 2026 00:00:00 GMT")]
    made = kind(config, state, {}, asyncio.get_running_loop())
    wire = Wire()
    made.connection_made(wire)
    return made, wire, state


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not holds():  # noqa: ASYNC110 (nobody tells of it)
            await asyncio.sleep(0.001)


def answers(sent: bytes) -> list[tuple[str, dict[str, str], Any]]:
    """Take apart what was sent; what differs from one decision to the next is left out."""
    found = []
    while sent:
        head, _, sent = sent.partition(b"\r\n\r\n")
        line, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in lines)}
        if "x-decision-id" in headers:
            headers["x-decision-id"] = "new in each"
        length = int(headers.pop("content-length", "0"))
        body, sent = sent[:length], sent[length:]
        text = re.sub(rf'"({"|".join(VARYING)})":"[^"]*"', r'"\1":"new in each"', body.decode())
        found.append((line, headers, json.loads(text) if text.startswith("{") else text))
    return found


async def talk(kind: type[PeerProtocol], app: Any, pieces: Sequence[bytes], count: int) -> tuple[bytes, bool]:  # noqa: ANN401 (any application)
    """Send pieces and give what comes back, `count` answers at least, and whether the connection was closed."""
    protocol, wire, _ = connect(kind, app)
    for piece in pieces:
        if not wire.closed:
            protocol.data_received(piece)
        await asyncio.sleep(0)
    await until(lambda: wire.sent.count(b"HTTP/1.1 ") >= count or wire.closed)
    for _ in range(20):
        await asyncio.sleep(0)
    found = bytes(wire.sent), wire.closed
    wire.closed = True
    protocol.connection_lost(None)
    return found


def cut(data: bytes, seed: int) -> list[bytes]:
    """Cut bytes at random places; the first seeds give them whole and one by one."""
    if seed == 0:
        return [data]
    if seed == 1 and len(data) < 5_000:
        return [data[at : at + 1] for at in range(len(data))]
    chance = random.Random(seed)  # noqa: S311 (a seed gives the same each time)
    places = sorted(chance.sample(range(len(data)), min(seed, len(data))))
    return [data[begin:end] for begin, end in zip([0, *places], [*places, len(data)], strict=True)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", STREAMS)
def test_every_stream_is_answered_alike(quiet_home: "Home", name: str, seed: int) -> None:
    text, count = STREAMS[name]
    carol = quiet_home.person("carol", "evaluate")
    pieces = cut(with_key(text, carol._headers["authorization"]), seed)
    straight = quiet_home.house.asgi
    assert isinstance(straight, StraightWay)
    short, closed = quiet_home.do(talk(StraightProtocol, straight, pieces, count))
    whole, closed_too = quiet_home.do(talk(PeerProtocol, straight.application, pieces, count))
    assert answers(short) == answers(whole)
    assert closed == closed_too
    assert len(answers(short)) == count


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", [StraightProtocol, PeerProtocol])
@pytest.mark.parametrize("wish", ["h2c", "websocket", "TLS/1.0, h2c"])
def test_a_wish_for_another_protocol_changes_no_answer(
    quiet_home: "Home", wish: str, kind: type[PeerProtocol], seed: int
) -> None:
    carol = quiet_home.person("carol", "evaluate")
    smuggled = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"

    def told(more: str) -> list[tuple[str, dict[str, str], Any]]:
        chunked = f"POST /v1/decisions HTTP/1.1\r\nHost: localhost\r\n{more}{KNOWN}{JSON}{CHUNKED}"
        text = ask(head=KNOWN + JSON + more) + chunked + ask(smuggled, head=more + KNOWN + JSON) + ask()
        pieces = cut(with_key(text, carol._headers["authorization"]), seed)
        sent, closed = quiet_home.do(talk(kind, quiet_home.house.asgi, pieces, 4))
        assert not closed
        return answers(sent)

    plain = told("")
    assert told(f"Connection: Upgrade\r\nUpgrade: {wish}\r\n") == plain
    assert [line.split()[1] for line, _, _ in plain] == ["200", "200", "400", "200"]


def with_key(text: str, authorization: str) -> bytes:
    return text.replace("Bearer {key}", authorization).encode()


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body[-60:])
def test_every_body_is_answered_alike(quiet_home: "Home", body: str) -> None:
    carol = quiet_home.person("carol", "evaluate")
    stream = with_key(ask(body) + ask(), carol._headers["authorization"])
    straight = quiet_home.house.asgi
    assert isinstance(straight, StraightWay)
    short, _ = quiet_home.do(talk(StraightProtocol, straight, [stream], 2))
    whole, _ = quiet_home.do(talk(PeerProtocol, straight.application, [stream], 2))
    assert answers(short) == answers(whole)


@pytest.mark.parametrize("body", EVALUATIONS, ids=lambda body: body[-60:])
def test_every_evaluation_is_answered_alike(quiet_home: "Home", body: str) -> None:
    carol = quiet_home.person("carol", "evaluate")
    stream = with_key(ask(body, line=EVALUATE) + ask(), carol._headers["authorization"])
    straight = quiet_home.house.asgi
    assert isinstance(straight, StraightWay)
    short, _ = quiet_home.do(talk(StraightProtocol, straight, [stream], 2))
    whole, _ = quiet_home.do(talk(PeerProtocol, straight.application, [stream], 2))
    assert answers(short) == answers(whole)


def test_a_plain_question_needs_no_application(quiet_home: "Home", monkeypatch: pytest.MonkeyPatch) -> None:
    carol = quiet_home.person("carol", "evaluate")
    straight = quiet_home.house.asgi
    assert isinstance(straight, StraightWay)

    async def never(_self: object, _scope: object, _receive: object, _send: object) -> None:
        raise AssertionError

    monkeypatch.setattr(StraightWay, "__call__", never)
    stream = with_key(ask(), carol._headers["authorization"])
    evaluation = with_key(ask(ASKED, line=EVALUATE), carol._headers["authorization"])
    sent, _ = quiet_home.do(talk(StraightProtocol, straight, [evaluation], 1))
    assert sent.startswith(b"HTTP/1.1 200 OK\r\n")
    for seed in range(3):
        sent, _ = quiet_home.do(talk(StraightProtocol, straight, cut(stream, seed), 1))
        assert sent.startswith(b"HTTP/1.1 200 OK\r\n")


def test_who_leaves_is_sent_nothing_and_what_was_asked_is_recorded(home: "Home") -> None:
    carol = home.person("carol", "evaluate")
    stream = with_key(ask(GOOD.replace(',"dry_run":true', "")), carol._headers["authorization"])

    async def leave() -> bytes:
        protocol, wire, state = connect(StraightProtocol, home.house.asgi)
        protocol.data_received(stream)
        wire.closed = True
        protocol.connection_lost(None)
        await until(lambda: not state.tasks)
        return bytes(wire.sent)

    assert home.do(leave()) == b""
    assert len(home.decided(subject="role:owner", kind="gateway", scope="policy")) == 1


def test_a_gateway_that_stops_answers_what_it_was_asked_and_closes(quiet_home: "Home") -> None:
    carol = quiet_home.person("carol", "evaluate")
    stream = with_key(ask(), carol._headers["authorization"])

    async def stop(sent_before: int) -> tuple[bytes, bool]:
        protocol, wire, _ = connect(StraightProtocol, quiet_home.house.asgi)
        protocol.data_received(stream[:sent_before])
        protocol.shutdown()
        protocol.data_received(stream[sent_before:])
        await until(lambda: wire.closed)
        return bytes(wire.sent), wire.closed

    for sent_before in (len(stream), len(stream) - 3):
        sent, closed = quiet_home.do(stop(sent_before))
        assert sent.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nconnection: close\r\n" in sent
        assert closed


def test_who_does_not_read_is_sent_no_more(quiet_home: "Home") -> None:
    carol = quiet_home.person("carol", "evaluate")
    stream = with_key(ask(), carol._headers["authorization"])

    async def jam() -> tuple[int, int]:
        protocol, wire, state = connect(StraightProtocol, quiet_home.house.asgi)
        protocol.pause_writing()
        protocol.data_received(stream * 3)
        assert wire.paused
        for _ in range(50):
            await asyncio.sleep(0.001)
        before = len(wire.sent)
        protocol.resume_writing()
        await until(lambda: wire.sent.count(b"HTTP/1.1 200") == 3 and not state.tasks)
        return before, wire.sent.count(b"HTTP/1.1 200")

    assert quiet_home.do(jam()) == (0, 3)


def test_a_straight_answer_is_told_when_debugging(quiet_home: "Home", caplog: pytest.LogCaptureFixture) -> None:
    carol = quiet_home.person("carol", "evaluate")
    stream = with_key(ask() + ask(GOOD.replace("role:owner", "user:bob")), carol._headers["authorization"])
    with caplog.at_level(logging.DEBUG, logger="hearthgate.http"):
        quiet_home.do(talk(StraightProtocol, quiet_home.house.asgi, [stream], 2))
    told = [record.getMessage() for record in caplog.records]
    assert any(re.fullmatch(r"POST /v1/decisions: 200 in \d+\.\d ms", each) for each in told)
