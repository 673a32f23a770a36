"""CSV that no spreadsheet takes for a program.

RFC 4180, UTF-8, one header line, lines ended by CR LF. A line break never stands in a cell.
"""

import csv
import io
import re
from functools import lru_cache
from typing import Any

from gateway.audit.formats.flat import BOOLEANS, COLUMNS, INTEGERS, JSON, cells
from gateway.audit.formats.redaction import Row
from gateway.domain.cell import spell_cell

# SECURITY: inside JSON a sign can be escaped and the text stays JSON; a bare negative number is left as it is.
_IN_JSON = re.compile(
    "(?<=[,;|\"])([ \u00a0\u3000]*'*)([=+@\uff1d\uff0b\uff0d\uff20]|-(?!\\d+(?:\\.\\d+)?(?:[eE][+-]?\\d+)?[,\\]}]))"
)
# SECURITY: these alone are spelt by the gateway itself, in letters, digits, colons and hyphens that stand inside.
_OWN = frozenset({"event_id", "timestamp", "person", "ref", "decision_id", "decision_at", "leaf"})
_BOOLEANS_AT = [at for at, name in enumerate(COLUMNS) if name in BOOLEANS]
_JSON_AT = [at for at, name in enumerate(COLUMNS) if name in JSON]
_TEXTS_AT = [at for at, name in enumerate(COLUMNS) if name not in _OWN | BOOLEANS | JSON | INTEGERS]
_MAX_CACHED = 200


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
    made = cells(row)
    for at in _TEXTS_AT:
        text = made[at]
        if text:
            made[at] = _spell_kept(text) if len(text) <= _MAX_CACHED else spell_cell(text)
    for at in _JSON_AT:
        if made[at] is not None:
            made[at] = _guard_json(_ascii_controls(made[at]))
    for at in _BOOLEANS_AT:
        if made[at] is not None:
            made[at] = "true" if made[at] else "false"
    return made


_spell_kept = lru_cache(8192)(spell_cell)


def _ascii_controls(text: str) -> str:
    """Spell the controls that JSON may hold as they are; JSON reads them back by itself."""
    return text if text.isprintable() else "".join(each if each.isprintable() else _escape(each) for each in text)


def _escape(char: str) -> str:
    units = char.encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
