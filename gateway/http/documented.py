"""What each route may answer beside its success, as the OpenAPI document tells it: problems, all of one shape."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated

from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Components, SecurityScheme
from pydantic import BaseModel, ConfigDict, Field

from gateway.errors import PROBLEMS, REQUEST_PROBLEMS
from gateway.http.access_requests import PATH as REQUESTS
from gateway.http.doors import is_open
from gateway.http.problems import PROBLEM

_CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_ANYWHERE: Mapping[int, str] = {
    403: "the policy, the key's scopes or the origin say no",
    421: "a Host that is not this gateway's",
    500: "an error that nobody foresaw; the gateway's own log tells more",
    503: "the decision log, or something else that the answer depends on, is not there now",
}
_TO_THE_KNOWN: Mapping[int, str] = {
    401: "no credential, or one that is not known or is over",
    429: "more than this key may ask, or more than can be answered now",
}
_WITH_BODY: Mapping[int, str] = {
    408: "the body did not come in time",
    409: "what is there now does not let it be done",
    413: "a body of more bytes than are taken",
    415: "a body that is not `application/json`",
}
_NAMING: Mapping[int, str] = {404: "there is no such thing, or it is not told to this caller"}
_MALFORMED: Mapping[int, str] = {400: "the request cannot be understood"}
_RUNNING: Mapping[int, str] = {504: "it ran, and nobody knows how it ended"}
_TYPED = re.compile(r"\{([a-z_]+):[a-z]+\}")
_OF_A_SIZE = ("/audit/consistency", "/audit/leaves")
_GONE: Mapping[int, str] = {410: "the denial that is asked about is too old"}
_RUNS = ("/execute", "/benchmarks", "/scan", "/reload", "/approve")
SECURITY_SCHEMES = Components(
    security_schemes={
        "bearer": SecurityScheme(
            type="http",
            scheme="bearer",
            description="A key (`hearthgate key add`), or a token of the issuer that is set; over the unix socket the "
            "owner needs none.",
        )
    }
)
SECURITY = [{"bearer": list[str]()}]


class Problem(BaseModel):
    """What went wrong (RFC 9457): the sentence for people is `detail`, the name for programs is `type`."""

    model_config = ConfigDict(extra="allow")

    type: Annotated[str, Field(pattern=f"^({PROBLEMS}|{REQUEST_PROBLEMS})[a-z_]+$")]
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    way_out: Annotated[str | None, Field(description="What can be done about it.")] = None
    decision_id: Annotated[str | None, Field(description="The decision that refused it.")] = None


def documented(handlers: Iterable[HTTPRouteHandler]) -> list[HTTPRouteHandler]:
    """Give the handlers with all that they may answer told."""
    found: list[HTTPRouteHandler] = []
    for handler in handlers:
        handler.responses = {**dict(_specs(handler)), **(handler.responses or {})}
        if all(is_open(path) for path in handler.paths):
            handler.security = [{}]
        part = _part_of(min(handler.paths))
        handler.tags, handler.operation_id = [part], f"{part}_{handler.fn.__name__}"
        found.append(handler)
    return found


def _part_of(path: str) -> str:
    """Name the part of the gateway that a path is of; clients that are made of the document sort by it."""
    first, *rest = path.strip("/").split("/")
    match first:
        case "v1":
            return rest[0].replace("-", "_")
        case "access" | ".well-known":
            return "authzen"
        case _:
            return "gateway"


def methods_of(handlers: Iterable[HTTPRouteHandler]) -> Mapping[str, str]:
    """Name the methods of each path, as the header `Allow` does."""
    found: defaultdict[str, set[str]] = defaultdict(lambda: {"OPTIONS"})
    for handler in handlers:
        for path in handler.paths:
            found[path] |= set(handler.http_methods)
    return {_TYPED.sub(r"{\1}", path): ", ".join(sorted(methods)) for path, methods in found.items()}


def _specs(handler: HTTPRouteHandler) -> Iterator[tuple[int, ResponseSpec]]:
    for status, text in sorted(_told(handler).items()):
        yield (
            status,
            ResponseSpec(data_container=Problem, description=text, generate_examples=False, media_type=PROBLEM),
        )


def _told(handler: HTTPRouteHandler) -> dict[int, str]:
    paths = sorted(handler.paths)
    told = {**_MALFORMED, **_ANYWHERE}
    if not all(is_open(path) for path in paths):
        told |= _TO_THE_KNOWN
    if any("{" in path or path.endswith(_OF_A_SIZE) for path in paths):
        told |= _NAMING
    if _CHANGING & set(handler.http_methods):
        told |= {**_WITH_BODY, **_NAMING}
    if REQUESTS in paths:
        told |= _GONE
    if any(path.endswith(_RUNS) for path in paths):
        told |= _RUNNING
    return told
