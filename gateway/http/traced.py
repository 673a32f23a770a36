"""An application whose requests are told as spans."""

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from gateway.http.doors import first_headers
from gateway.http.traces import note_trace, trace_of
from gateway.spans import Spans

_ROUTE = "path_template"
_FAILED = 500


class Traced:
    """Answers as the application does, and tells of each request to a collector."""

    def __init__(self, application: ASGIApp, spans: Spans, straight: frozenset[str]) -> None:
        self._application, self._spans, self._straight = application, spans, straight

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != ScopeType.HTTP:
            await self._application(scope, receive, send)
            return
        status = _FAILED

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        sent = trace_of(scope, first_headers(scope))
        with self._spans.request(scope["method"], sent) as span:
            note_trace(scope, span.trace)
            try:
                await self._application(scope, receive, noting)
            finally:
                span.answered(self._route(scope), status)

    def _route(self, scope: Scope) -> str | None:
        """Give the pattern of the path that was asked for; None where none of ours is."""
        if scope["path"] in self._straight:
            return scope["path"]
        found: str | None = scope.get(_ROUTE)  # type: ignore[assignment] # the framework's, once it found one
        return found or None
