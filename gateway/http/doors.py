"""The outer door: hosts, origins and media types that no route may forget; what is turned away here is counted."""

import logging
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, cast

from litestar import Request
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from gateway.domain.caller import Caller
from gateway.domain.request import Json
from gateway.errors import (
    DeniedError,
    HearthgateError,
    MalformedError,
    MisdirectedError,
    UnauthenticatedError,
    UnsupportedMediaTypeError,
)
from gateway.http.heads import telling
from gateway.http.identity import Identity
from gateway.http.problems import answer_error
from gateway.http.protected_resource import ProtectedResource
from gateway.registry.folder import parse_json_strictly

_log = logging.getLogger("hearthgate.http")
_LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]"})
_WITH_BODY = frozenset({"POST", "PUT", "PATCH", "DELETE"})
Headers = Mapping[bytes, bytes]
REQUEST_ID = b"x-request-id"
_TURNED_AWAY = frozenset({400, 401, 413, 415, 429})


def first_headers(scope: Scope) -> Headers:
    """Give the headers by their names in lower case; of those that stand twice, the first."""
    return dict(reversed([*scope["headers"]]))


class Refusals:
    """How many requests were turned away undecided since they were last told, by status."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def count(self, status: int) -> None:
        """Count one."""
        self._counts[status] += 1

    def take(self) -> Mapping[str, Json]:
        """Give the counts and begin again; empty if there were none."""
        counts, self._counts = self._counts, Counter()
        return {str(status): number for status, number in sorted(counts.items())}

    def put_back(self, counts: Mapping[str, Json]) -> None:
        """Count again what could not be told."""
        self._counts.update({int(status): int(str(number)) for status, number in counts.items()})


class Door(ASGIMiddleware):
    """Lets through what a gateway's own client would send, and nothing that a web page could make a browser send."""

    scopes = (ScopeType.HTTP,)

    def __init__(
        self,
        refusals: Refusals,
        identity: Identity,
        allowed_hosts: tuple[str, ...],
        resource: ProtectedResource | None = None,
        methods: Mapping[str, str] | None = None,
    ) -> None:
        self._refusals = refusals
        self._identity = identity
        self._resource = resource
        self._methods = methods or {}
        self._hosts = _LOCAL | {host.lower() for host in allowed_hosts}

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Check one request and pass it on."""
        began = time.monotonic()
        method = cast("HTTPScope", scope)["method"]

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start" and _log.isEnabledFor(logging.DEBUG):
                took_ms = (time.monotonic() - began) * 1000
                _log.debug("%s %s: %d in %.1f ms", method, scope["path"], message["status"], took_ms)
            if message["type"] == "http.response.start" and message["status"] in _TURNED_AWAY:
                self._refusals.count(message["status"])
            if message["type"] == "http.response.start" and method == "OPTIONS":
                # WHY: the framework names the methods of one of the handlers that share a path.
                self._tell_methods(message, str(scope.get("path_template")))
            await send(message)

        headers = first_headers(scope)
        if is_authzen(scope["path"]):
            send = echoing(headers, send)
        try:
            self.check(cast("HTTPScope", scope), headers)
            if not is_open(scope["path"]):
                # SECURITY: before a byte of the body is read, so that nobody unknown makes the gateway parse anything.
                scope["user"] = self.caller(scope, headers)
        except HearthgateError as error:
            self._refusals.count(error.status)
            request: Request[Any, Any, Any] = Request(scope)
            _log.debug("%s %s: turned away: %d %s", method, scope["path"], error.status, error.code)
            answer = answer_error(request, error)
            if isinstance(error, UnauthenticatedError) and self._resource is not None:
                answer.headers["WWW-Authenticate"] += f', resource_metadata="{self._resource.url(request)}"'
            response = answer.to_asgi_response(None, request)
            await response(scope, receive, telling(scope, send))
            return
        await next_app(scope, receive, telling(scope, counting))

    def _tell_methods(self, message: Any, path: str) -> None:  # noqa: ANN401 (the start of an answer)
        allow = self._methods.get(path)
        if allow is not None:
            others = [(name, value) for name, value in message["headers"] if name.lower() != b"allow"]
            message["headers"] = [*others, (b"allow", allow.encode())]

    def count(self, status: int) -> None:
        """Count an answer, if it turned a request away undecided."""
        if status in _TURNED_AWAY:
            self._refusals.count(status)

    def caller(self, scope: Scope, headers: Headers) -> Caller:
        """Give who sends a request.

        Raises:
            UnauthenticatedError: nobody knows.
            MalformedError: what is said beside the request cannot be understood.
        """
        return self._identity.caller(scope, headers)

    def check(self, scope: HTTPScope, headers: Headers) -> None:
        """Look at where a request comes from and what its body is said to be.

        Raises:
            MisdirectedError: it is for another host.
            DeniedError: it comes from a page of another origin.
            UnsupportedMediaTypeError: its body is no JSON.
        """
        host = headers.get(b"host", b"localhost").decode("latin-1").lower()
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        # SECURITY: a name that an attacker's DNS points here (rebinding) is not one of ours.
        if name not in self._hosts:
            raise MisdirectedError(f"`{host[:80]}` is not a host of this gateway", way_out="[http] allowed_hosts")
        origin = headers.get(b"origin")
        if origin is not None and origin.decode("latin-1").lower().partition("://")[2] != host:
            raise DeniedError("requests of other origins are refused", extra={"reason": "origin"})
        if scope["method"] in _WITH_BODY:
            media = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
            length = headers.get(b"content-length", b"0")
            if media != "application/json" and (media or length != b"0" or b"transfer-encoding" in headers):
                # SECURITY: a form of another site can send text/plain without asking the browser.
                if is_authzen(scope["path"]):
                    raise MalformedError(f"content type `{media[:80]}`", way_out="send application/json")
                raise UnsupportedMediaTypeError(f"content type `{media[:80]}`", way_out="send application/json")


def is_authzen(path: str) -> bool:
    """Tell whether a path is one of AuthZEN's, where that standard says what an answer looks like."""
    return path.startswith("/access/")


def echoing(headers: Headers, send: Send) -> Send:
    """Give back the id that a client gave its request, whatever the answer is."""
    given = headers.get(REQUEST_ID)
    if given is None:
        return send

    async def echo(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (REQUEST_ID, given)]
        await send(message)

    return echo


def is_open(path: str) -> bool:
    """Tell whether a path is answered to people that nobody knows."""
    return path == "/healthz" or path.startswith("/.well-known/")


class StrictRequest(Request[Any, Any, Any]):
    """A request whose JSON has one reading: no member twice, no NaN, an object or a list."""

    async def json(self) -> Any:  # noqa: ANN401 (any JSON value)
        """Give the body as JSON.

        Raises:
            MalformedError: it is not JSON, or two readers could read it differently.
        """
        body = await self.body()
        if not body:
            raise MalformedError("a body is needed", way_out="send a JSON object")
        return parse_json_strictly(body, "body")
