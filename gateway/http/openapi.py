"""The OpenAPI document as clients read it: what the framework leaves out of it is put in.

It tells of bodies what it finds in their annotations, and misses what stands in the types that these are made of; of
parameters it tells their type alone. Here both get their whole schema: bodies by the models' own, parameters by name.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from litestar import Request
from litestar.openapi.plugins import JsonRenderPlugin
from pydantic import BaseModel

from gateway.audit.formats.known import FORMATS
from gateway.domain.call_approval import ApprovalState
from gateway.domain.lifecycle import State
from gateway.domain.record import CATEGORY_OF, Category
from gateway.registry.requests import RequestState
from gateway.traffic.export import MEDIA

Schema = Mapping[str, Any]
_TIME: Schema = {"type": "string", "format": "date-time"}
_USER: Schema = {"type": "string", "pattern": "^[A-Za-z0-9._@+-]{1,128}$"}


def _one_of(*words: str) -> Schema:
    return {"type": "string", "enum": [*words]}


# By name, or by path and name where a name means another thing there.
PARAMETERS: Mapping[str, Schema] = {
    "user_id": _USER,
    "subject_data": _USER,
    "since": _TIME,
    "until": _TIME,
    "event_type": _one_of(*sorted(CATEGORY_OF)),
    "category": _one_of(*Category),
    "effect": _one_of("allow", "deny"),
    "q": {"type": "string", "maxLength": 200},
    "cursor": {"type": "string", "pattern": "^s[1-9][0-9]{0,14}$"},
    "event_id": {"type": "string", "pattern": "^audit-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"},
    "limit": {"type": "integer", "minimum": 1, "maximum": 1000},
    "days": {"type": "integer", "minimum": 0, "maximum": 3650},
    "compress": _one_of("gzip", "zstd"),
    "form": _one_of("json", "sarif"),
    "/v1/traffic cursor": {"type": "string", "pattern": "^[0-9]{1,15}$"},
    "/v1/plugins status": _one_of(*State),
    "/v1/permission-requests status": _one_of(*RequestState),
    "/v1/call-approvals status": _one_of(*ApprovalState),
    "/v1/audit/proof/{event_id} format": _one_of("json", "tlog"),
    "/v1/audit/report format": _one_of("json", "html"),
    "/v1/audit/export format": _one_of(*sorted(FORMATS)),
    "/v1/traffic/export format": _one_of(*sorted(MEDIA)),
}
"""The whole schemas of parameters."""

_PAGE = {"text/html": {"schema": {"type": "string"}}}
_TEXT = {"text/plain": {"schema": {"type": "string"}}}


def _streams(media_types: Iterable[str]) -> dict[str, Any]:
    plain = sorted({each.partition(";")[0] for each in media_types})
    return {each: {"schema": {"type": "string"}} for each in plain}


# What a route answers beside the type that its handler names.
ANSWERS: Mapping[str, Mapping[str, Any]] = {
    "/v1/audit/report": {"application/json": {"schema": {"type": "object"}}, **_PAGE},
    "/v1/audit/proof/{event_id}": {"application/json": {"schema": {"type": "object"}}, **_TEXT},
    "/v1/audit/export": _streams(
        (*(each.media_type for each in FORMATS.values()), "application/gzip", "application/zstd")
    ),
    "/v1/traffic/export": _streams(MEDIA.values()),
}


class DocumentPlugin(JsonRenderPlugin):
    """Serves the document as JSON."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """Render it whole."""
        return super().render(request, completed(openapi_schema))


def completed(document: dict[str, Any]) -> dict[str, Any]:
    """Give the document with the whole schemas of bodies and parameters."""
    found = {each.__name__: each for each in _models(BaseModel)}
    schemas = document["components"]["schemas"]
    for name in list(schemas):
        if (model := found.get(name)) is not None:
            whole = model.model_json_schema(ref_template="#/components/schemas/{model}")
            for inner, schema in whole.pop("$defs", {}).items():
                schemas[inner] = schema
            schemas[name] = whole
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if not isinstance(operation, dict) or "responses" not in operation:
                continue
            for parameter in operation.get("parameters", ()):
                known = PARAMETERS.get(f"{path} {parameter['name']}") or PARAMETERS.get(parameter["name"])
                if known is not None and parameter["in"] == "query":
                    default = {name: parameter["schema"][name] for name in ("default",) if name in parameter["schema"]}
                    parameter["schema"] = {**known, **default}
            if method == "get" and (content := ANSWERS.get(path)) is not None:
                operation["responses"]["200"]["content"] = dict(content)
    return document


def _models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for each in model.__subclasses__():
        if each.__module__.startswith("gateway."):
            yield each
        yield from _models(each)
