"""Connections to judged addresses, all closed in the end, whatever happens on the way; what passes is counted."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpcore

_MAX_DIALLED = 4
_FAREWELL_S = 2.0
_READ_BYTES = 64 << 10
Count = Callable[[int, int], None]  # bytes sent, bytes received


def count_nothing(_sent: int, _received: int) -> None:
    """Count no bytes."""


class CountedStream(httpcore.AsyncNetworkStream):
    """A connection whose bytes are counted as HTTP sends them: head and body, without what TLS adds."""

    def __init__(self, stream: httpcore.AsyncNetworkStream, count: Count) -> None:
        self._stream, self._count = stream, count

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 (httpcore's interface)
        """Read what has come."""
        data = await self._stream.read(max_bytes, timeout)
        self._count(0, len(data))
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 (httpcore's interface)
        """Send all of it."""
        # WHY: counted before it is sent, for of what breaks off in the middle the most must count.
        self._count(len(buffer), 0)
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 (httpcore's interface)
    ) -> httpcore.AsyncNetworkStream:
        """Go on encrypted; what is counted stays what HTTP sends."""
        return CountedStream(await self._stream.start_tls(ssl_context, server_hostname, timeout), self._count)

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 (httpcore's interface)
        """Tell about the connection."""
        return self._stream.get_extra_info(info)


class PinnedDialler(httpcore.AsyncNetworkBackend):
    """Dials given addresses in turn, whatever host it is told; serves one request and is closed."""

    def __init__(self, addresses: Sequence[str], timeout_s: float, count: Count = count_nothing) -> None:
        self._count = count
        self._addresses = addresses[:_MAX_DIALLED]
        self._timeout_s = timeout_s / len(self._addresses)
        self._network = httpcore.AnyIOBackend()
        self._opened: list[httpcore.AsyncNetworkStream] = []

    async def connect_tcp(
        self,
        host: str,  # noqa: ARG002 (SECURITY: the name is not looked up again)
        port: int,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109 (httpcore's interface)
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first of the addresses that answers."""
        for address in self._addresses[:-1]:
            try:
                return await self._dial(address, port, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._dial(self._addresses[-1], port, local_address, socket_options)

    async def _dial(
        self,
        address: str,
        port: int,
        local_address: str | None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None,
    ) -> httpcore.AsyncNetworkStream:
        stream = await self._network.connect_tcp(address, port, self._timeout_s, local_address, socket_options)
        self._opened.append(stream)
        return CountedStream(stream, self._count)

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 (httpcore's interface)
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Refuse: nothing is reached by a unix socket."""
        raise httpcore.ConnectError(f"no unix sockets: {path}, {timeout}, {socket_options}")

    async def close(self) -> None:
        """Close every connection, also those whose TLS handshake was cut off, which the pool forgets."""
        for stream in self._opened:
            await stream.aclose()


@asynccontextmanager
async def dialling(
    addresses: Sequence[str], timeout_s: float, count: Count = count_nothing
) -> AsyncIterator[PinnedDialler]:
    """Give a dialler of `addresses` and close what it opened."""
    dialler = PinnedDialler(addresses, timeout_s, count)
    try:
        yield dialler
    finally:
        await dialler.close()


Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def open_line(addresses: Sequence[str], port: int, timeout_s: float) -> Line:
    """Connect to the first of `addresses` that answers.

    Raises:
        OSError: none does; the last one's error.
        TimeoutError: none does in time.
    """
    known = addresses[:_MAX_DIALLED]
    each_s = timeout_s / len(known)
    for address in known[:-1]:
        with contextlib.suppress(OSError):  # a time-out is one, too
            async with asyncio.timeout(each_s):
                return await asyncio.open_connection(address, port, limit=_READ_BYTES)
    async with asyncio.timeout(each_s):
        return await asyncio.open_connection(known[-1], port, limit=_READ_BYTES)


@asynccontextmanager
async def closing_line(line: Line) -> AsyncIterator[Line]:
    """Give a connection to the body; then what is left to send is sent, soon, unless the body failed."""
    writer = line[1]
    try:
        yield line
        writer.close()
        with contextlib.suppress(OSError):  # a time-out is one, too
            async with asyncio.timeout(_FAREWELL_S):
                await writer.wait_closed()
    finally:
        writer.transport.abort()
