"""Where in a JSON text its members stand."""

import json
import re
from collections.abc import Iterator
from json.decoder import scanstring  # type: ignore[attr-defined] # there, and not in the stubs

_SPACE = re.compile(r"[ \t\n\r]*")
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")
_DECODER = json.JSONDecoder()


def line_of(text: str, path: str) -> int:
    """Give the line of what `path`, as `capabilities[0].name`, names in a valid JSON text, or of what would hold it."""
    at = _after_space(text, 0)
    for match in _STEP.finditer(path):
        wanted: str | int = match.group(1) if match.group(2) is None else int(match.group(2))
        found = next((place for name, place in _members(text, at) if name == wanted), None)
        if found is None:
            break
        at = found
    return text.count("\n", 0, at) + 1


def _members(text: str, at: int) -> Iterator[tuple[str | int, int]]:
    """Give the name and the place of each member of the object or list that begins at `at`."""
    opening, number = text[at : at + 1], 0
    if opening not in {"{", "["}:
        return
    at = _after_space(text, at + 1)
    while at < len(text) and text[at] not in "}]":
        name: str | int = number
        if opening == "{":
            name, at = scanstring(text, at + 1, True)  # noqa: FBT003 (its own signature)
            at = _after_space(text, _after_space(text, at) + 1)
        yield name, at
        _, at = _DECODER.raw_decode(text, at)
        at = _after_space(text, at)
        if text[at : at + 1] == ",":
            at = _after_space(text, at + 1)
        number += 1


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()
