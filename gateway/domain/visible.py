"""Text that others chose, made fit to be looked at."""

import unicodedata

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def clean(text: str) -> str:
    """Spell out control and invisible characters, but for ends of lines.

    SECURITY: plugins choose texts that end here; an escape sequence could repaint what a person reads.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_clean_char(char) for char in text)


def one_line(text: str) -> str:
    """Spell out control and invisible characters, and ends of lines.

    SECURITY: a text that broke the line could pass for a further line of the gateway's.
    """
    return clean(text).replace("\n", "\\n")


def _clean_char(char: str) -> str:
    if char == "\n" or unicodedata.category(char) not in _HIDDEN:
        return char
    return "\\" + f"x{ord(char):02x}" if ord(char) < 0x100 else f"\\u{ord(char):04x}"  # noqa: PLR2004 (one byte)
