"""Which of a record's personal values are a person's, or name one."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from msgspec import Raw, json

from gateway.audit import canonical
from gateway.audit.leaf import DECISION, DETAILS, SALT_BYTES

Kept = tuple[str, bytes, str, str, str]  # names, salts, top, decision and details of a row of table `pii`
_ID = "A-Za-z0-9_@+-"
_NULL = "null"
_MAX_DECODED = 4  # spellings within spellings that are looked through
_members = json.Decoder(dict[str, Raw])
_names = json.Decoder(list[str])


class Mentions:
    """Finds a user's id in text, where it stands as a word of its own, spelt plainly or with percent signs."""

    def __init__(self, user: str) -> None:
        self.user = user
        # WHY: an id may have a dot in it, and a sentence ends with one.
        self._word = re.compile(rf"(?<![{_ID}])(?<![{_ID}]\.){re.escape(user)}(?![{_ID}])(?!\.[{_ID}])")

    def in_text(self, text: str) -> bool:
        """Tell whether `text` names the user."""
        return self._named(text) or any(map(self._named, _decoded(text)))

    def _named(self, text: str) -> bool:
        return self.user in text and self._word.search(text) is not None

    def in_value(self, value: object) -> bool:
        """Tell whether a JSON value names the user anywhere, the names of its members included."""
        if isinstance(value, str):
            return self.in_text(value)
        if isinstance(value, dict):
            return any(self.in_text(name) or self.in_value(each) for name, each in value.items())
        return isinstance(value, list) and any(map(self.in_value, value))

    def renamed(self, text: str, other: str) -> str:
        """Give `text` with another name in the user's place; one that spelt the name otherwise comes spelt plainly."""
        new = other.replace("\\", r"\\")
        for _ in range(_MAX_DECODED):
            plain = next((each for each in (text, *_decoded(text)) if self._named(each)), None)
            if plain is None:
                break
            text = self._word.sub(new, plain)
        return text


def _decoded(text: str) -> Iterator[str]:
    """Give a text with its percent signs resolved, again and again while there are any."""
    for _ in range(_MAX_DECODED):
        before, text = text, unquote(text) if "%" in text else text
        if text == before:
            return
        yield text


@dataclass(frozen=True, slots=True)
class _Values:
    """The personal values of a record, each as it is spelt, by its full name."""

    salts: dict[str, bytes]
    spelt: dict[str, str]

    def value(self, name: str) -> Any:  # noqa: ANN401 # any JSON value
        return canonical.decode(self.spelt[name]) if name in self.spelt else None


def what_goes(kept: Kept, mentions: Mentions) -> frozenset[str]:
    """Name the values of a row that go when a user is erased.

    All of a record of what the user did; all but the doer of a decision about the user; of others' records the
    values that name the user.
    """
    found = _values(kept)
    user = mentions.user
    if found.value("user_id") == user:
        return frozenset(found.salts)
    if found.value(f"{DECISION}user") == user or found.value(f"{DECISION}subject") == f"user:{user}":
        return frozenset(found.salts) - {"user_id"}
    return frozenset(name for name in found.salts if mentions.in_value(found.value(name)))


def without(kept: Kept, gone: Iterable[str]) -> Kept | None:
    """Give a row without some of its values, None if nothing is left of it."""
    lost, found = frozenset(gone), _values(kept)
    left = [name for name in found.salts if name not in lost]
    if not left:
        return None
    top = [f"{_quoted(name)}:{_NULL if name in lost else found.spelt[name]}" for name in ("user_id", "replay")]
    decision = [
        f"{_quoted(name[len(DECISION) :])}:{_NULL if name in lost else spelt}"
        for name, spelt in found.spelt.items()
        if name.startswith(DECISION)
    ]
    details = [
        f"{_quoted(name[len(DETAILS) :])}:{spelt}"
        for name, spelt in found.spelt.items()
        if name.startswith(DETAILS) and name not in lost
    ]
    return (
        ",".join(map(_quoted, left)),
        b"".join(found.salts[name] for name in left),
        ",".join(top),
        ",".join(decision),
        ",".join(details),
    )


def _values(kept: Kept) -> _Values:
    names, salts, *groups = kept
    listed = _names.decode(f"[{names}]")
    steps = range(0, len(salts), SALT_BYTES)
    spelt: dict[str, str] = {}
    for prefix, group in zip(("", DECISION, DETAILS), groups, strict=True):
        for name, raw in _members.decode(f"{{{group}}}").items():
            spelt[prefix + name] = bytes(raw).decode()
    return _Values(
        salts={name: salts[at : at + SALT_BYTES] for name, at in zip(listed, steps, strict=True)}, spelt=spelt
    )


def _quoted(name: str) -> str:
    return canonical.encode(name).decode()
