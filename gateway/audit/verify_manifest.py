"""Verification of an exported file by its manifest: whatever the format, no home, no network."""

import hashlib
import json
from pathlib import Path
from typing import Any

from gateway.audit import canonical
from gateway.audit.checkpoint import Note, parse_note, parse_verifier
from gateway.audit.formats.manifest import KIND, MEMBERS, NOT_PROVEN
from gateway.audit.line import MAX_LINE_BYTES, Line, LineError
from gateway.audit.merkle import proves_inclusion
from gateway.audit.trust import KeyChain
from gateway.audit.verification import UNSIGNED_NOTE, Verification
from gateway.errors import VerificationError

_CHUNK = 1024 * 1024
_HASH_BYTES = 32
_TEXTS = ("format", "sha256", "checkpoint", "record")


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest.

    Raises:
        VerificationError: it cannot be read, or is none.

    """
    try:
        if path.stat().st_size > MAX_LINE_BYTES:
            raise VerificationError(f"`{path}` is too large to be a manifest")
        found = json.loads(path.read_text("utf-8"), object_pairs_hook=_once)
    except OSError as error:
        raise VerificationError(f"`{path}` cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise VerificationError(f"`{path}` is not a manifest: {error}") from error
    if type(found) is not dict or found.get("manifest") != KIND:
        raise VerificationError(f"`{path}` is not a manifest that this version knows, it knows `{KIND}`")
    if any(type(found.get(name)) is not str for name in _TEXTS):
        raise VerificationError(f"`{path}` is not a manifest: one of {', '.join(_TEXTS)} is missing")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member is given twice")
    return found


def verify_by_manifest(
    file: Path, manifest: dict[str, Any], *, key: str | None = None, since: str | None = None
) -> Verification:
    """Check that `file` is the one the manifest speaks of, and that the log says so under a signed checkpoint.

    Raises:
        VerificationError: the key, the older checkpoint or the manifest is none, or the file cannot be read.

    """
    verifier = None if key is None else parse_verifier(key)
    older = None if since is None else parse_note(since)
    note = parse_note(manifest["checkpoint"])
    result = Verification(unit="records", size=note.size, root=note.root.hex(), origin=note.origin)
    _check_bytes(file, manifest, result)
    told = _check_record(manifest, note, result)
    result.lines = told.get("rows") or 0
    result.first_seq, result.last_seq = told.get("first_seq"), told.get("last_seq")
    result.complete = told.get("complete") is True
    if verifier is None:
        result.notes.append(UNSIGNED_NOTE)
    elif note.origin != verifier.name or not KeyChain(verifier, _rotations(manifest)).signed(note):
        result.add(None, "the manifest's checkpoint is not signed by the key given")
    else:
        result.signer_checked = True
    if older is not None:
        _check_older(older, note, result)
    result.notes.append(NOT_PROVEN)
    return result


def _check_bytes(file: Path, manifest: dict[str, Any], result: Verification) -> None:
    digest, size = hashlib.sha256(), 0
    try:
        with file.open("rb") as opened:
            while chunk := opened.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
    except OSError as error:
        raise VerificationError(f"`{file}` cannot be read: {error.strerror}") from error
    if size != manifest.get("bytes"):
        result.add(None, f"the file has {size} bytes, the manifest speaks of {manifest.get('bytes')}")
    if digest.hexdigest() != manifest["sha256"]:
        result.add(None, "the file is not the one that was exported: its SHA-256 is another")


def _check_record(manifest: dict[str, Any], note: Note, result: Verification) -> dict[str, Any]:
    """Check that the log's own record says what the manifest says; give what the record says."""
    try:
        line = Line(manifest["record"].encode())
    except (LineError, UnicodeError) as error:
        result.add(None, f"the record in the manifest {error}")
        return {}
    told: dict[str, Any] = canonical.decode(bytes(line.details))
    if line.event_type != "exported" or "sha256" not in told:
        result.add(None, "the record in the manifest is not that of an export's end")
    for name in MEMBERS:
        if manifest.get(name) != told.get(name):
            result.add(None, f"the manifest's `{name}` is not what the log's record says")
    if not proves_inclusion(line.seq - 1, note.size, line.leaf, _hashes(manifest.get("proof")), note.root):
        result.add(None, "the record in the manifest is not in the log that its checkpoint speaks of")
    for name, value in (("size", note.size), ("root", note.root.hex()), ("log", note.origin)):
        if manifest.get(name) != value:
            result.add(None, f"the manifest's `{name}` is not its checkpoint's")
    return told


def _rotations(manifest: dict[str, Any]) -> list[Note]:
    told = manifest.get("rotations")
    if type(told) is not list or not all(type(each) is str for each in told):
        raise VerificationError("the manifest's `rotations` is no list of notes")
    return [parse_note(each) for each in told]


def _hashes(value: object) -> list[bytes]:
    try:
        found = [bytes.fromhex(each) for each in value] if type(value) is list else []
    except (ValueError, TypeError):
        return []
    return found if all(len(each) == _HASH_BYTES for each in found) else []


def _check_older(older: Note, note: Note, result: Verification) -> None:
    if older.origin != note.origin:
        result.add(None, f"the older checkpoint is of another log, `{older.origin}`")
    elif older.size > note.size:
        result.add(None, f"the older checkpoint speaks of {older.size} records, the manifest of {note.size}")
    elif older.size == note.size and older.root != note.root:
        result.add(None, "the older checkpoint has the same size and another root: history was rewritten")
    elif older.size < note.size:
        result.notes.append(
            "a manifest cannot be compared with an older checkpoint: a JSON Lines export without filters can"
        )
