"""Verification of an exported file by itself: no home, no network, no trust in who sent it."""

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from gateway.audit import canonical
from gateway.audit.checkpoint import Note, VerifierKey, parse_note, parse_verifier
from gateway.audit.chunk import MAX_PROBLEMS, Checked, check_file
from gateway.audit.line import MAX_LINE_BYTES, Line, LineError
from gateway.audit.merkle import Frontier
from gateway.errors import VerificationError

MAX_FINDINGS = MAX_PROBLEMS
UNSIGNED_NOTE = "the signer was not checked: without the log's key, whoever made this file may have made it all up"
FILTERED_NOTE = (
    "a filtered export proves that each line is in the log and that the file is as it was exported; "
    "it does not prove that no other record would have matched"
)
WORKERS_FROM_BYTES = 64 * 1024 * 1024  # what a process more or less takes to start is then little


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is wrong, and the line it is on; lines count from 1."""

    line: int | None
    message: str

    def __str__(self) -> str:
        return self.message if self.line is None else f"line {self.line} {self.message}"


@dataclass(slots=True, kw_only=True)
class Verification:
    """What a file proves, or why it proves nothing; the first finding is the first bad line."""

    lines: int = 0
    first_seq: int | None = None
    last_seq: int | None = None
    size: int | None = None
    root: str | None = None
    origin: str | None = None
    complete: bool = False  # the file holds every record up to its size
    signer_checked: bool = False
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    def add(self, line: int | None, message: str) -> None:
        """Note something wrong; beyond some, only the first ones are kept."""
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(line=line, message=message))

    def as_json(self) -> dict[str, object]:
        """Give the wire shape."""
        return {
            "ok": self.ok,
            "lines": self.lines,
            "first_seq": self.first_seq,
            "last_seq": self.last_seq,
            "size": self.size,
            "root": self.root,
            "origin": self.origin,
            "complete": self.complete,
            "signer_checked": self.signer_checked,
            "findings": [{"line": found.line, "message": found.message} for found in self.findings],
            "notes": self.notes,
        }


def verify_file(path: Path, *, key: str | None = None, since: str | None = None, jobs: int = 1) -> Verification:
    """Check every line of an exported file against the signed checkpoint in its last line.

    `key` is the log's public key in its text form, `since` an older checkpoint of the same log: then the file
    must also continue what that one spoke of. More than one of `jobs` uses processes beside this one, if the file is
    large enough to be worth it.

    Raises:
        VerificationError: the key or the older checkpoint is none, or the file cannot be read.

    """
    verifier = None if key is None else parse_verifier(key)
    older = None if since is None else parse_note(since)
    if not path.is_file():
        raise VerificationError(f"`{path}` cannot be read: it is not a file")
    try:
        with path.open("rb") as file:
            return _Check(verifier, older).run(file, jobs if path.stat().st_size >= WORKERS_FROM_BYTES else 1)
    except OSError as error:
        raise VerificationError(f"`{path}` cannot be read: {error.strerror}") from error


class _Check:
    """One verification under way."""

    def __init__(self, key: VerifierKey | None, older: Note | None) -> None:
        self.key, self.older = key, older
        self.result = Verification()
        self.tree = Frontier()
        self.digest = hashlib.sha256()  # over the leaves of a filtered export, the last line's left out
        self.note: Note | None = None
        self.last: Line | None = None
        self.told: dict[str, object] = {}  # what the last line says of the file
        self.older_root: bytes | None = None
        self.bare = 0  # lines that lack a personal value
        self.expected = 1  # the next number in a whole export
        self.ended = False  # the line before had the checkpoint

    def run(self, file: BinaryIO, jobs: int) -> Verification:
        """Check the whole file; its last line comes first, for it says what the others must add up to."""
        result = self.result
        self._read_end(file)
        result.complete = self.told.get("complete") is True
        filtered = self.note is not None and not result.complete
        signed = (self.note.size, self.note.root) if self.note is not None and filtered else None
        for checked in check_file(file, signed, jobs):
            self.bare += checked.bare
            if not filtered and self._follows(checked):
                self._grow_by(checked)
            else:
                self._take_singly(checked, filtered=filtered)
        self._check_end(filtered=filtered)
        return result

    def _follows(self, checked: Checked) -> bool:
        """Tell whether all lines are good and come next in a whole export."""
        count = len(checked.seqs)
        return (
            not checked.problems
            and not self.ended
            and checked.checkpoints in ([], [count - 1])
            and checked.seqs == list(range(self.expected, self.expected + count))
        )

    def _grow_by(self, checked: Checked) -> None:
        leaves, older = checked.leaves, self.older
        result = self.result
        result.first_seq = self.expected if result.first_seq is None else result.first_seq
        if older is not None and self.tree.size < older.size <= self.tree.size + len(leaves):
            split = older.size - self.tree.size
            self.tree.extend(leaves[:split])
            self.older_root, leaves = self.tree.root(), leaves[split:]
        self.tree.extend(leaves)
        result.lines += len(checked.seqs)
        self.expected += len(checked.seqs)
        result.last_seq = self.expected - 1
        self.ended = bool(checked.checkpoints)

    def _take_singly(self, checked: Checked, *, filtered: bool) -> None:
        result = self.result
        for place, (seq, leaf) in enumerate(zip(checked.seqs, checked.leaves, strict=True)):
            result.lines += 1
            number, problem = result.lines, checked.problems.get(place)
            if seq is None:
                result.add(number, problem or "is not a record")
                self.expected += 1
                continue
            if filtered:
                self._take(number, seq, leaf)
            else:
                self._grow(number, seq, leaf)
            if problem is not None:
                result.add(number, problem)
            if self.ended:
                result.add(number, "stands behind the line with the checkpoint, which is the last")
            self.ended = place in checked.checkpoints
            result.first_seq = seq if result.first_seq is None else result.first_seq
            result.last_seq = seq

    def _read_end(self, file: BinaryIO) -> None:
        text = _last_line(file)
        try:
            line = Line(text)
        except LineError:
            return  # said when its turn comes
        if line.event_type != "exported" or line.checkpoint is None:
            return
        try:
            note = parse_note(line.checkpoint)
        except VerificationError as error:
            self.result.add(None, f"the checkpoint in the last line cannot be read: {error.message}")
            return
        self.note, self.last, self.told = note, line, canonical.decode(line.details)
        self.result.size, self.result.root, self.result.origin = note.size, note.root.hex(), note.origin

    def _grow(self, number: int, seq: int, leaf: bytes) -> None:
        """Add a line of a whole export to the tree."""
        if seq != self.expected:
            place = "lines are missing before it" if seq > self.expected else "it was put in, repeated or moved"
            self.result.add(number, f"has seq {seq}, {self.expected} expected: {place}")
        self.expected = seq + 1
        self.tree.push(leaf)
        if self.older is not None and self.tree.size == self.older.size:
            self.older_root = self.tree.root()

    def _take(self, number: int, seq: int, leaf: bytes) -> None:
        """Add a line of a filtered export to the sum."""
        before = self.result.last_seq
        if before is not None and seq <= before:
            self.result.add(number, f"has seq {seq} behind {before}: lines were swapped or repeated")
        if self.last is not None and seq != self.last.seq:
            self.digest.update(leaf)

    def _check_end(self, *, filtered: bool) -> None:
        result = self.result
        if self.bare:
            result.notes.append(f"{self.bare} lines lack personal values that were committed: erased, or left out")
        if self.note is None or self.last is None:
            result.add(result.lines or None, "is the last and has no checkpoint: the file was cut short")
            return
        if self.last.seq != self.note.size:
            result.add(result.lines, f"is number {self.last.seq}, its checkpoint speaks of {self.note.size} records")
        if filtered:
            self._check_count()
        elif self.tree.size != self.note.size or self.tree.root() != self.note.root:
            result.add(None, self._no_sum())
        self._check_signer(self.note)
        self._check_older(self.note, filtered=filtered)

    def _no_sum(self) -> str:
        size = self.note.size if self.note else 0
        if self.tree.size != size:
            return f"{self.tree.size} good lines, but the checkpoint speaks of {size} records"
        agreed = self.older is not None and self.older_root == self.older.root
        first = self.older.size + 1 if agreed and self.older else 1
        return f"the lines do not add up to the checkpoint: one of the lines {first} to {size} was changed and rehashed"

    def _check_count(self) -> None:
        told, digest = self.told.get("rows"), self.told.get("leaves_sha256")
        if told != self.result.lines - 1 or digest != self.digest.hexdigest():
            message = f"{self.result.lines - 1} lines, {told} were exported: some were taken out or put in"
            if told == self.result.lines - 1:
                message = "the lines are not the ones that were exported"
            self.result.add(None, message)
        self.result.notes.append(FILTERED_NOTE)

    def _check_signer(self, note: Note) -> None:
        if self.key is None:
            self.result.notes.append(UNSIGNED_NOTE)
        elif note.origin != self.key.name or not self.key.signed(note):
            self.result.add(self.result.lines, "has a checkpoint that is not signed by the key given")
        else:
            self.result.signer_checked = True

    def _check_older(self, note: Note, *, filtered: bool) -> None:
        older = self.older
        if older is None:
            return
        if self.key is not None and not self.key.signed(older):
            self.result.add(None, "the older checkpoint is not signed by the key given")
        if older.origin != note.origin:
            self.result.add(None, f"the older checkpoint is of another log, `{older.origin}`")
        elif older.size > note.size:
            message = f"the older checkpoint speaks of {older.size} records, this file of {note.size}"
            self.result.add(None, f"{message}: the log was cut short or replaced")
        elif filtered and (older.size, older.root) != (note.size, note.root):
            self.result.add(None, "a filtered export cannot be compared with an older checkpoint: export everything")
        elif not filtered and older.size and self.older_root != older.root:
            message = f"the first {older.size} lines are not the log that the older checkpoint speaks of"
            self.result.add(None, f"{message}: history was rewritten or replaced")


def _last_line(file: BinaryIO) -> bytes:
    size = file.seek(0, os.SEEK_END)
    length = min(size, MAX_LINE_BYTES + 1)
    file.seek(size - length)
    return file.read(length).removesuffix(b"\n").rpartition(b"\n")[2]
