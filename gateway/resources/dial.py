"""Connections to judged addresses, all closed in the end, whatever happens on the way."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

import httpcore

_MAX_DIALLED = 4


class PinnedDialler(httpcore.AsyncNetworkBackend):
    """Dials given addresses in turn, whatever host it is told; serves one request and is closed."""

    def __init__(self, addresses: Sequence[str], timeout_s: float) -> None:
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
        return stream

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
async def dialling(addresses: Sequence[str], timeout_s: float) -> AsyncIterator[PinnedDialler]:
    """Give a dialler of `addresses` and close what it opened."""
    dialler = PinnedDialler(addresses, timeout_s)
    try:
        yield dialler
    finally:
        await dialler.close()
