"""The shape of a manifest: members, types and ranges; what is wrong is told, and the rest of it read all the same."""

from collections.abc import Sequence

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gateway.domain.request import Json
from gateway.policy.spelling import did_you_mean
from gateway.registry.manifest_file import ManifestFile

_MOST = 50  # problems of the shape
_LENGTH = 300  # of what is said of one
_KNOWN = frozenset(field.alias or name for name, field in ManifestFile.model_fields.items())
_STAND_IN = "x"
_NEEDED_TEXT = frozenset({"plugin_id", "name", "version", "permission", "scope"})
_WORDS = {
    "extra_forbidden": "is no member that is known here",
    "missing": "is needed",
    "model_type": "a JSON object is needed",
    "model_attributes_type": "a JSON object is needed",
    "dict_type": "a JSON object is needed",
    "tuple_type": "a JSON list is needed",
    "string_type": "text is needed",
    "bool_type": "true or false is needed",
}
_Path = tuple[int | str, ...]


def read_shape(raw: dict[str, Json]) -> tuple[ManifestFile | None, list[tuple[str, str]]]:
    """Give a manifest's members, and what is wrong with its shape: places and what is said of each.

    Where something is wrong the members are those that are not, so that these can be judged, too; None if that cannot
    be. Of members that are needed a text stands in.
    """
    try:
        return ManifestFile.model_validate(raw), []
    except ValidationError as error:
        found = [(_path(raw, each), each) for each in error.errors(include_input=False)[:_MOST]]
    rest: Json = dict(raw)
    for path, each in found:
        rest = _without(rest, _needless(path, each))
    told = [(spelt(path), _said(path, each)) for path, each in found]
    try:
        return ManifestFile.model_validate(rest), told
    except ValidationError:
        return None, told


def spelt(path: _Path) -> str:
    """Spell a place as `requested_permissions[1].level`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def is_at(place: str, other: str) -> bool:
    """Tell whether a place is another one, or within it."""
    return place == other or place.startswith((f"{other}.", f"{other}["))


def _path(raw: Json, error: ErrorDetails) -> _Path:
    """Give the place of an error as far as the manifest itself goes: beyond are names of kinds that were tried."""
    value, path = raw, list[int | str]()
    for part in error["loc"]:
        inner = _inside(value, part)
        if inner is None:
            return (*path, part) if error["type"] == "missing" else tuple(path)
        path.append(part)
        (value,) = inner
    return tuple(path)


def _inside(value: Json, part: int | str) -> tuple[Json] | None:
    if isinstance(value, dict) and isinstance(part, str):
        return (value[part],) if part in value else None
    if isinstance(value, list) and isinstance(part, int):
        return (value[part],) if part < len(value) else None
    return None


def _said(path: _Path, error: ErrorDetails) -> str:
    words = _WORDS.get(error["type"], error["msg"])[:_LENGTH]
    if error["type"] != "extra_forbidden" or len(path) != 1:
        return words
    return f"{words}{did_you_mean(str(path[0])[:80], _KNOWN)}"


def _needless(path: _Path, error: ErrorDetails) -> _Path:
    """Give what is to be left out for an error: what lacks a member that no text can stand in for goes as a whole."""
    if error["type"] == "missing" and path and path[-1] not in _NEEDED_TEXT:
        return path[:-1]
    return path


def _without(value: Json, path: Sequence[int | str]) -> Json:
    """Give a value without what lies at a path; a list whose item that is goes as a whole, for places are counted."""
    if not path or not isinstance(value, dict) or not isinstance(path[0], str):
        return value
    name, rest = path[0], path[1:]
    left = {member: each for member, each in value.items() if member != name}
    if not rest:
        return {**left, name: _STAND_IN} if name in _NEEDED_TEXT else left
    inner = value.get(name)
    if isinstance(inner, dict):
        return {**left, name: _without(inner, rest)}
    if isinstance(inner, list) and isinstance(rest[0], int) and len(rest) > 1 and rest[0] < len(inner):
        items = list(inner)
        items[rest[0]] = _without(items[rest[0]], rest[1:])
        return {**left, name: items}
    return left
