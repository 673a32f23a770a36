"""Leaving personal values out of what is handed on, and saying so in their place."""

from collections.abc import Iterable
from typing import Any

from gateway.audit import canonical
from gateway.audit.leaf import DECISION, DETAILS
from gateway.errors import MalformedError

Row = dict[str, Any]
REDACTED = "[redacted]"
ERASED = "[erased]"
EVERY = "all"
FIELDS = ("user_id", "scope", "near_misses", "replay", "details")
_OF_NAME = {
    "user_id": "user_id",
    f"{DECISION}user": "user_id",
    f"{DECISION}subject": "user_id",
    f"{DECISION}scope": "scope",
    f"{DECISION}near_misses": "near_misses",
    "replay": "replay",
}


def parse_redaction(text: str | None) -> frozenset[str]:
    """Read the fields to leave out, as `user_id,scope`; `all` stands for all that can be.

    Raises:
        MalformedError: one of them cannot be left out.

    """
    wanted = [] if text is None else [each.strip() for each in text.split(",") if each.strip()]
    unknown = [each for each in wanted if each not in (*FIELDS, EVERY)]
    if unknown:
        raise MalformedError(
            f"{', '.join(f'`{each[:60]}`' for each in unknown)} cannot be redacted: the log commits to it in the open",
            way_out=f"one or more of {', '.join(FIELDS)}, or {EVERY}",
        )
    return frozenset(FIELDS if EVERY in wanted else wanted)


def field_of(name: str) -> str:
    """Give the field that a name under `personal` belongs to."""
    return _OF_NAME.get(name, "details")


def redact_line(line: bytes, fields: frozenset[str]) -> bytes:
    """Take values and their salts out of a line of JSON Lines, which still verifies: it lacks them, and says so."""
    row: Row = canonical.decode_exact(line)
    for name in row["personal"]:
        if field_of(name) in fields:
            row["salt"].pop(name, None)
            _put(row, name, None)
    return canonical.encode_in_order(row)


def mark(row: Row, fields: frozenset[str]) -> Row:
    """Put a marker where a personal value was left out or erased; gives the row itself.

    Its new members `masked` and `erased` name these values as they stand under `personal`.
    """
    masked: list[str] = []
    erased: list[str] = []
    for name, told in row["personal"].items():
        # WHY: a value that follows from the user has no salt of its own.
        holder = "user_id" if told.startswith("=") else name
        if field_of(name) in fields:
            masked.append(name)
            _put(row, name, REDACTED)
        elif holder not in row["salt"]:
            erased.append(name)
            _put(row, name, ERASED)
    row["masked"], row["erased"] = masked, erased
    return row


def _put(row: Row, name: str, value: str | None) -> None:
    if name.startswith(DETAILS):
        key = name.removeprefix(DETAILS)
        if value is None:
            row["details"].pop(key, None)
        else:
            row["details"][key] = value
    elif name.startswith(DECISION):
        row["decision"][name.removeprefix(DECISION)] = value
    else:
        row[name] = value


def pointers(names: Iterable[str]) -> list[str]:
    """Give names under `personal` as JSON pointers into the row."""
    return ["/" + name.replace("~", "~0").replace("/", "~1").replace(".", "/", 1) for name in names]
