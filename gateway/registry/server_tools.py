"""Tools as an MCP server tells of them, taken into a manifest: their words, their schema, and what names both."""

import itertools
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from gateway.domain.manifest import SERVER_PARAMETER
from gateway.domain.permission import Kind
from gateway.domain.request import Json
from gateway.domain.shape import KEYWORDS, parse_shape
from gateway.errors import MalformedError
from gateway.registry.manifest_conditions import MAX_TEXT_CHARS, manifest_scope
from sandbox.stdio import definition_digest

_UNFIT = re.compile(r"[^a-z0-9]+")
_DESCRIPTION_CHARS = MAX_TEXT_CHARS
_CUT = " [...]"
_PAYLOADS_OWN = frozenset({"action", "batch"})
_OF_SCHEMAS = frozenset({"additionalProperties", "propertyNames", "items", "not"})
_OF_SCHEMA_LISTS = frozenset({"prefixItems", "anyOf", "oneOf", "allOf"})


def with_tools(manifest: Mapping[str, Any], told: Sequence[Mapping[str, Any]], wanted: Iterable[str]) -> dict[str, Any]:
    """Give a manifest's JSON with the wanted tools among its capabilities, as they are told now.

    Of a capability that is there already only its words, its parameters and its definition become others.

    Raises:
        MalformedError: a wanted tool is not told of, or no payload can hold its parameters.
    """
    known = {str(tool.get("name")): tool for tool in told}
    listed = manifest.get("capabilities") or []
    capabilities = [dict(each) for each in listed if isinstance(each, Mapping)]
    for name in wanted:
        if name not in known:
            raise MalformedError(f"the server has no tool `{name[:80]}`", way_out=f"it has {', '.join(sorted(known))}")
        before = next((each for each in capabilities if (each.get("tool") or each.get("name")) == name), None)
        made = _capability(name, known[name], {str(each.get("name")) for each in capabilities})
        if before is None:
            capabilities.append({**made, "requires": []})
        else:
            before.update({member: value for member, value in made.items() if member not in {"name", "tool"}})
    return {**manifest, "capabilities": capabilities}


def tool_names(manifest: Mapping[str, Any]) -> dict[str, str | None]:
    """Give the tools that a manifest's JSON maps, each with the definition that it pins."""
    listed = manifest.get("capabilities") or []
    return {
        str(each.get("tool") or each.get("name")): each.get("definition") for each in listed if isinstance(each, dict)
    }


def wanted_files(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """Give the folders of the host that a manifest's JSON names, as a cell shows them.

    Raises:
        MalformedError: one is no path.
    """
    config = manifest.get("sandbox_config")
    listed = config.get("file_access") if isinstance(config, dict) else None
    return tuple(
        manifest_scope(Kind.FILE, str(each)).removesuffix("/*") or "/"
        for each in (listed if isinstance(listed, list) else [])
    )


def _capability(name: str, tool: Mapping[str, Any], taken: Collection[str]) -> dict[str, Any]:
    fitting = _fitting_name(name, taken)
    return {
        "name": fitting,
        **({} if fitting == name else {"tool": name}),
        "description": _words(str(tool.get("description") or tool.get("title") or "")),
        "parameters": _parameters(name, tool.get("inputSchema")),
        "definition": definition_digest(tool),
    }


def _fitting_name(name: str, taken: Collection[str]) -> str:
    """Give the name of a capability for a tool: like its own, and no other's."""
    plain = _UNFIT.sub("_", name.lower()).strip("_")
    fitting = plain if plain[:1].isalpha() else f"tool_{plain}".rstrip("_")
    numbers = (f"{fitting}_{number}" for number in itertools.count(2))
    return fitting if fitting not in taken else next(each for each in numbers if each not in taken)


def _words(text: str) -> str:
    return text if len(text) <= _DESCRIPTION_CHARS else text[: _DESCRIPTION_CHARS - len(_CUT)] + _CUT


def _parameters(name: str, schema: object) -> dict[str, Any]:
    told = schema if isinstance(schema, dict) else {}
    properties, required = told.get("properties", {}), told.get("required", [])
    if not isinstance(properties, dict) or not isinstance(required, list):
        properties, required = {}, []
    kept: dict[str, Any] = {}
    for each, part in properties.items():
        if not SERVER_PARAMETER.fullmatch(each) or each in _PAYLOADS_OWN:
            if each in required:
                raise MalformedError(f"`{name[:80]}` needs a parameter `{each[:80]}`, which no payload can hold")
            continue
        kept[each] = _shape(part)
    return {"type": "object", "properties": kept, "required": [each for each in kept if each in required]}


def _shape(schema: Json) -> Json:
    """Give what the gateway judges of a schema; where that is not all, the server judges the rest."""
    fitting = _fitting(schema)
    try:
        return parse_shape(fitting).written
    except MalformedError:
        kind = schema.get("type") if isinstance(schema, dict) else None
        try:
            return parse_shape({"type": kind}).written
        except MalformedError:
            return {}


def _fitting(schema: Json) -> Json:
    if isinstance(schema, bool):
        return {} if schema else {"not": {}}
    if not isinstance(schema, dict) or "$ref" in schema:
        return {}
    found: dict[str, Json] = {}
    for name, value in schema.items():
        if name == "properties" and isinstance(value, dict):
            found[name] = {each: _fitting(part) for each, part in value.items()}
        elif name in _OF_SCHEMAS:
            found[name] = value if isinstance(value, bool) else _fitting(value)
        elif name in _OF_SCHEMA_LISTS and isinstance(value, list):
            found[name] = [_fitting(each) for each in value]
        elif name in KEYWORDS:
            found[name] = json.loads(json.dumps(value))
    return found
