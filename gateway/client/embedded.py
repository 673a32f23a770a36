"""Requests to an application in this process, answered piece by piece."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

import httpx

Message = MutableMapping[str, Any]
Application = Callable[..., Awaitable[None]]

_PIECES_AHEAD = 8


class EmbeddedTransport(httpx.AsyncBaseTransport):
    """Carries requests to an ASGI application as if `client` sent them.

    WHY: httpx's own transport keeps a whole answer in memory, and a log may be larger than that.
    """

    def __init__(self, application: Application, client: tuple[str, int]) -> None:
        self._application = application
        self._client = client

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Give the answer as soon as its head is known; its body follows as it is read."""
        exchange = _Exchange(await request.aread())
        exchange.begin(self._application(self._scope(request), exchange.receive, exchange.send))
        status, headers = await exchange.head()
        return httpx.Response(status, headers=headers, stream=exchange)

    def _scope(self, request: httpx.Request) -> dict[str, Any]:
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": request.url.scheme,
            "path": request.url.path,
            "raw_path": request.url.raw_path.partition(b"?")[0],
            "query_string": request.url.query,
            "root_path": "",
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
            "server": (request.url.host, request.url.port),
            "client": self._client,
        }


class _Exchange(httpx.AsyncByteStream):
    """One request and its answer; as a stream, the answer's body."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self._head: asyncio.Future[tuple[int, list[tuple[bytes, bytes]]]] = asyncio.get_running_loop().create_future()
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(_PIECES_AHEAD)
        self._hung_up = asyncio.Event()
        self._ended = False

    def begin(self, work: Awaitable[None]) -> None:
        """Let the application answer."""
        self._task = asyncio.ensure_future(work)

    async def head(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Wait for the status and the headers."""
        either: list[asyncio.Future[Any]] = [self._head, self._task]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._task.cancel()
            raise
        if not self._head.done():
            await self._task
            raise httpx.RemoteProtocolError("the application ended without an answer")
        return self._head.result()

    async def receive(self) -> Message:
        """Give the application the request's body, and later that nobody listens any more."""
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._hung_up.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take a piece of the answer from the application, waiting while nobody reads."""
        if message["type"] == "http.response.start":
            self._head.set_result((message["status"], list(message.get("headers", ()))))
        elif message["type"] == "http.response.body":
            if message.get("body"):
                await self._pieces.put(message["body"])
            if not message.get("more_body"):
                # WHY: a server tells so, too; who streams waits for this word before it ends.
                self._hung_up.set()
                await self._pieces.put(None)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (piece := await self._piece()) is not None:
            yield piece
        self._ended = True
        await self._task

    async def _piece(self) -> bytes | None:
        waiting = asyncio.ensure_future(self._pieces.get())
        either: list[asyncio.Future[Any]] = [waiting, self._task]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done() and self._pieces.empty():
                await self._task
                raise httpx.RemoteProtocolError("the application ended in the middle of its answer")
            return await waiting
        finally:
            waiting.cancel()

    async def aclose(self) -> None:
        """Hang up: what still answers is stopped."""
        self._hung_up.set()
        if not self._ended:
            self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
