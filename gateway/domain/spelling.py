"""Texts of strangers in formats that have characters of their own."""

import re

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]|\\\\u")
_CONTROL_BUT_BREAKS = re.compile("[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]|\\\\u")
_SPELT = re.compile(r"\\u([0-9a-f]{4})")


def spell_controls(text: str, *, breaks: bool = True) -> str:
    r"""Spell control characters, and line breaks unless `breaks` is false, as `\u001b`.

    SECURITY: an escape sequence could repaint a terminal, a line break could forge a line. A `\u` that was in the text
    becomes `\u005cu`, so that replacing every `\uXXXX` by its character gives the text back.
    """
    if text.isprintable() and "\\u" not in text:
        return text
    return (_CONTROL if breaks else _CONTROL_BUT_BREAKS).sub(_spell, text)


def read_controls(text: str) -> str:
    """Give back what `spell_controls` spelt."""
    return _SPELT.sub(lambda found: chr(int(found[1], 16)), text)


def _spell(found: re.Match[str]) -> str:
    text = found[0]
    return "\\u005cu" if text == "\\u" else f"\\u{ord(text):04x}"
