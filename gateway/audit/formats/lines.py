"""Formats that are a line for each record."""

from collections.abc import Callable

from gateway.audit.formats.redaction import Row


class Lines:
    """Writes rows with a function that gives the lines of one, each ended by a line break."""

    def __init__(self, spell: Callable[[Row], bytes]) -> None:
        self._spell = spell

    def begin(self) -> bytes:
        """Give nothing: lines have no head."""
        return b""

    def rows(self, rows: list[Row]) -> bytes:
        """Give the lines of each row."""
        return b"".join(map(self._spell, rows))

    def end(self) -> bytes:
        """Give nothing: lines have no end."""
        return b""
