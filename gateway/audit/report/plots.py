"""Plots as SVG inside the page: no script, no style of their own, each with its text alternative."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from gateway.domain.visible import clean

_WIDTH, _HEIGHT = 900, 190
_LEFT, _BOTTOM, _TOP = 52, 34, 10
_NAME_WIDTH, _ROW = 210, 22
_MAX_NAME = 30
_SHADES = 5


def text(value: object) -> str:
    """Give a value as it may stand in the page: nothing of it is markup, and nothing of it is hidden."""
    return escape(clean(str(value)), quote=True)


def over_time(parts: Sequence[Mapping[str, Any]], step: str) -> str:
    """Draw how many were allowed and denied in each part of a period, stacked."""
    most = max((part["allowed"] + part["denied"] for part in parts), default=0)
    scale = _nice(most)
    inner = _WIDTH - _LEFT - 8
    high = _HEIGHT - _BOTTOM - _TOP
    each = inner / max(1, len(parts))
    shapes = [_axis(scale, high, inner)]
    for number, part in enumerate(parts):
        left, below = _LEFT + number * each, _TOP + high
        for name in ("allowed", "denied"):
            tall = part[name] / scale * high
            if tall:
                below -= tall
                shapes.append(
                    f'<rect class="{name}" x="{left + each * 0.1:.1f}" y="{below:.1f}" '
                    f'width="{each * 0.8:.1f}" height="{tall:.1f}"/>'
                )
    labels = _labels([part["from"] for part in parts], each, step)
    summary = f"Decisions per {step}: at most {most} in one; the table below has the figures."
    return _svg("".join(shapes) + labels, _HEIGHT, summary)


def bars(rows: Sequence[Mapping[str, Any]], what: str) -> str:
    """Draw how many were allowed and denied for each name, most frequent first."""
    most = max((row["allowed"] + row["denied"] for row in rows), default=0) or 1
    inner = _WIDTH - _NAME_WIDTH - 150
    shapes = []
    for number, row in enumerate(rows):
        top = number * _ROW + 4
        yes, no = row["allowed"] / most * inner, row["denied"] / most * inner
        shapes.append(
            f'<text x="{_NAME_WIDTH - 8}" y="{top + 12}" text-anchor="end">{_name(row["name"])}</text>'
            f'<rect class="allowed" x="{_NAME_WIDTH}" y="{top}" width="{yes:.1f}" height="15"/>'
            f'<rect class="denied" x="{_NAME_WIDTH + yes:.1f}" y="{top}" width="{no:.1f}" height="15"/>'
            f'<text class="faint" x="{_NAME_WIDTH + yes + no + 6:.1f}" y="{top + 12}">'
            f"{row['allowed']:,} / {row['denied']:,}</text>"
        )
    names = ", ".join(f"{_name(row['name'])} {row['allowed']} allowed and {row['denied']} denied" for row in rows[:5])
    return _svg("".join(shapes), len(rows) * _ROW + 8, f"Decisions by {what}: {names}.")


def courses(rows: Sequence[Mapping[str, Any]], starts: Sequence[str], what: str, step: str) -> str:
    """Draw when each name was decided about: a row for each, darker where there was more."""
    most = max((count for row in rows for count in row["over_time"]), default=0) or 1
    inner = _WIDTH - _NAME_WIDTH - 8
    each = inner / max(1, len(starts))
    shapes = []
    for number, row in enumerate(rows):
        top = number * _ROW + 4
        shapes.append(f'<text x="{_NAME_WIDTH - 8}" y="{top + 12}" text-anchor="end">{_name(row["name"])}</text>')
        for at, count in enumerate(row["over_time"]):
            shade = -(-count * _SHADES // most)
            shapes.append(
                f'<rect class="shade{shade}" x="{_NAME_WIDTH + at * each:.1f}" y="{top}" '
                f'width="{max(0.6, each - 1):.1f}" height="16"/>'
            )
    below = len(rows) * _ROW + 8
    shapes.append(_moment(starts, 0, _NAME_WIDTH, below + 12, "start"))
    shapes.append(_moment(starts, len(starts) - 1, _WIDTH - 8, below + 12, "end"))
    return _svg("".join(shapes), below + 18, f"Decisions by {what}, per {step}: at most {most} in one field.")


def _svg(inside: str, height: float, summary: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{summary}"><title>{summary}</title>'
        f"{inside}</svg>"
    )


def _axis(scale: int, high: float, inner: float) -> str:
    lines = []
    for part in (0, 0.5, 1):
        at = _TOP + high * (1 - part)
        value = f"{scale * part:,.0f}" if scale > 1 or part != 0.5 else ""  # noqa: PLR2004 (the middle of the axis)
        lines.append(
            f'<line class="rule" x1="{_LEFT}" x2="{_LEFT + inner}" y1="{at:.1f}" y2="{at:.1f}"/>'
            f'<text class="faint" x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{value}</text>'
        )
    return "".join(lines)


def _labels(starts: Sequence[str], each: float, step: str) -> str:
    if not starts:
        return ""
    shown = sorted({0, len(starts) // 2, len(starts) - 1})
    spelt = "".join(_moment(starts, number, _LEFT + each * (number + 0.5), _HEIGHT - 16, "middle") for number in shown)
    return spelt + f'<text class="faint" x="{_WIDTH - 8}" y="{_HEIGHT - 2}" text-anchor="end">per {text(step)}</text>'


def _moment(starts: Sequence[str], number: int, x: float, y: float, anchor: str) -> str:
    if not starts:
        return ""
    at = text(starts[number][:16].replace("T", " "))
    if anchor == "middle":
        anchor, x = ("start", x - 4) if x < 100 else ("end", x + 4) if x > _WIDTH - 100 else (anchor, x)  # noqa: PLR2004 (half a label)
    return f'<text class="faint" x="{x:.1f}" y="{y:.0f}" text-anchor="{anchor}">{at}</text>'


def _name(name: object) -> str:
    spelt = clean(str(name)).replace("\n", " ")
    return escape(spelt if len(spelt) <= _MAX_NAME else spelt[: _MAX_NAME - 1] + "…", quote=True)


def _nice(most: int) -> int:
    """Give a round number that is not smaller."""
    power = 1
    while True:
        for factor in (1, 2, 3, 4, 6, 8):
            if factor * power >= most:
                return factor * power
        power *= 10
