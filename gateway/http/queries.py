"""Queries: what is not a route's is refused, for a misspelt filter would let through what it should leave out."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import HTTPRouteHandler
from litestar.handlers.base import BaseRouteHandler
from litestar.params import QueryParameter

from gateway.errors import MalformedError
from gateway.http.doors import is_open

ANYWHERE = "reason"  # why it is asked: a part of every decision
_KNOWN = "query"
_SHOWN_CHARS = 80


def with_queries(
    handlers: Iterable[HTTPRouteHandler], providers: Mapping[str, Callable[..., Any]]
) -> list[HTTPRouteHandler]:
    """Give the handlers, each with the names that its own signature, and what provides for it, take from a query.

    What is open to everybody has none: who looks whether we are well may add what they like, and it leaves nothing out.
    """
    found: list[HTTPRouteHandler] = []
    for handler in handlers:
        if not all(is_open(path) for path in handler.paths):
            handler.opt[_KNOWN] = (*_names(handler.fn, providers), ANYWHERE)
        found.append(handler)
    return found


async def check_query(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Check that a query says what its route understands, each thing once.

    Raises:
        MalformedError: it does not.
    """
    known = handler.opt.get(_KNOWN)
    if known is None or not connection.scope["query_string"]:
        return
    said = connection.query_params
    for name in said:
        if name not in known:
            raise MalformedError(
                f"`{name[:_SHOWN_CHARS]}` is not understood in the query of {connection.scope['path_template']}",
                way_out=f"known are {', '.join(sorted(known))}",
            )
        if len(said.getall(name)) > 1:
            raise MalformedError(f"`{name}` stands in the query more than once", way_out="say it once")


def _names(function: Callable[..., Any], providers: Mapping[str, Callable[..., Any]]) -> Iterable[str]:
    for name, parameter in inspect.signature(function).parameters.items():
        if name in providers:
            yield from _names(providers[name], {})
        elif any(isinstance(each, QueryParameter) for each in getattr(parameter.annotation, "__metadata__", ())):
            yield name
