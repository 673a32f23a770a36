"""The one spelling of a value inside a rule's line: read back the same by our parser and by stock Casbin."""

import re
import unicodedata
from collections.abc import Collection, Iterable

from gateway.errors import MalformedError

_NEEDS_CODE = frozenset(',%#"')
_BRACKETS = {")": "(", "]": "["}
_PLAIN = re.compile(r"[A-Za-z0-9_.:/@+*=-]*\Z")
_BRACKET = re.compile(r"[()\[\]]")
_CODE = re.compile(r"%([0-9A-Fa-f]{2})?")
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp", "Zs"})
_JOINS_TERMS = frozenset(";|<>=!()[]")
_LOOKS_LIKE_MORE = re.compile(r"[-\d.]|(?:true|false)\Z|(?:subject|resource|action|context|args)\.")


def encode_field(text: str) -> str:
    """Spell `text` so that it is one field of a rule's line.

    Raises:
        MalformedError: it holds half a character (a lone surrogate), which no file can hold.

    """
    if _PLAIN.match(text):
        return text
    odd = set("()[]") if _unbalanced(text) else set()
    last = len(text) - 1
    return "".join(
        _code(char) if char in odd or _is_odd(char, at_edge=i in {0, last}) else char for i, char in enumerate(text)
    )


def _is_odd(char: str, *, at_edge: bool) -> bool:
    if at_edge and char in " '":
        return True
    return char in _NEEDS_CODE or (char != " " and unicodedata.category(char) in _INVISIBLE)


def _code(char: str) -> str:
    try:
        return "".join(f"%{byte:02X}" for byte in char.encode())
    except UnicodeEncodeError:
        raise MalformedError("half a character (a lone surrogate)") from None


def decode_field(text: str) -> str:
    """Read what `encode_field` wrote.

    Raises:
        MalformedError: a `%` is not followed by two hexadecimal digits, or the bytes are no text.

    """
    if "%" not in text:
        return text
    pieces = []
    end = 0
    for found in _CODE.finditer(text):
        if found[1] is None:
            raise MalformedError(f"`{text[:80]}`: a `%` needs two hexadecimal digits", way_out="write `%` as %25")
        pieces += [text[end : found.start()].encode(), bytes.fromhex(found[1])]
        end = found.end()
    try:
        return (b"".join(pieces) + text[end:].encode()).decode()
    except UnicodeDecodeError:
        raise MalformedError(f"`{text[:80]}`: its %XX are not UTF-8") from None


def bracket_trouble(text: str) -> int | None:
    """Give the index of the first bracket without a partner, None if there is none."""
    opened: list[int] = []
    for found in _BRACKET.finditer(text):
        if found[0] in "([":
            opened.append(found.start())
        elif not opened or text[opened.pop()] != _BRACKETS[found[0]]:
            return found.start()
    return opened[0] if opened else None


def _unbalanced(text: str) -> bool:
    return bracket_trouble(text) is not None


def encode_literal(text: str) -> str:
    """Spell `text` as a literal of a comparison: never read as a number, a truth value or an attribute.

    Raises:
        MalformedError: it is empty or holds half a character.

    """
    if not text:
        raise MalformedError("an empty text cannot be compared with")
    coded = "".join(_code(char) if char in _JOINS_TERMS else char for char in encode_field(text))
    return _code(coded[0]) + coded[1:] if _LOOKS_LIKE_MORE.match(coded) else coded


def rule_line(fields: Iterable[str], *, why: str) -> str:
    """Give the line of a rule: `fields` are id, subject, kind, level, scope, condition and effect, already spelt.

    Only `why` is free text here; subject and scope are spelt with `encode_field` before, conditions as terms are.
    """
    return ", ".join(["p", *fields, encode_field(why)])


def add_lines(data: bytes, lines: Iterable[str]) -> bytes:
    """Put `lines` at the end of a rules file, whatever its last line ends with."""
    newline = b"" if not data or data.endswith(b"\n") else b"\n"
    return data + newline + b"".join(line.encode() + b"\n" for line in lines)


def drop_rules(data: bytes, ids: Collection[str]) -> bytes:
    """Take the lines of the rules `ids` out of a rules file and leave every other byte as it is."""
    return b"".join(line for line in data.splitlines(keepends=True) if _rule_id(line) not in ids)


def _rule_id(line: bytes) -> str | None:
    fields = line.split(b",", 2)
    if len(fields) < 3 or fields[0].strip() != b"p":  # noqa: PLR2004 (record type, id, the rest)
        return None
    return fields[1].strip().decode(errors="replace")
