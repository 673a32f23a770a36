"""Signed checkpoints: C2SP tlog-checkpoint bodies in C2SP signed notes, by an Ed25519 key."""

import base64
import binascii
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from gateway.errors import VerificationError

MAX_NOTE_BYTES = 16 * 1024
ED25519 = b"\x01"  # the signature type of C2SP signed-note
_DASH = "\u2014 "
HASH_BYTES = 32
_KEY_ID_BYTES = 4
_BODY_LINES = 3
_MAX_SIZE = 2**63
_OLD_KEY, _NEW_KEY = "old-key ", "new-key "


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A checkpoint that was read: what it says of the tree, and who says so."""

    text: str
    body: bytes
    origin: str
    size: int
    root: bytes
    signatures: tuple[tuple[str, bytes, bytes], ...]  # name, key id, signature


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierKey:
    """A public key with the name it signs under; `str()` is the text form, `name+hash+base64`."""

    name: str
    public: bytes

    @property
    def key_id(self) -> bytes:
        """The first bytes of the hash that marks its signatures."""
        return hashlib.sha256(self.name.encode() + b"\n" + ED25519 + self.public).digest()[:_KEY_ID_BYTES]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{to_base64(ED25519 + self.public)}"

    def signed(self, note: Note) -> bool:
        """Tell whether a signature of `note` is this key's."""
        public = Ed25519PublicKey.from_public_bytes(self.public)
        for name, key_id, signature in note.signatures:
            if name == self.name and key_id == self.key_id:
                try:
                    public.verify(signature, note.body)
                except InvalidSignature:
                    return False
                return True
        return False


class LogKey:
    """The private key of a log, which signs its checkpoints; the log's origin is the key's name."""

    def __init__(self, name: str, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.verifier = VerifierKey(name=name, public=self._private.public_key().public_bytes_raw())

    def sign(self, size: int, root: bytes) -> str:
        """Give the signed note that the log has `size` records under `root`."""
        body = self._body(size, root)
        return f"{body}\n{self.signature(body)}"

    def sign_rotation(self, size: int, root: bytes, new: "LogKey") -> str:
        """Give the signed note with which this key hands over to `new`; both sign it."""
        body = f"{self._body(size, root)}{_OLD_KEY}{self.verifier}\n{_NEW_KEY}{new.verifier}\n"
        return f"{body}\n{self.signature(body)}{new.signature(body)}"

    def _body(self, size: int, root: bytes) -> str:
        return f"{self.verifier.name}\n{size}\n{to_base64(root)}\n"

    def signature(self, body: str) -> str:
        """Give the line that signs the body of a note."""
        signature = self.verifier.key_id + self._private.sign(body.encode())
        return f"{_DASH}{self.verifier.name} {to_base64(signature)}\n"


def parse_note(text: str) -> Note:
    """Read a checkpoint; whether to believe it is for `VerifierKey.signed` to say.

    Raises:
        VerificationError: it is not a checkpoint.

    """
    try:
        return _parse_note(text)
    except (ValueError, IndexError) as error:
        raise VerificationError(f"not a checkpoint: {error}") from error


def _parse_note(text: str) -> Note:
    if len(text) > MAX_NOTE_BYTES:
        raise ValueError("too long")
    body, blank, tail = text.rpartition("\n\n")
    if not blank or not tail.endswith("\n"):
        raise ValueError("no blank line before the signatures, or no line break behind them")
    lines = body.split("\n")
    if len(lines) < _BODY_LINES or not all(lines):
        raise ValueError("origin, size and root are three lines")
    origin, size, root = lines[0], lines[1], from_base64(lines[2])
    if not (size.isascii() and size.isdecimal()) or str(int(size)) != size or int(size) >= _MAX_SIZE:
        raise ValueError(f"`{size[:40]}` is not a size")
    if len(root) != HASH_BYTES:
        raise ValueError("the root is not 32 bytes")
    signatures = tuple(_parse_signature(line) for line in tail[:-1].split("\n"))
    return Note(
        text=text,
        body=(body + "\n").encode(),
        origin=origin,
        size=int(size),
        root=root,
        signatures=signatures,
    )


def _parse_signature(line: str) -> tuple[str, bytes, bytes]:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space or not name:
        raise ValueError("a signature line is a dash, a name and base64")
    blob = from_base64(encoded)
    return name, blob[:_KEY_ID_BYTES], blob[_KEY_ID_BYTES:]


def parse_rotation(note: Note) -> tuple[VerifierKey, VerifierKey] | None:
    """Read which key hands over to which, None if the note is of no rotation.

    Raises:
        VerificationError: it names something that is no key.

    """
    lines = note.body.decode().split("\n")[_BODY_LINES:-1]
    old = [line.removeprefix(_OLD_KEY) for line in lines if line.startswith(_OLD_KEY)]
    new = [line.removeprefix(_NEW_KEY) for line in lines if line.startswith(_NEW_KEY)]
    if len(old) != 1 or len(new) != 1:
        return None
    return parse_verifier(old[0]), parse_verifier(new[0])


def split_notes(text: str) -> list[str]:
    """Split a file of notes, each followed by an empty line; a torn end is left out."""
    parts = text.split("\n\n")
    return [f"{body}\n\n{tail}\n" for body, tail in zip(parts[::2], parts[1::2], strict=False) if body and tail]


def parse_verifier(text: str) -> VerifierKey:
    """Read a public key in its text form.

    Raises:
        VerificationError: it is not one.

    """
    name, _, rest = text.strip().partition("+")
    key_id, _, encoded = rest.partition("+")
    try:
        blob = from_base64(encoded)
    except ValueError:
        blob = b""
    key = VerifierKey(name=name, public=blob[1:])
    well_made = name and blob[:1] == ED25519 and len(key.public) == HASH_BYTES
    if not well_made or key.key_id.hex() != key_id:
        raise VerificationError("not a verifier key", way_out="give `name+hash+base64`, as in keys/log.pub")
    return key


def to_base64(data: bytes) -> str:
    """Spell bytes in base64."""
    return base64.b64encode(data).decode()


def from_base64(text: str) -> bytes:
    """Read base64 in the one way it is written.

    Raises:
        ValueError: it is not that.

    """
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
    if to_base64(data) != text:
        raise ValueError("not base64 as it is written once")
    return data
