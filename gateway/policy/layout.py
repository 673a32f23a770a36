"""Rules and roles laid out in columns; comments and everything that is no rule stay as they are."""

import difflib
from collections.abc import Sequence

from gateway.policy.rules import FIELDS
from gateway.policy.text import PolicyText

_WIDEST = 48  # a longer value sticks out instead of pushing every line apart
_HEADS = (FIELDS, ("g", "who", "the group or role"))


def lay_out(data: bytes) -> bytes:
    """Align the columns of a rules or roles file; what cannot be read as text is left alone."""
    try:
        lines = data.decode().split("\n")
    except UnicodeDecodeError:
        return data
    rows = [_cells(line.removesuffix("\r")) for line in lines]
    widths = _widths([row for row in rows if row is not None])
    told = [
        line if row is None else _line(row, widths) + "\r" * line.endswith("\r")
        for line, row in zip(lines, rows, strict=True)
    ]
    return "\n".join(told).encode()


def difference(before: PolicyText, after: PolicyText) -> str:
    """Give what changed as a unified diff, empty if nothing did."""
    paths = sorted({*before.files, *after.files})
    return "".join(
        line
        for path in paths
        if before.files.get(path) != after.files.get(path)
        for line in _unified(path, before.files.get(path), after.files.get(path))
    )


def _unified(path: str, before: bytes | None, after: bytes | None) -> list[str]:
    one, other = ((data or b"").decode(errors="backslashreplace").splitlines(keepends=True) for data in (before, after))
    names = [path if data is not None else "/dev/null" for data in (before, after)]
    found = difflib.unified_diff(one, other, names[0], names[1], n=1)
    return [line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in found]


def _cells(line: str) -> tuple[str, ...] | None:
    """Give the cells of a rule, a membership or the line that heads them; None for any other line."""
    fields = tuple(field.strip() for field in line.split(","))
    if fields[0] == "p" and len(fields) == len(FIELDS) + 1:
        return (f"p, {fields[1]}", *fields[2:])
    if fields[0] == "g" and len(fields) == 3:  # noqa: PLR2004 (member and whole)
        return fields
    if fields[0].startswith("#") and (fields[0][1:].strip(), *fields[1:]) in _HEADS:
        return fields
    return None


def _widths(rows: Sequence[tuple[str, ...]]) -> dict[tuple[int, int], int]:
    """Give the width of every column, by the number of columns and its own number."""
    widths: dict[tuple[int, int], int] = {}
    for row in rows:
        for number, cell in enumerate(row):
            if len(cell) <= _WIDEST:
                widths[len(row), number] = max(widths.get((len(row), number), 0), len(cell))
    return widths


def _line(row: tuple[str, ...], widths: dict[tuple[int, int], int]) -> str:
    padded = [f"{cell},".ljust(widths.get((len(row), number), 0) + 1) for number, cell in enumerate(row[:-1])]
    return " ".join([*padded, row[-1]])
