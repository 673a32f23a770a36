"""The manifest of an export: what a file holds, bound to the log by the record that says so.

When an export has ended the log records its SHA-256, size and counts. A manifest is that record with the proof that
it is in the log and a signed checkpoint, so that whoever has the log's public key can tell that a file is what the
gateway wrote, whatever its format.
"""

from typing import Any

from gateway.audit.checkpoint import parse_note
from gateway.audit.formats.written import Tally, Written
from gateway.audit.query import LogReader, Row
from gateway.domain.request import Json
from gateway.errors import NotFoundError

KIND = "hearthgate.export/1"
MEMBERS = (
    "format",
    "format_version",
    "compress",
    "redacted",
    "complete",
    "filters",
    "rows",
    "first_seq",
    "last_seq",
    "policy_versions",
    "bytes",
    "sha256",
)
NOT_PROVEN = (
    "a manifest proves that the gateway wrote this very file from its log; it does not prove row by row that the file "
    "agrees with the log, nor that no other record would have matched: export JSON Lines without filters for that"
)


def told(written: Written) -> dict[str, Json]:
    """Give what the record of an export's end says, but for its filters, which may name a person."""
    tally, manner = written.tally, written.manner
    return {
        **manner.as_json(),
        "format_version": manner.form.version,
        "complete": written.export.wanted.everything,
        "rows": tally.rows,
        "first_seq": tally.first_seq,
        "last_seq": tally.last_seq,
        "policy_versions": _versions(tally),
        "bytes": tally.size,
        "sha256": tally.sha256,
    }


def _versions(tally: Tally) -> list[Json]:
    return [*sorted(tally.policy_versions)]


def build_manifest(reader: LogReader, event_id: str, note: str) -> dict[str, Any]:
    """Make the manifest of the export with this event id, under a checkpoint of the log.

    Raises:
        NotFoundError: there is no such export, or it did not end.

    """
    end = next((row for row in reader.related(event_id) if row["event_type"] == "exported"), None)
    if end is None:
        raise NotFoundError(f"no export `{event_id[:80]}` that ended", way_out="ask when the file is complete")
    return _manifest(reader, end, note)


def _manifest(reader: LogReader, end: Row, note: str) -> dict[str, Any]:
    checkpoint = parse_note(note)
    _, index, proof = reader.inclusion(end["event_id"], checkpoint.size)
    line = reader.line(end["event_id"])
    if line is None:
        raise NotFoundError(f"no event `{end['event_id']}`")
    return {
        "manifest": KIND,
        "export": end["ref"],
        "exported_at": end["timestamp"],
        **{name: end["details"].get(name) for name in MEMBERS},
        "log": checkpoint.origin,
        "size": checkpoint.size,
        "root": checkpoint.root.hex(),
        "checkpoint": note,
        "rotations": reader.rotations(),
        "record": line.decode(),
        "record_seq": index + 1,
        "proof": [each.hex() for each in proof],
        "not_proven": NOT_PROVEN,
    }
