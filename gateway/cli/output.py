"""What is printed: one JSON document for programs, tables and sentences for people, errors on stderr."""

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import typer

from gateway.domain.visible import clean, one_line
from gateway.errors import HearthgateError

NOTHING = "-"
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table: its heading and the member of a row's JSON that it shows, dots going deeper."""

    head: str
    member: str
    right: bool = False
    whole: bool = False  # never folded, however narrow the terminal


def columns(**members: str) -> tuple[Column, ...]:
    """Give columns from `heading="member"`; `#member` is a number, `!member` is never folded."""
    return tuple(
        Column(
            head=head.replace("_", " "),
            member=member.lstrip("#!"),
            right=member.startswith("#"),
            whole=member.startswith(("#", "!")),
        )
        for head, member in members.items()
    )


def print_json(body: Any) -> None:  # noqa: ANN401 (any JSON value)
    """Print one JSON document on stdout."""
    typer.echo(json.dumps(body, indent=2, default=str).replace("\x7f", "\\u007f"))


def print_text(*lines: object) -> None:
    """Print lines on stdout, each on one line."""
    for line in lines:
        typer.echo(one_line(str(line)))


def print_block(text: str) -> None:
    """Print a text of many lines on stdout, as a difference or a signed note."""
    typer.echo(clean(text.removesuffix("\n")))


def print_stream(lines: Iterable[bytes]) -> None:
    """Write lines on stdout as they are; to a terminal only what cannot steer it."""
    for line in lines:
        if sys.stdout.isatty():
            typer.echo(clean(line.decode(errors="backslashreplace")), nl=False)
        else:
            sys.stdout.buffer.write(line)


def note(text: str) -> None:
    """Print a remark on stderr, on one line."""
    typer.echo(one_line(text), err=True)


def fail(error: HearthgateError, *, as_json: bool) -> int:
    """Print an error as a sentence on stderr (and as a document on stdout for programs); give the exit status."""
    if as_json:
        from gateway.client.problems import problem_of

        print_json(problem_of(error))
    head, *problems = error.lines
    for line in (f"hearthgate: {head}", *problems):
        note(line)
    if error.decision_id:
        note(f"decision: {error.decision_id}")
    return error.exit_status


def print_table(wanted: Sequence[Column], rows: Iterable[Mapping[str, Any]], *, empty: str) -> None:
    """Print rows as a table that fits a terminal, or as plain full-length columns anywhere else."""
    cells = [[cell_text(row, column.member) for column in wanted] for row in rows]
    if not cells:
        note(empty)
    elif sys.stdout.isatty():
        _print_rich_table(wanted, cells)
    else:
        _print_plain_table(wanted, cells)


def print_facts(body: Mapping[str, Any], wanted: Sequence[Column]) -> None:
    """Print the members of one thing, a line each; what it does not have is left out."""
    width = max(len(column.head) for column in wanted)
    for column in wanted:
        text = cell_text(body, column.member)
        if text != NOTHING:
            # SECURITY: set in, so that no line of a plugin's text can pass for a fact of the gateway's.
            typer.echo(f"{column.head:<{width}}  {text.replace(chr(10), chr(10) + ' ' * (width + 2))}")


def cell_text(row: Mapping[str, Any], member: str) -> str:
    """Give the text of a member of a row; `-` if it is missing or null, and moments (UTC) to the second."""
    value: Any = row
    for name in member.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    match value:
        case None | "" | []:
            return NOTHING
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(clean(str(entry)) for entry in value)
        case dict():
            return clean(json.dumps(value, ensure_ascii=False))
        case str() if _MOMENT.match(value):
            return value[:19].replace("T", " ")
        case _:
            return clean(str(value))


def _print_rich_table(wanted: Sequence[Column], cells: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for column in wanted:
        justify: Literal["left", "right"] = "right" if column.right else "left"
        table.add_column(column.head, justify=justify, overflow="fold", no_wrap=column.whole)
    for row in cells:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    Console().print(table)


_STYLES = {
    "allow": "green",
    "allowed": "green",
    "active": "green",
    "deny": "red",
    "denied": "red",
    "failed": "red",
    "revoked": "red",
    "suspended": "yellow",
    "pending": "yellow",
    "high": "yellow",
    "critical": "red",
}


def _print_plain_table(wanted: Sequence[Column], cells: Sequence[Sequence[str]]) -> None:
    cells = [[cell.replace("\n", ", ") for cell in row] for row in cells]
    widths = [max(len(column.head), *(len(row[at]) for row in cells)) for at, column in enumerate(wanted)]
    for row in ([column.head for column in wanted], *cells):
        padded = [
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(row, widths, wanted, strict=True)
        ]
        typer.echo("  ".join(padded).rstrip())
