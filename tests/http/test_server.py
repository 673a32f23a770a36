"""What comes before anybody is known: connections are few, and a head has a size and a time to come."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.http import peer, server
from gateway.http.identity import peer_pid
from gateway.http.server import Listeners

CHUNKED = b"Transfer-Encoding: chunked"
WHOLE = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
ASK = """
import socket, sys
with socket.socket(socket.AF_UNIX) as one:
    one.connect(sys.argv[1])
    one.sendall(b"GET / HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
    while not one.recv(4096).endswith(b"ok"):
        pass
"""
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def application(_scope: Any, _receive: Any, send: Any) -> None:  # noqa: ANN401 (ASGI)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def listening(most: int | None = None, application: Any = application) -> AsyncIterator[Callable[[], Any]]:  # noqa: ANN401 (ASGI)
    """Serve, and give a function that connects."""
    listeners = Listeners(application, grace_s=1.0, most_connections=most)
    host, port = listeners.listen_tcp("127.0.0.1", 0)
    await listeners.start()
    opened: list[Connection] = []

    async def connect() -> Connection:
        opened.append(await asyncio.open_connection(host, port))
        return opened[-1]

    try:
        yield connect
    finally:
        for _, writer in opened:
            writer.close()
        await listeners.stop()


async def ended(connection: Connection) -> bool:
    """Wait until the other side has let go."""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(10):
            return await connection[0].read() == b""
    return True


async def answered(connection: Connection) -> bool:
    connection[1].write(WHOLE)
    async with asyncio.timeout(10):
        return (await connection[0].readuntil(b"ok")).startswith(b"HTTP/1.1 200")


def test_the_kernel_tells_which_process_of_which_user_asks_over_the_socket(tmp_path: Path) -> None:
    seen: list[Any] = []

    async def noting(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 (ASGI)
        seen.append((scope["client"], peer_pid(scope)))
        await application(scope, receive, send)

    async def ask() -> None:
        listeners = Listeners(noting, grace_s=1.0)
        listeners.listen_unix(tmp_path / "x.sock")
        host, port = listeners.listen_tcp("127.0.0.1", 0)
        await listeners.start()
        asker = await asyncio.create_subprocess_exec(sys.executable, "-I", "-c", ASK, tmp_path / "x.sock")
        async with asyncio.timeout(20):
            assert await asker.wait() == 0
        tcp = await asyncio.open_connection(host, port)
        assert await answered(tcp)
        tcp[1].close()
        await listeners.stop()
        assert seen[0] == ((f"unix-uid:{os.geteuid()}", asker.pid), asker.pid)
        assert seen[1][1] is None

    asyncio.run(ask())


@pytest.mark.parametrize("begun", [b"", b"G", b"\r\n", WHOLE[:-2]])
def test_who_never_ends_a_head_is_let_go(monkeypatch: pytest.MonkeyPatch, begun: bytes) -> None:
    monkeypatch.setattr(peer, "_HEAD_S", 0.1)
    monkeypatch.setattr(server, "_KEEP_ALIVE_S", 0.3)

    async def attack() -> None:
        async with listening() as connect:
            slow = await connect()
            slow[1].write(begun)
            assert await ended(slow)
            again = await connect()
            assert await answered(again)
            again[1].write(begun)
            assert await ended(again)

    asyncio.run(attack())


def test_a_head_without_an_end_is_not_kept() -> None:
    async def attack() -> None:
        async with listening() as connect:
            huge = await connect()
            huge[1].write(WHOLE[:-2] + b"X-Huge: ")
            with contextlib.suppress(ConnectionError):
                for _ in range(64):
                    huge[1].write(bytes(b"x" * (64 << 10)))
                    await huge[1].drain()
            assert await ended(huge)

    asyncio.run(attack())


ENDED = b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"


@pytest.mark.parametrize("field", [b"X-Huge: " + b"x" * 4096, b"X-One: x\r\n" * 400, b"x" * 4096])
def test_fields_behind_a_body_have_no_more_room_than_a_head(field: bytes) -> None:
    async def attack() -> None:
        async with listening() as connect:
            huge = await connect()
            huge[1].write(ENDED)
            with contextlib.suppress(ConnectionError):
                for _ in range(1024):
                    huge[1].write(field)
                    await huge[1].drain()
            assert await ended(huge)

    asyncio.run(attack())


def test_fields_behind_a_body_are_nobodys_word() -> None:
    seen: list[list[tuple[bytes, bytes]]] = []

    async def noting(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 (ASGI)
        await collecting(scope, receive, send)
        seen.append(scope["headers"])

    async def attack() -> None:
        async with listening(application=noting) as connect:
            sly = await connect()
            for _ in range(2):
                sly[1].write(ENDED + b"Authorization: Bearer x\r\nHearthgate-On-Behalf: alice\r\n\r\n")
                await sly[0].readuntil(b"ok")

    asyncio.run(attack())
    assert [[name for name, _ in each] for each in seen] == [[b"host", b"transfer-encoding"]] * 2


def test_a_long_body_in_small_pieces_is_taken() -> None:
    async def ask() -> None:
        async with listening(application=collecting) as connect:
            reader, writer = await connect()
            for _ in range(2):
                writer.write(ENDED[:-3])
                for _ in range(200):
                    writer.write(b"1\r\nx\r\n" * 100)
                    await writer.drain()
                writer.write(b"0\r\n\r\n")
                async with asyncio.timeout(10):
                    assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")

    asyncio.run(ask())


async def collecting(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 (ASGI)
    """Answer with the length of the body, once it is there."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, more = size + len(message["body"]), message["more_body"]
    await application(scope, receive, send)


POST = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"


@pytest.mark.parametrize(
    "begun", [POST, POST + b"12345678", POST.replace(b"Content-Length: 9", CHUNKED) + b"1\r\nx\r\n"]
)
def test_a_body_that_does_not_come_to_its_end_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, begun: bytes) -> None:
    monkeypatch.setattr(peer, "_HEAD_S", 0.1)
    monkeypatch.setattr(peer, "_BODY_S", 0.3)

    async def attack() -> None:
        async with listening(application=collecting) as connect:
            slow = await connect()
            slow[1].write(begun)
            async with asyncio.timeout(10):
                told = await slow[0].read()
            assert told.startswith(b"HTTP/1.1 408 ")
            assert json.loads(told.partition(b"\r\n\r\n")[2])["type"] == "urn:hearthgate:problem:too_slow"
            good = await connect()
            good[1].write(POST + b"123456789")
            async with asyncio.timeout(10):
                assert (await good[0].readuntil(b"ok")).startswith(b"HTTP/1.1 200")

    asyncio.run(attack())


def test_a_body_that_drips_has_no_more_time_than_one_that_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "_HEAD_S", 0.1)
    monkeypatch.setattr(peer, "_BODY_S", 0.3)

    async def attack() -> None:
        async with listening(application=collecting) as connect:
            slow = await connect()
            slow[1].write(POST.replace(b"9", b"99999"))
            told = asyncio.ensure_future(slow[0].read())
            async with asyncio.timeout(10):
                while not told.done():
                    slow[1].write(b"x")
                    await asyncio.wait([told], timeout=0.02)
            with contextlib.suppress(ConnectionError):  # what was written behind the answer may reset it
                assert told.result().startswith(b"HTTP/1.1 408 ")

    asyncio.run(attack())


def test_connections_are_bounded_and_come_free_again() -> None:
    async def waiting(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 (ASGI)
        await (await receive() and answer.wait())
        await application(scope, receive, send)

    async def attack() -> None:
        async with listening(3, waiting) as connect:
            held = [await connect() for _ in range(3)]
            for _, writer in held:
                writer.write(WHOLE)
            await asyncio.sleep(0.1)
            assert await ended(await connect())  # all of the others are being answered
            answer.set()
            async with asyncio.timeout(10):
                for reader, _ in held:
                    assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
            held[0][1].close()
            await held[0][1].wait_closed()
            assert await answered(await connect())

    answer = asyncio.Event()
    asyncio.run(attack())


def test_of_requests_sent_without_waiting_few_are_taken_apart_and_all_are_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count, heads, most = 20_000, 0, 0
    inherited = peer.PeerProtocol.on_headers_complete

    def counting(protocol: peer.PeerProtocol) -> None:
        nonlocal heads, most
        heads += 1
        most = max(most, len(protocol.pipeline))
        inherited(protocol)

    async def noting(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 (ASGI)
        begun.set()
        await go.wait()
        await application(scope, receive, send)

    async def attack() -> None:
        async with listening(application=noting) as connect:
            reader, writer = await connect()
            writer.write(b"GET / HTTP/1.1\r\n\r\n" * count)
            async with asyncio.timeout(60):
                await begun.wait()
                go.set()
                for _ in range(count):
                    assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")

    monkeypatch.setattr(peer.PeerProtocol, "on_headers_complete", counting)
    begun, go = asyncio.Event(), asyncio.Event()
    asyncio.run(attack())
    assert heads == count
    assert most < 100


def test_who_reads_nothing_makes_room_too() -> None:
    async def telling(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 (ASGI)
        if scope["path"] != "/much":
            await application(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        told.release()
        for _ in range(2):
            await send({"type": "http.response.body", "body": b"x" * (16 << 20), "more_body": True})

    async def attack() -> None:
        async with listening(3, telling) as connect:
            for _ in range(3):
                (await connect())[1].write(WHOLE.replace(b"/", b"/much", 1))
                async with asyncio.timeout(10):
                    await told.acquire()
            for _ in range(6):
                assert await answered(await connect())

    told = asyncio.Semaphore(0)
    asyncio.run(attack())


def test_who_says_nothing_makes_room_for_who_says_something() -> None:
    async def attack() -> None:
        async with listening(3) as connect:
            silent = [await connect() for _ in range(3)]
            for _ in range(6):
                assert await answered(await connect())
            for each in silent:
                assert await ended(each)

    asyncio.run(attack())
