import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import pytest

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Upstream:
    """A real server on a free loopback port, with all that was ever sent to it."""

    port: int = 0
    connections: int = 0
    received: bytearray = field(default_factory=bytearray)


@contextmanager
def run_upstream(answer: bytes | Talk, tls: ssl.SSLContext | None = None) -> Iterator[Upstream]:
    upstream = Upstream()
    ready = threading.Event()
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream.connections += 1
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            upstream.received += head
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    upstream.received += await reader.readexactly(int(line.split(b":")[1]))
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort() if ended.is_set() else writer.close()

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
        upstream.port = server.sockets[0].getsockname()[1]
        ready.set()
        async with server:
            await ended.wait()

    loop = asyncio.new_event_loop()

    def main() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(run())

    thread = threading.Thread(target=main)
    thread.start()
    ready.wait(10)
    try:
        yield upstream
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(10)


@pytest.fixture
def serve() -> Callable[..., AbstractContextManager[Upstream]]:
    return run_upstream
