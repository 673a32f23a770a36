"""Verification of an exported file by itself: no home, no network, no trust in who sent it."""

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

from msgspec import Raw

from gateway.audit import canonical
from gateway.audit.checkpoint import Note, VerifierKey, parse_note, parse_verifier
from gateway.audit.chunk import Checked, check_file
from gateway.audit.line import MAX_LINE_BYTES, Line, LineError, parse_hashes
from gateway.audit.merkle import Frontier
from gateway.audit.sidecar import Sidecar
from gateway.audit.trust import KeyChain
from gateway.audit.verification import FILTERED_NOTE, UNSIGNED_NOTE, Verification
from gateway.errors import VerificationError

WORKERS_FROM_BYTES = 64 * 1024 * 1024  # what a process more or less takes to start is then little


def verify_file(
    path: Path, *, key: str | None = None, since: str | None = None, leaves: Path | None = None, jobs: int = 1
) -> Verification:
    """Check every line of an exported file against the signed checkpoint in its last line.

    `key` is the log's public key in its text form, `since` an older checkpoint of the same log: then the file
    must also continue what that one spoke of. `leaves` is the file of all leaves beside the export. More than one of
    `jobs` uses processes beside this one, if the file is large enough to be worth it.

    Raises:
        VerificationError: the key or the older checkpoint is none, or the file cannot be read.

    """
    verifier = None if key is None else parse_verifier(key)
    older = None if since is None else parse_note(since)
    if not path.is_file():
        raise VerificationError(f"`{path}` cannot be read: it is not a file")
    jobs = jobs if path.stat().st_size >= WORKERS_FROM_BYTES else 1
    try:
        with path.open("rb") as file:
            if leaves is None:
                return _Check(verifier, older).run(file, jobs)
            with leaves.open("rb") as beside:
                return _Check(verifier, older, beside).run(file, jobs)
    except OSError as error:
        raise VerificationError(f"`{error.filename or path}` cannot be read: {error.strerror}") from error


class _Check:
    """One verification under way."""

    def __init__(self, key: VerifierKey | None, older: Note | None, leaves: BinaryIO | None = None) -> None:
        self.key, self.older = key, older
        self.result = Verification()
        self.tree = Frontier()  # of the file's lines, or of the leaves beside it
        self.beside = None if leaves is None else Sidecar(leaves, lambda leaf: self._extend([leaf]))
        self.digest = hashlib.sha256()  # over the leaves of a filtered export, the last line's left out
        self.note: Note | None = None
        self.last: Line | None = None
        self.told: dict[str, object] = {}  # what the last line says of the file
        self.rotations: list[Note] = []
        self.wanted: list[int] = []  # sizes at which the root is compared with a note, the next one last
        self.roots: dict[int, bytes] = {}
        self.shown = 0  # lines whose leaf is the one beside the file
        self.begun = 0  # how many records came before the first that is kept
        self.bare = 0  # lines that lack a personal value
        self.expected = 1  # the next number in a whole export
        self.chain: KeyChain | None = None
        self.ended = False  # the line before had the checkpoint

    def run(self, file: BinaryIO, jobs: int) -> Verification:
        """Check the whole file; its last line comes first, for it says what the others must add up to."""
        result = self.result
        self._read_end(file)
        result.complete = self.told.get("complete") is True
        filtered = self.note is not None and not result.complete
        self.wanted = sorted({note.size for note in self._notes()}, reverse=True)
        if result.complete and self.beside is None:
            self._begin_behind(self.told)
        signed = (self.note.size, self.note.root) if self.note is not None and filtered else None
        for checked in check_file(file, signed, jobs):
            self.bare += checked.bare
            if not filtered and self.beside is None and self._follows(checked):
                self._grow_by(checked)
            else:
                self._take_singly(checked, filtered=filtered)
        self._check_end(filtered=filtered)
        return result

    def _notes(self) -> list[Note]:
        """Give the notes that speak of a beginning of the file."""
        return [*self.rotations, self.older] if self.older is not None else [*self.rotations]

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
        result = self.result
        result.first_seq = self.expected if result.first_seq is None else result.first_seq
        self._extend(checked.leaves)
        result.lines += len(checked.seqs)
        self.expected += len(checked.seqs)
        result.last_seq = self.expected - 1
        self.ended = bool(checked.checkpoints)

    def _extend(self, leaves: list[bytes]) -> None:
        """Add leaves to the tree, stopping where a root is wanted."""
        while self.wanted and self.wanted[-1] <= self.tree.size + len(leaves):
            split = self.wanted[-1] - self.tree.size
            if split > 0:
                self.tree.extend(leaves[:split])
                leaves = leaves[split:]
                self.roots[self.tree.size] = self.tree.root()
            self.wanted.pop()
        self.tree.extend(leaves)

    def _take_singly(self, checked: Checked, *, filtered: bool) -> None:
        result = self.result
        for place, (seq, leaf) in enumerate(zip(checked.seqs, checked.leaves, strict=True)):
            result.lines += 1
            number, problem = result.lines, checked.problems.get(place)
            if seq is None:
                result.add(number, problem or "is not a record")
                self.expected += 1
                continue
            if self.beside is not None and self.beside.leaf(seq) != leaf:
                result.add(number, "is not the record that the leaves beside the file have there")
            else:
                self.shown += 1
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
        self._read_rotations(line)
        self.result.size, self.result.root, self.result.origin = note.size, note.root.hex(), note.origin

    def _begin_behind(self, told: dict[str, object]) -> None:
        """Begin with the tree as it was before the first record that was kept, as the last line tells of it."""
        first, frontier = told.get("first", 1), told.get("frontier", [])
        try:
            hashes = parse_hashes(Raw(canonical.encode(frontier)))
        except LineError:
            hashes = []
        if type(first) is not int or first < 1 or len(hashes) != (first - 1).bit_count():
            self.result.add(None, "the last line does not tell what came before the first record")
            return
        # INVARIANT: the signed root covers this line, and only the true frontier adds up to it.
        self.begun = first - 1
        self.tree, self.expected = Frontier(first - 1, hashes), first
        if first == 1:
            return
        self.result.notes.append(f"the records 1 to {first - 1} are not in this file: they were dropped before")
        self.wanted = [size for size in self.wanted if size > self.begun]
        self.roots[self.begun] = self.tree.root()

    def _read_rotations(self, line: Line) -> None:
        """Read how the key was rotated, and which keys that makes believable."""
        try:
            self.rotations = [parse_note(text) for text in line.rotations]
        except VerificationError as error:
            self.result.add(None, f"a key rotation in the last line cannot be read: {error.message}")

    def _grow(self, number: int, seq: int, leaf: bytes) -> None:
        """Add a line of a whole export to the tree."""
        if seq != self.expected:
            place = "lines are missing before it" if seq > self.expected else "it was put in, repeated or moved"
            self.result.add(number, f"has seq {seq}, {self.expected} expected: {place}")
        self.expected = seq + 1
        if self.beside is None:
            self._extend([leaf])

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
        if self.beside is not None:
            self._check_beside(self.beside, self.note)
        if filtered:
            self._check_count()
        whole = self.beside is not None or not filtered
        if whole and (self.tree.size != self.note.size or self.tree.root() != self.note.root):
            result.add(None, self._no_sum())
        elif whole and any(
            self.roots.get(each.size) != each.root for each in self.rotations if each.size >= self.begun
        ):
            result.add(result.lines, "has a key rotation of another log")
        self._check_signer(self.note)
        self._check_older(self.note, filtered=filtered)

    def _check_beside(self, beside: Sidecar, note: Note) -> None:
        """Look whether the leaves are those of the log, and tell what of it the file shows."""
        result = self.result
        beside.finish(note.size)
        if beside.broken is not None:
            result.add(None, f"line {beside.broken} of the leaves is not 64 hex digits")
        if self.tree.size == note.size and self.tree.root() == note.root:
            shown = result.lines - len(result.findings)
            result.notes.append(
                f"the file shows {shown} of the {note.size} records that the log has; the leaves are its own"
            )

    def _no_sum(self) -> str:
        size = self.note.size if self.note else 0
        if self.beside is not None:
            return f"the {self.tree.size} leaves beside the file are not those of the {size} records of the log"
        if self.tree.size != size:
            return f"{self.tree.size - self.begun} good lines, but the checkpoint speaks of {size} records"
        agreed = (note.size for note in self._notes() if self.roots.get(note.size) == note.root)
        first = 1 + max(agreed, default=self.begun)
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
        key = self.key
        if key is None:
            self.result.notes.append(UNSIGNED_NOTE)
            return
        chain = self.chain = KeyChain(key, self.rotations)
        for place in chain.unproven:
            self.result.add(
                self.result.lines, f"has a key rotation, number {place + 1}, that its two keys did not sign"
            )
        if note.origin != key.name or not chain.reigns[-1].signed(note):
            self.result.add(self.result.lines, "has a checkpoint that is not signed by the key given")
        else:
            self.result.signer_checked = True

    def _check_older(self, note: Note, *, filtered: bool) -> None:
        older = self.older
        if older is None:
            return
        if self.chain is not None and not self.chain.signed(older):
            self.result.add(None, "the older checkpoint is not signed by the key given")
        if older.origin != note.origin:
            self.result.add(None, f"the older checkpoint is of another log, `{older.origin}`")
        elif older.size > note.size:
            message = f"the older checkpoint speaks of {older.size} records, this file of {note.size}"
            self.result.add(None, f"{message}: the log was cut short or replaced")
        elif filtered and self.beside is None and (older.size, older.root) != (note.size, note.root):
            message = (
                "a filtered export cannot be compared with an older checkpoint: give its leaves, or export everything"
            )
            self.result.add(None, message)
        elif not filtered and self.beside is None and 0 < older.size < self.begun:
            message = f"the older checkpoint speaks of {older.size} records, this file begins at {self.begun + 1}"
            self.result.add(None, f"{message}: compare with a checkpoint of {self.begun} records or more")
        elif (self.beside is not None or not filtered) and older.size and self.roots.get(older.size) != older.root:
            message = f"the first {older.size} lines are not the log that the older checkpoint speaks of"
            self.result.add(None, f"{message}: history was rewritten or replaced")


def _last_line(file: BinaryIO) -> bytes:
    size = file.seek(0, os.SEEK_END)
    length = min(size, MAX_LINE_BYTES + 1)
    file.seek(size - length)
    return file.read(length).removesuffix(b"\n").rpartition(b"\n")[2]
