"""Signed checkpoints: C2SP tlog-checkpoint bodies in C2SP signed notes, by an Ed25519 key."""

import base64
import binascii
import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from gateway.errors import ConfigError, VerificationError

ORIGIN_PREFIX = "hearthgate.log/"
MAX_NOTE_BYTES = 16 * 1024
_ED25519 = b"\x01"  # the signature type of C2SP signed-note
_DASH = "\u2014 "
_HASH_BYTES = 32
_KEY_ID_BYTES = 4
_BODY_LINES = 3
_MAX_SIZE = 2**63
_PRIVATE = "PRIVATE+KEY+"


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
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:_KEY_ID_BYTES]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{_to_base64(_ED25519 + self.public)}"

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
        name = self.verifier.name
        body = f"{name}\n{size}\n{_to_base64(root)}\n"
        signature = self.verifier.key_id + self._private.sign(body.encode())
        return f"{body}\n{_DASH}{name} {_to_base64(signature)}\n"


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
    origin, size, root = lines[0], lines[1], _from_base64(lines[2])
    if not (size.isascii() and size.isdecimal()) or str(int(size)) != size or int(size) >= _MAX_SIZE:
        raise ValueError(f"`{size[:40]}` is not a size")
    if len(root) != _HASH_BYTES:
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
    blob = _from_base64(encoded)
    return name, blob[:_KEY_ID_BYTES], blob[_KEY_ID_BYTES:]


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
        blob = _from_base64(encoded)
    except ValueError:
        blob = b""
    key = VerifierKey(name=name, public=blob[1:])
    well_made = name and blob[:1] == _ED25519 and len(key.public) == _HASH_BYTES
    if not well_made or key.key_id.hex() != key_id:
        raise VerificationError("not a verifier key", way_out="give `name+hash+base64`, as in keys/log.pub")
    return key


def read_or_make_key(folder: Path) -> LogKey:
    """Read the key in `folder`, or make one if there is none; keep the public half beside it.

    Raises:
        ConfigError: the key cannot be believed.

    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    private, public = folder / "log.key", folder / "log.pub"
    if not private.exists():
        if public.exists():
            raise ConfigError(f"`{private}` is gone but `{public}` is there", way_out="put the key back")
        name = ORIGIN_PREFIX + secrets.token_hex(8)
        _write_private(private, name, secrets.token_bytes(_HASH_BYTES))
    key = _read_private(private)
    text = f"{key.verifier}\n"
    if not public.exists():
        public.write_text(text)
    elif public.read_text() != text:
        raise ConfigError(f"`{public}` is not the public half of `{private}`", way_out="put the right one back")
    return key


def _write_private(path: Path, name: str, seed: bytes) -> None:
    key_id = LogKey(name, seed).verifier.key_id.hex()
    line = f"{_PRIVATE}{name}+{key_id}+{_to_base64(_ED25519 + seed)}\n"
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:  # noqa: PTH123 # a descriptor made private from the start
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)


def _read_private(path: Path) -> LogKey:
    if path.stat().st_mode & 0o077:
        raise ConfigError(f"`{path}` can be read by others", way_out=f"chmod 600 {path}")
    name, _, rest = path.read_text(encoding="ascii", errors="replace").strip().removeprefix(_PRIVATE).partition("+")
    key_id, _, encoded = rest.partition("+")
    try:
        blob = _from_base64(encoded)
        key = LogKey(name, blob[1:])
    except ValueError:
        key = None
    if key is None or blob[:1] != _ED25519 or key.verifier.key_id.hex() != key_id:
        raise ConfigError(f"`{path}` is not a key of the log", way_out="put the right one back")
    return key


def _to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _from_base64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
    if _to_base64(data) != text:
        raise ValueError("not base64 as it is written once")
    return data
