"""A rules or roles file as lines of fields: what can be said of a line before its meaning is known."""

import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

from gateway.policy.encode import bracket_trouble
from gateway.policy.pauses import Pause, never, paced
from gateway.policy.problems import Problems

# Printable ASCII but for `"#'` and brackets: such a line holds nothing that could mislead; nor with brackets in pairs.
_ORDINARY = re.compile(r"[ !$%&*-Z\\^-~]*\Z")
_BRACKETED = re.compile(r"[ !$%&(-~]*\Z")
_PIECE = 1 << 18  # characters
BOM = b"\xef\xbb\xbf"


class Line(NamedTuple):
    """One record of a file, its fields as written but for the blanks around them."""

    file: str
    number: int
    fields: tuple[str, ...]


def read_text(file: str, data: bytes, problems: Problems) -> str | None:
    """Give the text of a file, None if it is none; a byte order mark is a problem but can be read over."""
    if data.startswith(BOM):
        problems.error(file, "begins with a byte order mark: save it as UTF-8 without BOM", 1)
        data = data[len(BOM) :]
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        problems.error(file, "not UTF-8: save the file as UTF-8", line, column)
        return None


def split_lines(file: str, data: bytes, problems: Problems, pause: Pause = never, *, first: int = 1) -> Iterator[Line]:
    """Give every record of a file whose characters can be believed, and note the others.

    `data` may be the end of a file that begins at line `first`.
    """
    text = read_text(file, data, problems)
    # WHY: not splitlines(), which ends lines where Casbin does not (form feeds, U+2028 ...).
    for number, raw in paced(enumerate(_lines(text or ""), first), pause):
        line = raw.removesuffix("\r")
        if not _ORDINARY.match(line) and not _is_sound(file, number, line, problems):
            continue
        if line and not line.isspace():
            yield Line(file, number, tuple(map(str.strip, line.split(","))))


def _lines(text: str) -> Iterator[str]:
    """Give the lines of a text, a piece at a time: nobody waits until all of a large one is taken apart."""
    start = 0
    while (end := text.find("\n", start + _PIECE)) >= 0:
        yield from text[start:end].split("\n")
        start = end + 1
    yield from text[start:].split("\n")


def _is_sound(file: str, number: int, line: str, problems: Problems) -> bool:
    """Tell whether a line is a record whose characters can be believed; if they cannot, say why."""
    if _BRACKETED.match(line) and bracket_trouble(line) is None:
        return True
    is_record = line.strip() != "" and not line.lstrip().startswith("#")
    if not _characters_are_plain(file, number, line, problems, is_record=is_record) or not is_record:
        return False
    fields = tuple(map(str.strip, line.split(",")))
    return _fields_are_plain(file, number, fields, problems) and _brackets_match(file, number, line, problems)


def _characters_are_plain(file: str, number: int, line: str, problems: Problems, *, is_record: bool) -> bool:
    if line.isascii() and line.isprintable():
        return True
    # SECURITY: a carriage return or a zero-width mark makes the line that a person sees another than the one in force.
    if line.isascii() and line.isprintable():
        return True
    hidden = {"Cc", "Cf", "Zl", "Zp", "Zs"} if is_record else {"Cc", "Zl", "Zp"}
    for column, char in enumerate(line, 1):
        if char not in " \t" and unicodedata.category(char) in hidden:
            problems.error(file, f"an invisible character (U+{ord(char):04X}): remove it", number, column)
            return False
    return True


def _fields_are_plain(file: str, number: int, fields: tuple[str, ...], problems: Problems) -> bool:
    plain = True
    for field in fields:
        if "#" in field:
            problems.error(file, "a comment is a line of its own: write `#` inside a value as %23", number)
            plain = False
        if '"' in field or field.startswith("'"):
            problems.error(file, "no quotes: values are written bare, a comma as %2C, a quote as %22 or %27", number)
            plain = False
        if "\t" in field:
            problems.error(file, "a tab inside a value: write it as %09", number)
            plain = False
    return plain


def _brackets_match(file: str, number: int, line: str, problems: Problems) -> bool:
    at = bracket_trouble(line)
    if at is None:
        return True
    problems.error(file, f"bracket `{line[at]}` has no partner: write it as %{ord(line[at]):02X}", number, at + 1)
    return False
