"""entities.toml: what is stored about users, plugins and resources; it wins over what a caller sends."""

import math
from collections.abc import Mapping

from gateway.domain.names import split_subject
from gateway.domain.permission import Kind
from gateway.domain.request import AccessRequest, Json
from gateway.policy.problems import Problems
from gateway.policy.toml_file import TomlFile, parse_toml

Entities = Mapping[tuple[str, str], Mapping[str, Json]]
_CONSENTS = "consents/"  # whose consents a request to the gateway is about
ROOTS = ("subject", "resource", "action", "context", "args")


def parse_entities(file: str, data: bytes, problems: Problems) -> dict[tuple[str, str], Mapping[str, Json]]:
    """Give the stored attributes by type and id."""
    toml = parse_toml(file, data, problems)
    if toml is None:
        return {}
    return {
        (kind, name): _attributes(toml, toml.table(attributes, kind, name), kind, name)
        for kind, named in toml.content.items()
        for name, attributes in toml.table(named, kind).items()
    }


def _attributes(toml: TomlFile, table: Mapping[str, object], kind: str, name: str) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for key, value in table.items():
        if key in {"id", "type"}:
            toml.error(f"`{key}` of an entity is its own name: choose another key", kind, name, key)
        elif _is_json(value):
            found[key] = value  # type: ignore[assignment] # _is_json has looked
        else:
            toml.error(f"`{key}` must be text, a number, a truth value or a list of them", kind, name, key)
    return found


def _is_json(value: object) -> bool:
    if isinstance(value, list):
        return all(_is_json(item) and not isinstance(item, list) for item in value)
    return isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value))


def attributes_of(
    request: AccessRequest, entities: Entities, sent: Mapping[str, Mapping[str, Json]]
) -> dict[str, Mapping[str, Json]]:
    """Give every attribute that conditions of `request` may ask for; what is known here wins over what was sent."""
    prefix, name = split_subject(request.subject)
    resource = {
        **sent.get("resource", {}),
        **entities.get((request.kind, request.scope), {}),
        "id": request.scope,
        "type": request.kind,
    }
    if request.kind == Kind.GATEWAY and request.scope.startswith(_CONSENTS):
        resource["user"] = request.scope.removeprefix(_CONSENTS)
    return {
        "subject": {**sent.get("subject", {}), **entities.get((prefix, name), {}), "id": name, "type": prefix},
        "resource": resource,
        "action": {**sent.get("action", {}), "name": request.level},
        "context": sent.get("context", {}),
        "args": sent.get("args", {}),
    }
