"""The outer door: hosts, origins and media types that no route may forget; what is turned away here is counted."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from litestar import Request
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from gateway.domain.request import Json
from gateway.errors import DeniedError, HearthgateError, MalformedError, MisdirectedError, UnsupportedMediaTypeError
from gateway.http.identity import Identity
from gateway.http.problems import answer_error
from gateway.registry.folder import parse_json_strictly

_LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]"})
_WITH_BODY = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_TURNED_AWAY = frozenset({400, 401, 413, 415})


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

    def __init__(self, refusals: Refusals, identity: Identity, allowed_hosts: tuple[str, ...]) -> None:
        self._refusals = refusals
        self._identity = identity
        self._hosts = _LOCAL | {host.lower() for host in allowed_hosts}

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Check one request and pass it on."""

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in _TURNED_AWAY:
                self._refusals.count(message["status"])
            await send(message)

        request: Request[Any, Any, Any] = Request(scope)
        try:
            self._check(request)
            if not _is_open(scope["path"]):
                # SECURITY: before a byte of the body is read, so that nobody unknown makes the gateway parse anything.
                scope["user"] = self._identity.caller(request)
        except HearthgateError as error:
            self._refusals.count(error.status)
            response = answer_error(request, error).to_asgi_response(None, request)
            await response(scope, receive, send)
            return
        await next_app(scope, receive, counting)

    def _check(self, request: Request[Any, Any, Any]) -> None:
        host = request.headers.get("host", "localhost").lower()
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        # SECURITY: a name that an attacker's DNS points here (rebinding) is not one of ours.
        if name not in self._hosts:
            raise MisdirectedError(f"`{host[:80]}` is not a host of this gateway", way_out="[http] allowed_hosts")
        origin = request.headers.get("origin")
        if origin is not None and origin.lower().partition("://")[2] != host:
            raise DeniedError("requests of other origins are refused", extra={"reason": "origin"})
        if request.method in _WITH_BODY:
            media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            length = request.headers.get("content-length", "0")
            if media != "application/json" and (media or length != "0" or "transfer-encoding" in request.headers):
                # SECURITY: a form of another site can send text/plain without asking the browser.
                raise UnsupportedMediaTypeError(f"content type `{media[:80]}`", way_out="send application/json")


def _is_open(path: str) -> bool:
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
