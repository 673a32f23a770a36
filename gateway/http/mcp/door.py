"""The door `/mcp`: who asks and from where is known already; what comes in is bounded and has one reading."""

import asyncio
import importlib.util
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from litestar import asgi
from litestar.handlers import ASGIRouteHandler
from litestar.types import HTTPScope, Receive, Scope, Send

from gateway.domain.caller import Caller
from gateway.domain.lifecycle import LIFECYCLE_EVENTS
from gateway.domain.record import Record
from gateway.errors import MalformedError, OverloadedError, TooLargeError, UnavailableError
from gateway.flows.authorize import is_known
from gateway.flows.parts import Parts
from gateway.flows.tools import Tools
from gateway.http.doors import first_headers
from gateway.registry.folder import parse_json_strictly

if TYPE_CHECKING:
    from gateway.http.mcp.serving import Serving

PATH = "/mcp"
MAX_BODY_BYTES = 1 << 20
_PARSE_ERROR = -32700
_LISTEN = "subscriptions/listen"
_LOOK_S = 5.0
_CHANGING = (*LIFECYCLE_EVENTS, "policy_activated", "lockdown_on", "lockdown_off")


class McpDoor:
    """Answers clients of the Model Context Protocol; the library that speaks it is loaded for the first of them."""

    def __init__(self, parts: Parts, names: Mapping[str, str]) -> None:
        self._parts = parts
        self._tools = Tools(parts, names)
        self._opening = asyncio.Lock()
        self._closing = asyncio.Event()
        self._serving: Serving | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_telling = False
        for event_type in _CHANGING:
            parts.log.listeners.setdefault(event_type, []).append(self._hear)

    @property
    def route(self) -> ASGIRouteHandler:
        """The route of this door."""

        @asgi(PATH, copy_scope=True)
        async def mcp(scope: Scope, receive: Receive, send: Send) -> None:
            await self.answer(cast("HTTPScope", scope), receive, send)

        return mcp

    async def answer(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        """Answer one request of somebody who is known.

        Raises:
            UnavailableError: the extra is not installed, or the gateway is about to end.
            TooLargeError: its body has more bytes than a call may have.
            OverloadedError: the caller has too many sessions open.
        """
        caller: Caller = scope["user"]
        serving = await self._served()
        if scope["method"] == "POST":
            body = await _whole(receive)
            try:
                message = parse_json_strictly(body, "body")
            except MalformedError as error:
                await _refuse(send, error)
                return
            if serving.is_full_for(caller, first_headers(scope)):
                raise OverloadedError("too many open sessions of one credential", retry_after_s=60)
            goes_on = isinstance(message, dict) and message.get("method") == _LISTEN
            receive = _again(body, self._while_known(caller, receive) if goes_on else receive)
        elif scope["method"] == "GET":
            goes_on, receive = True, self._while_known(caller, receive, self._parts.ending)
        else:
            goes_on = False
        handle = partial(serving.handle, scope, caller, receive)
        await (_whole_answer(handle, send) if goes_on else handle(send))

    async def close(self) -> None:
        """End every session, with what runs in it."""
        self._closing.set()
        for task in list(self._tasks):
            await task

    async def _served(self) -> "Serving":
        if self._parts.ending.is_set() or self._closing.is_set():
            raise UnavailableError("the gateway is shutting down")
        if self._serving is None:
            async with self._opening:
                if self._serving is None:
                    self._serving = await self._opened()
        return self._serving

    async def _opened(self) -> "Serving":
        if importlib.util.find_spec("mcp") is None:
            raise UnavailableError(
                "the Model Context Protocol needs a library that is not installed",
                way_out="pip install 'hearthgate[mcp]'",
            )
        # WHY: in a thread, for it takes most of a second; and not at start, for few commands ever need it.
        make = await asyncio.to_thread(_load)
        serving = make(self._parts, self._tools, max_body_bytes=MAX_BODY_BYTES)
        ready = asyncio.Event()
        self._begin(self._serve(serving, ready))
        await ready.wait()
        return serving

    async def _serve(self, serving: "Serving", ready: asyncio.Event) -> None:
        # WHY: a task of its own, for what it opens must be closed by the task that opened it.
        async with serving.open():
            ready.set()
            ending = asyncio.create_task(self._parts.ending.wait())
            closing = asyncio.create_task(self._closing.wait())
            await asyncio.wait([ending, closing], return_when=asyncio.FIRST_COMPLETED)
            serving.end_streams()
            await closing
            ending.cancel()

    def _hear(self, _record: Record) -> None:
        if self._serving is not None and not self._is_telling and not self._closing.is_set():
            self._is_telling = True
            self._begin(self._tell(self._serving))

    async def _tell(self, serving: "Serving") -> None:
        # WHY: an event is recorded before it is in force, by who holds this; several in a row are told once.
        async with self._parts.editing:
            self._is_telling = False
        await serving.changed()

    def _begin(self, work: Any) -> None:  # noqa: ANN401 (a coroutine)
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _while_known(self, caller: Caller, receive: Receive, ending: asyncio.Event | None = None) -> Receive:
        """Let a stream that would go on for ever end with its credential, and with the gateway where nothing else does.

        SECURITY: who lost the credential hears nothing more, not even that something changed.
        """
        ending = ending or asyncio.Event()

        async def received() -> Any:  # noqa: ANN401 (any message)
            ended = asyncio.create_task(ending.wait())
            coming = asyncio.ensure_future(receive())
            try:
                while not (coming.done() or ended.done()) and is_known(self._parts, caller):
                    await asyncio.wait([ended, coming], timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
                return coming.result() if coming.done() else {"type": "http.disconnect"}
            finally:
                for each in (ended, coming):
                    each.cancel()
                    with suppress(asyncio.CancelledError):
                        await each

        return received


def _load() -> "type[Serving]":
    from gateway.http.mcp.serving import Serving  # noqa: PLC0415 (an extra)

    return Serving


async def _whole_answer(answered: Callable[[Send], Awaitable[None]], send: Send) -> None:
    """Let a stream that is ended from our side be a whole answer to its client."""
    begun = done = False

    async def watched(message: Any) -> None:  # noqa: ANN401 (any message)
        nonlocal begun, done
        begun = begun or message["type"] == "http.response.start"
        done = done or (message["type"] == "http.response.body" and not message.get("more_body", False))
        await send(message)

    await answered(watched)
    if begun and not done:
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _whole(receive: Receive) -> bytes:
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise MalformedError("the body did not come to its end")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_BODY_BYTES:
            raise TooLargeError(f"a body of more than {MAX_BODY_BYTES} bytes")
    return bytes(body)


async def _refuse(send: Send, error: MalformedError) -> None:
    """Answer a body that is no JSON, or that two readers could read differently."""
    told = {"jsonrpc": "2.0", "id": None, "error": {"code": _PARSE_ERROR, "message": error.message}}
    body = json.dumps(told).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _again(body: bytes, receive: Receive) -> Receive:
    waiting: list[Any] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Any:  # noqa: ANN401 (any message)
        return waiting.pop() if waiting else await receive()

    return again
