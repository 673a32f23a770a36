"""The protocol's own server, told of this home's tools: sessions, lists, and who hears that they changed."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import mcp_types as types
from litestar.types import HTTPScope, Receive, Send
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.connection import Connection
from mcp.server.context import CallNext, HandlerResult
from mcp.server.lowlevel.server import NotificationOptions, Server
from mcp.server.models import InitializationOptions
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ServerEvent, ToolsListChanged
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from gateway.domain.caller import Caller
from gateway.errors import HearthgateError
from gateway.flows.authorize import is_known
from gateway.flows.parts import Parts
from gateway.flows.tools import Tools
from gateway.http.doors import Headers, first_headers
from gateway.http.mcp.answers import as_problem, as_tool
from gateway.http.mcp.calling import CALLER, Calling, Ctx, caller_of

MAX_SESSIONS = 256
MAX_SESSIONS_EACH = 32  # of one credential, and as many streams
_IDLE_S = 600.0
_TELL_S = 1.0
_NAME = "hearthgate"
_SESSION, _VERSION = b"mcp-session-id", b"mcp-protocol-version"
_OPENING = "hearthgate.opening"
_KEPT = frozenset(
    {"type", "asgi", "http_version", "method", "path", "raw_path", "query_string", "client", "server", "scheme"}
)
_INSTRUCTIONS = (
    "Each tool is a capability of a plugin. Every call is decided by a policy and recorded. A denied call is a result "
    "that says why, with the id of the decision and what a person can do about it: do not repeat it unchanged."
)


class Serving:
    """What answers at `/mcp` while a home is open."""

    def __init__(self, parts: Parts, tools: Tools, *, max_body_bytes: int) -> None:
        self._parts = parts
        self._tools = tools
        self._bus = InMemorySubscriptionBus()
        self._sessions: dict[str, tuple[Connection, Caller]] = {}
        self._opening: dict[object, Caller] = {}  # requests that may open a session, until they did or are answered
        self._streams: dict[ListenHandler, Caller] = {}
        server = _Server(
            _NAME,
            version=version("hearthgate"),
            title="Hearthgate",
            instructions=_INSTRUCTIONS,
            # WHY: no tool takes parameters from headers, and the library would list all tools to learn that.
            get_tool_input_schema=lambda _: None,
            on_list_tools=self._list,
            on_call_tool=Calling(parts, tools),
            on_subscriptions_listen=self._listen,
        )
        seals = RequestStateSecurity(keys=[os.urandom(32)], bind_principal=lambda ctx: caller_of(ctx).credential)
        server.middleware += [self._remember, RequestStateBoundary(seals, default_audience=_NAME)]
        self.manager = StreamableHTTPSessionManager(
            server, max_request_body_size=max_body_bytes, session_idle_timeout=_IDLE_S, max_sessions=MAX_SESSIONS
        )

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Serve until the end of the context, which must come in the task that it began in."""
        async with self.manager.run():
            yield

    def is_full_for(self, caller: Caller, headers: Headers) -> bool:
        """Tell whether a request would open one session too many for its credential."""
        if not _may_open(headers):
            return False
        # SECURITY: those that are being opened count too: many requests at once are no way round.
        those = (*(each for _, each in self._sessions.values()), *self._opening.values())
        return sum(each.credential == caller.credential for each in those) >= MAX_SESSIONS_EACH

    async def handle(self, scope: HTTPScope, caller: Caller, receive: Receive, send: Send) -> None:
        """Answer one request, as the library does."""
        # SECURITY: a session answers only the credential that opened it, which the library tells by this user.
        # Two tokens of one user that are for different things are two credentials: the one answers no question that
        # was put to the other.
        client_id = f"{caller.credential} {sorted(caller.key_scopes or ())}"
        user = AuthenticatedUser(AccessToken(token="", client_id=client_id, scopes=[]))
        kept = {name: value for name, value in scope.items() if name in _KEPT}
        # WHY: the parser leaves the blanks behind a value, which are no part of it (RFC 9110, 5.5).
        headers = [(name, value.strip(b" \t")) for name, value in scope["headers"] if name != b"authorization"]
        opening = object()
        cleaned = {**kept, "headers": headers, "root_path": "", "user": user, CALLER: caller, _OPENING: opening}
        if _may_open(first_headers(scope)):
            self._opening[opening] = caller
        try:
            await self.manager.handle_request(cleaned, receive, send)  # type: ignore[arg-type] # the same protocol
        finally:
            self._opening.pop(opening, None)

    async def changed(self) -> None:
        """Tell every client that listens that its tools may be others now."""
        await self._bus.publish(ToolsListChanged())
        # SECURITY: a credential that is over hears nothing more.
        known = [connection for connection, caller in self._sessions.values() if is_known(self._parts, caller)]
        await asyncio.gather(*(_tell(connection) for connection in known))

    def end_streams(self) -> None:
        """End the streams on which clients hear of changes."""
        for each in list(self._streams):
            each.close()

    async def _list(self, ctx: Ctx, _params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        try:
            offered = await self._tools.offered(caller_of(ctx))
        except HearthgateError as error:
            raise MCPError(types.INTERNAL_ERROR, error.message, as_problem(error)) from error
        reaches = await self._tools.reaches({each.plugin.id for each in offered})
        return types.ListToolsResult(
            tools=[as_tool(each, reaches[each.plugin.id]) for each in offered], ttl_ms=0, cache_scope="private"
        )

    async def _listen(
        self, ctx: Ctx, params: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        caller = caller_of(ctx)
        if sum(each.credential == caller.credential for each in self._streams.values()) >= MAX_SESSIONS_EACH:
            raise MCPError(types.INTERNAL_ERROR, "too many streams of one credential")
        stream = ListenHandler(_Known(self._bus, self._parts, caller), max_buffered_events=16)
        self._streams[stream] = caller
        try:
            return await stream(ctx, params)
        finally:
            del self._streams[stream]

    async def _remember(self, ctx: Ctx, call_next: CallNext) -> HandlerResult:
        """Keep a new session's connection, to tell it of changes until it ends."""
        if ctx.method == "initialize":
            connection = ctx.session._connection  # noqa: SLF001 (the library has no other way to reach a session later)
            if connection.session_id is not None:
                self._sessions[connection.session_id] = connection, caller_of(ctx)
                connection.exit_stack.callback(self._sessions.pop, connection.session_id, None)
                self._opening.pop(ctx.request.scope[_OPENING], None)  # type: ignore[union-attr] # put there above
        return await call_next(ctx)


class _Server(Server[dict[str, Any]]):
    def create_initialization_options(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
    ) -> InitializationOptions:
        """Say to clients of the older era too that they are told of changes."""
        told = notification_options or NotificationOptions(tools_changed=True)
        return super().create_initialization_options(told, experimental_capabilities, extensions)


class _Known:
    """The bus as one caller hears it: while their credential is one."""

    def __init__(self, bus: InMemorySubscriptionBus, parts: Parts, caller: Caller) -> None:
        self._bus, self._parts, self._caller = bus, parts, caller

    async def publish(self, event: ServerEvent) -> None:
        await self._bus.publish(event)

    def subscribe(self, listener: Any) -> Any:  # noqa: ANN401 (the library's own signature is as wide)
        return self._bus.subscribe(lambda event: listener(event) if is_known(self._parts, self._caller) else None)


def _may_open(headers: Headers) -> bool:
    return not (_SESSION in headers or headers.get(_VERSION, b"").decode("latin-1") in MODERN_PROTOCOL_VERSIONS)


async def _tell(connection: Connection) -> None:
    try:
        async with asyncio.timeout(_TELL_S):
            await connection.send_tool_list_changed()
    except TimeoutError:
        return  # WHY: a client that reads nothing holds up nobody else; it lists again when it asks again
