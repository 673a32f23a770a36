"""Header fields that are told with every answer, whichever way it takes."""

from typing import Any

from litestar.types import Scope, Send

from gateway.http.quotas import quota_head
from gateway.http.traces import trace_head

Head = tuple[tuple[bytes, bytes], ...]


def head_of(scope: Any) -> Head:  # noqa: ANN401 (the framework's scope, or the server's)
    """Give what is left of a credential's rate, and the trace that the request belongs to."""
    return (*quota_head(scope), *trace_head(scope))


def telling(scope: Scope, send: Send) -> Send:
    """Tell it with an answer."""
    head = head_of(scope)
    if not head:
        return send

    async def told(message: Any) -> None:  # noqa: ANN401 (any message)
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *head]
        await send(message)

    return told
