"""The telling of a story whose every claim is checked."""

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

_INDENT = 2
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


class ClaimFailedError(Exception):
    """Something did not go as told."""


@dataclass
class Story:
    """Tells people what happens, keeps the facts for programs, and stops at the first claim that does not hold."""

    console: Console
    facts: list[dict[str, Any]] = field(default_factory=list)
    _chapter: str = ""

    def chapter(self, title: str) -> None:
        """Begin a chapter."""
        self._chapter = title
        number = len({fact["chapter"] for fact in self.facts}) + 1
        self.console.print()
        self.console.print(Text(f"{number}. {title}", style="bold cyan"))

    def tell(self, text: str) -> None:
        """Say what is done and why."""
        self._print(Text(shown(text)))

    def show(self, text: str, style: str = "dim") -> None:
        """Show a line as it was typed, sent, written or answered."""
        self._print(Text(shown(text), style=style), indent=2 * _INDENT)

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Show rows."""
        style = box.SIMPLE_HEAD if self.console.is_terminal else None
        table = Table(box=style, show_edge=False, pad_edge=False, padding=(0, 1 if style else 2, 0, 0))
        for name in head:
            table.add_column(name, overflow="fold")
        for row in rows:
            table.add_row(*(Text(shown(cell)) for cell in row))
        self._print(table, indent=2 * _INDENT)

    def check(self, claim: str, held: bool, **facts: Any) -> None:  # noqa: ANN401, FBT001 (any JSON value; reads as one)
        """Claim something and say whether it held.

        Raises:
            ClaimFailedError: it did not.

        """
        self.facts.append({"chapter": self._chapter, "claim": claim, "held": held, **facts})
        mark = Text("✓ ", style="green") if held else Text("✗ ", style="bold red")
        self._print(mark + Text(shown(claim)))
        if not held:
            self.show(json.dumps(facts, ensure_ascii=False, default=str), style="red")
            raise ClaimFailedError(claim)

    def end(self, text: str, *, well: bool) -> None:
        """Say how it ended."""
        self.console.print()
        self.console.print(Text(shown(text), style="bold green" if well else "bold red"))

    def _print(self, thing: Text | Table, indent: int = _INDENT) -> None:
        self.console.print(Padding.indent(thing, indent))


def shown(text: str) -> str:
    """Spell out control and invisible characters: plugins choose some of the texts told here."""
    return "".join(
        f"\\u{ord(char):04x}" if char != "\n" and unicodedata.category(char) in _UNSEEN else char for char in text
    )
