"""A text of strangers as a cell of a table, which no spreadsheet takes for a program."""

import re

from gateway.domain.spelling import read_controls, spell_controls

# SECURITY: a cell is a formula that begins with one of these; behind a delimiter too, for there another program may
# begin a cell. Full-width signs count for some.
_FORMULA = re.compile("(^|[,;|\"])([ \u00a0\u3000]*'*[=+\\-@\uff1d\uff0b\uff0d\uff20])")
_GUARDED = re.compile("(^|[,;|\"])([ \u00a0\u3000]*)'('*[=+\\-@\uff1d\uff0b\uff0d\uff20])")
_PLACED = re.compile("(^|[,;|\"])([ \u00a0\u3000]*)('*[=+\\-@\uff1d\uff0b\uff0d\uff20])")


def spell_cell(text: str) -> str:
    """Spell control characters, and put an apostrophe before what a spreadsheet would run."""
    text = spell_controls(text)
    return _PLACED.sub(r"\1\2'\3", text) if _FORMULA.search(text) else text


def read_cell(text: str) -> str:
    """Give back the text that was spelt."""
    return read_controls(_GUARDED.sub(r"\1\2\3", text))
