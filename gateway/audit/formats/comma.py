"""CSV that no spreadsheet takes for a program.

RFC 4180, UTF-8, one header line, lines ended by CR LF. A line break never stands in a cell.
"""

import csv
import io
import re
from typing import Any

from gateway.audit.formats.flat import BOOLEANS, COLUMNS, JSON, cells
from gateway.audit.formats.redaction import Row
from gateway.audit.formats.spelling import read_controls, spell_controls

# SECURITY: a cell is a formula that begins with one of these; behind a delimiter too, for there another program may
# begin a cell. Full-width signs count for some.
_FORMULA = re.compile("(^|[,;|\"])([ \u00a0\u3000]*'*[=+\\-@\uff1d\uff0b\uff0d\uff20])")
_GUARDED = re.compile("(^|[,;|\"])([ \u00a0\u3000]*)'('*[=+\\-@\uff1d\uff0b\uff0d\uff20])")
_PLACED = re.compile("(^|[,;|\"])([ \u00a0\u3000]*)('*[=+\\-@\uff1d\uff0b\uff0d\uff20])")
# The same inside JSON, where a sign can be escaped and the text stays JSON; a bare negative number is left as it is.
_IN_JSON = re.compile(
    "(?<=[,;|\"])([ \u00a0\u3000]*'*)([=+@\uff1d\uff0b\uff0d\uff20]|-(?!\\d+(?:\\.\\d+)?(?:[eE][+-]?\\d+)?[,\\]}]))"
)
_TEXTS = [name not in BOOLEANS and name not in JSON for name in COLUMNS]
_JSONS = [name in JSON for name in COLUMNS]


def guard(text: str) -> str:
    """Put an apostrophe before what a spreadsheet would run."""
    return _PLACED.sub(r"\1\2'\3", text) if _FORMULA.search(text) else text


def read_cell(text: str) -> str:
    """Give back the text of a cell that is not JSON."""
    return read_controls(_GUARDED.sub(r"\1\2\3", text))


def _guard_json(text: str) -> str:
    return _IN_JSON.sub(lambda found: f"{found[1]}\\u{ord(found[2]):04x}", text)


class CommaTable:
    """Writes rows as CSV."""

    def begin(self) -> bytes:
        """Give the header line."""
        return (",".join(COLUMNS) + "\r\n").encode()

    def rows(self, rows: list[Row]) -> bytes:
        """Give a line for each row."""
        out = io.StringIO()
        csv.writer(out).writerows([_cells(row) for row in rows])
        return out.getvalue().encode()

    def end(self) -> bytes:
        """Give nothing: a table has no end."""
        return b""


def _cells(row: Row) -> list[Any]:
    return [
        value if type(value) is int else _cell(value, is_text=is_text, is_json=is_json)
        for value, is_text, is_json in zip(cells(row), _TEXTS, _JSONS, strict=True)
    ]


def _cell(value: object, *, is_text: bool, is_json: bool) -> str:
    if value is None:
        return ""
    if is_json:
        return _guard_json(_ascii_controls(str(value)))
    return guard(spell_controls(str(value))) if is_text else ("true" if value else "false")


def _ascii_controls(text: str) -> str:
    """Spell the controls that JSON may hold as they are; JSON reads them back by itself."""
    return text if text.isprintable() else "".join(each if each.isprintable() else _escape(each) for each in text)


def _escape(char: str) -> str:
    units = char.encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
