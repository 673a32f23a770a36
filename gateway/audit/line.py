"""One line of an exported file, checked on its own: spelt as the log spells it, every value as committed."""

import hashlib
from typing import Any

import msgspec

from gateway.audit import canonical
from gateway.audit.leaf import DECISION, DETAILS, FORMAT, SALT_BYTES, commitment
from gateway.audit.merkle import leaf_hash

MAX_LINE_BYTES = 8 * 1024 * 1024
_HASH_BYTES = hashlib.sha256().digest_size
_TYPES: dict[str, type] = {"seq": int, "leaf": str, "personal": dict, "salt": dict, "details": dict}
_UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)


class LineError(Exception):
    """What is wrong with a line, as a person reads it."""


class Line:
    """A line that is true to itself: its values are the committed ones, its leaf is theirs."""

    __slots__ = ("bare", "checkpoint", "event_type", "leaf", "proof", "public_details", "seq")

    def __init__(self, text: bytes) -> None:
        """Read and check a line.

        Raises:
            LineError: it is not what the log wrote.

        """
        row = _read(text)
        self.seq: int = row["seq"]
        self.event_type: object = row.get("event_type")
        self.checkpoint: object = row.pop("checkpoint", None)
        self.proof: object = row.pop("proof", None)
        self.bare = len(row["salt"]) < len(row["personal"])
        leaf = row.pop("leaf")
        committed = _committed(row)
        self.public_details: dict[str, Any] = row["details"]
        self.leaf = leaf_hash(committed)
        if self.leaf.hex() != leaf:
            raise LineError("was changed: its content does not give its leaf")


def _read(text: bytes) -> dict[str, Any]:
    try:
        row = canonical.decode_exact(text)
        spelt = canonical.encode_in_order(row)
    except _UNREADABLE as error:
        raise LineError(f"cannot be read as JSON: {error}") from error
    if type(row) is not dict:
        raise LineError("is not a JSON object")
    if spelt != text:
        # SECURITY: a member given twice would be read differently by different programs.
        raise LineError("is not spelt as the log spells it: a member given twice, or spaces or escapes changed")
    for name, kind in _TYPES.items():
        if type(row.get(name)) is not kind:
            raise LineError(f"has no `{name}` of the right type")
    if row.get("v") != FORMAT:
        raise LineError(f"has a format that this version does not know, it knows {FORMAT}")
    return row


def _committed(row: dict[str, Any]) -> bytes:
    """Take the personal values out of `row`, checking each, and give what is left as the log committed to it."""
    personal, salts = row["personal"], row.pop("salt")
    places = {
        "user_id": row.pop("user_id", None),
        "replay": row.pop("replay", None),
    }
    if len(salts) > len(personal) or not salts.keys() <= personal.keys():
        raise LineError("has a salt for a value that was never committed")
    for name, committed in personal.items():
        value = _take(row, places, name)
        salt = salts.get(name)
        if salt is None:
            if value is not None:
                raise LineError(f"shows `{name}`, which was erased or left out, so nothing proves it")
        elif commitment(_salt_bytes(salt, name), name, canonical.encode(value)) != committed:
            raise LineError(f"was changed: `{name}` is not the value that was committed")
    for name, value in places.items():
        if value is not None:
            raise LineError(f"shows `{name}`, which was never committed")
    return canonical.encode(row)


def _take(row: dict[str, Any], places: dict[str, Any], name: str) -> object:
    if name in places:
        value: object = places[name]
        places[name] = None
        return value
    if name.startswith(DETAILS):
        return row["details"].pop(name.removeprefix(DETAILS), None)
    decision = row.get("decision")
    if name.startswith(DECISION) and type(decision) is dict:
        return decision.pop(name.removeprefix(DECISION), None)
    raise LineError("commits to a value that has no place in it")


def _salt_bytes(text: object, name: str) -> bytes:
    try:
        salt = bytes.fromhex(text) if type(text) is str else b""
    except ValueError:
        salt = b""
    if len(salt) != SALT_BYTES or salt.hex() != text:
        raise LineError(f"has a salt for `{name}` that is not {SALT_BYTES} bytes in hex")
    return salt


def parse_hashes(value: object) -> list[bytes]:
    """Read a proof.

    Raises:
        LineError: it is not a list of hashes.

    """
    try:
        hashes = [bytes.fromhex(text) for text in value] if type(value) is list else None
    except (ValueError, TypeError):
        hashes = None
    if hashes is None or any(len(each) != _HASH_BYTES for each in hashes):
        raise LineError("has no proof that can be read")
    return hashes
