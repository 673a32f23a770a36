"""What comes before anybody is known: connections are few, and a head has a size and a time to come."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.http import peer
from gateway.http.server import Listeners

WHOLE = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def application(_scope: Any, _receive: Any, send: Any) -> None:  # noqa: ANN401 (ASGI)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def listening() -> AsyncIterator[Callable[[], Any]]:
    """Serve, and give a function that connects."""
    listeners = Listeners(application, grace_s=1.0)
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


@pytest.mark.parametrize("begun", [b"", b"G", b"\r\n", WHOLE[:-2]])
def test_who_never_ends_a_head_is_let_go(monkeypatch: pytest.MonkeyPatch, begun: bytes) -> None:
    monkeypatch.setattr(peer, "_HEAD_S", 0.1)

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


def test_connections_are_bounded_and_come_free_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "_MAX_CONNECTIONS", 3)

    async def attack() -> None:
        async with listening() as connect:
            held = [await connect() for _ in range(3)]
            assert [await answered(each) for each in held] == [True] * 3
            assert await ended(await connect())
            held[0][1].close()
            await held[0][1].wait_closed()
            async with asyncio.timeout(10):
                while True:
                    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                        if await answered(await connect()):
                            break

    asyncio.run(attack())
