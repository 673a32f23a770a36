"""Transfers as text: JSON Lines, or CSV that no spreadsheet takes for formulas."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from itertools import chain

from gateway.domain.cell import spell_cell
from gateway.domain.request import Json
from gateway.traffic.query import Row

COLUMNS = (
    *("started", "ended", "duration_ms", "plugin", "user", "op", "method", "host", "port", "path", "status"),
    *("bytes_out", "bytes_in", "outcome", "problem", "decision_id", "execution_id"),
)
MEDIA = {"jsonl": "application/jsonl", "csv": "text/csv"}
_LINES = 500  # of one piece


def export_chunks(rows: Iterable[Row], form: str) -> Iterator[bytes]:
    """Give rows in `form`, a key of `MEDIA`, piece by piece."""
    lines = _csv_lines(rows) if form == "csv" else _json_lines(rows)
    piece: list[str] = []
    for line in lines:
        piece.append(line)
        if len(piece) == _LINES:
            yield "".join(piece).encode()
            piece.clear()
    yield "".join(piece).encode()


def _json_lines(rows: Iterable[Row]) -> Iterator[str]:
    for row in rows:
        yield json.dumps({name: row[name] for name in COLUMNS}, separators=(",", ":")) + "\n"


def _csv_lines(rows: Iterable[Row]) -> Iterator[str]:
    line = io.StringIO()
    writer = csv.writer(line, lineterminator="\r\n")
    for cells in chain([[*COLUMNS]], ([_cell(row[name]) for name in COLUMNS] for row in rows)):
        writer.writerow(cells)
        yield line.getvalue()
        line.seek(0)
        line.truncate()


def _cell(value: Json) -> str:
    # SECURITY: a plugin chooses hosts and paths; what looks like a formula would be run by who opens the file.
    return spell_cell(value) if isinstance(value, str) else "" if value is None else str(value)
