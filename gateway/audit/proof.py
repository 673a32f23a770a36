"""Proofs about the log, complete with the signed checkpoint that they lead to, and their reading."""

from dataclasses import dataclass
from typing import Any

from gateway.audit.checkpoint import Note, VerifierKey, from_base64, parse_note, to_base64
from gateway.audit.merkle import proves_consistency, proves_inclusion
from gateway.audit.query import LogReader
from gateway.audit.trust import KeyChain
from gateway.errors import VerificationError

TLOG_PROOF = "c2sp.org/tlog-proof@v1"
MAX_HASHES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Inclusion:
    """That the leaf with an index, counted from 0, is in the log that the checkpoint speaks of."""

    index: int
    leaf: bytes
    hashes: tuple[bytes, ...]
    checkpoint: str

    @property
    def text(self) -> str:
        """The C2SP tlog-proof."""
        lines = [TLOG_PROOF, f"index {self.index}", *map(to_base64, self.hashes)]
        return "\n".join(lines) + f"\n\n{self.checkpoint}"

    def as_json(self) -> dict[str, Any]:
        """Give the wire shape."""
        return {
            "seq": self.index + 1,
            "index": self.index,
            "leaf": self.leaf.hex(),
            "proof": [each.hex() for each in self.hashes],
            "checkpoint": self.checkpoint,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Consistency:
    """That the log of `old` records is the beginning of the one that the checkpoint speaks of."""

    old: int
    hashes: tuple[bytes, ...]
    checkpoint: str
    rotations: tuple[str, ...] = ()  # the notes with which keys handed over

    def as_json(self) -> dict[str, Any]:
        """Give the wire shape."""
        return {
            "old": self.old,
            "proof": [each.hex() for each in self.hashes],
            "checkpoint": self.checkpoint,
            "rotations": [*self.rotations],
        }


def prove_inclusion(reader: LogReader, event_id: str, checkpoint: str) -> Inclusion:
    """Prove that an event is in the log up to `checkpoint`.

    Raises:
        NotFoundError: there is no such event in it.

    """
    leaf, index, hashes = reader.inclusion(event_id, parse_note(checkpoint).size)
    return Inclusion(index=index, leaf=leaf, hashes=tuple(hashes), checkpoint=checkpoint)


def prove_consistency(reader: LogReader, old: int, checkpoint: str) -> Consistency:
    """Prove that the log of `old` records is the beginning of the one up to `checkpoint`.

    Raises:
        NotFoundError: the log is not that long.

    """
    hashes = reader.consistency(old, parse_note(checkpoint).size)
    return Consistency(old=old, hashes=tuple(hashes), checkpoint=checkpoint, rotations=tuple(reader.rotations()))


def read_tlog_proof(text: str) -> tuple[int, tuple[bytes, ...], Note]:
    """Read a C2SP tlog-proof: the index, the hashes and the checkpoint.

    Raises:
        VerificationError: it is none.

    """
    head, _, checkpoint = text.partition("\n\n")
    lines = head.split("\n")
    if len(lines) > 1 and lines[1].startswith("extra "):
        del lines[1]
    number = lines[1].removeprefix("index ") if len(lines) > 1 and lines[1].startswith("index ") else ""
    well_made = lines[0] == TLOG_PROOF and number.isascii() and number.isdecimal() and len(lines) <= MAX_HASHES + 2
    if not well_made or f"{int(number)}" != number:
        raise VerificationError("not a proof", way_out=f"a file that begins with {TLOG_PROOF}")
    try:
        hashes = tuple(map(from_base64, lines[2:]))
    except ValueError as error:
        raise VerificationError(f"not a proof: {error}") from error
    return int(number), hashes, parse_note(checkpoint)


def check_inclusion(text: str, leaf: bytes, key: VerifierKey | None) -> Note:
    """Check a tlog-proof against a leaf, and give the checkpoint that it leads to.

    Raises:
        VerificationError: it does not prove that the leaf is in a log of `key`.

    """
    index, hashes, note = read_tlog_proof(text)
    if key is not None and not (note.origin == key.name and key.signed(note)):
        raise VerificationError("the proof's checkpoint is not signed by the key given")
    if not proves_inclusion(index, note.size, leaf, hashes, note.root):
        raise VerificationError("the proof does not lead from this record to its checkpoint")
    return note


def check_consistency(old: Note, found: dict[str, Any], key: VerifierKey | None) -> Note:
    """Check what `Consistency.as_json` gave against an older checkpoint, and give the newer one.

    Raises:
        VerificationError: it does not prove that the log only grew.

    """
    try:
        hashes = [bytes.fromhex(each) for each in found["proof"]]
        note = parse_note(found["checkpoint"])
        chain = None if key is None else KeyChain(key, [parse_note(each) for each in found["rotations"]])
    except (LookupError, TypeError, ValueError) as error:
        raise VerificationError("not a proof of consistency") from error
    for each in (old, note):
        if chain is not None and not chain.signed(each):
            raise VerificationError(f"the checkpoint of {each.size} records is not signed by the key given")
    if old.origin != note.origin:
        raise VerificationError(f"the checkpoints are of two logs, `{old.origin}` and `{note.origin}`")
    if not proves_consistency(old.size, note.size, (old.root, note.root), hashes):
        raise VerificationError(
            f"the log of {note.size} records does not continue the one of {old.size}: history was rewritten"
        )
    return note
