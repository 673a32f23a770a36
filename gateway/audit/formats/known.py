"""The formats there are, by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from gateway.audit.formats.cef import cef_line
from gateway.audit.formats.cloudevents import cloud_event
from gateway.audit.formats.comma import CommaTable
from gateway.audit.formats.lines import Lines
from gateway.audit.formats.ocsf import ocsf_lines
from gateway.audit.formats.opa import opa_line
from gateway.audit.formats.parquet import ParquetTable
from gateway.audit.formats.redaction import Row
from gateway.audit.formats.syslog import syslog_line
from gateway.errors import MalformedError

JSONL = "jsonl"


class Encoder(Protocol):
    """Writes an export: its begin, its rows some thousand at a time, its end."""

    def begin(self) -> bytes:
        """Give what stands before the first row."""

    def rows(self, rows: list[Row]) -> bytes:
        """Give what is ready when these rows were taken in."""

    def end(self) -> bytes:
        """Give what is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format; `encoder` is None for JSON Lines, whose lines the log spells itself."""

    name: str
    media_type: str
    version: int = 1  # of what we write, not of the format itself
    encoder: Callable[[str], Encoder] | None  # takes the name of the log
    in_lines: bool = True  # at least one line for each record


_ALL = (
    Format(name=JSONL, media_type="application/jsonl", encoder=None),
    Format(name="csv", media_type="text/csv; header=present", encoder=lambda _: CommaTable()),
    Format(
        name="parquet",
        media_type="application/vnd.apache.parquet",
        encoder=lambda _: ParquetTable(),
        in_lines=False,
    ),
    Format(name="ocsf", media_type="application/jsonl", encoder=lambda _: Lines(ocsf_lines)),
    Format(name="cef", media_type="text/plain", encoder=lambda _: Lines(cef_line)),
    Format(
        name="cloudevents",
        media_type="application/jsonl",
        encoder=lambda log: Lines(lambda row: cloud_event(row, log) + b"\n"),
    ),
    Format(name="opa", media_type="application/jsonl", encoder=lambda log: Lines(lambda row: opa_line(row, log))),
    Format(name="syslog", media_type="text/plain", encoder=lambda _: Lines(syslog_line)),
)
FORMATS = {each.name: each for each in _ALL}


def parse_format(name: str) -> Format:
    """Find a format.

    Raises:
        MalformedError: there is none of that name.

    """
    if name not in FORMATS:
        raise MalformedError(f"format: `{name[:80]}`", way_out=f"one of {', '.join(FORMATS)}")
    return FORMATS[name]
