"""The files of the log's key: the private half, the public half, and the public halves of the keys before it."""

import os
import secrets
from pathlib import Path

from gateway.audit.checkpoint import ED25519, HASH_BYTES, LogKey, from_base64, parse_verifier, to_base64
from gateway.errors import ConfigError, VerificationError

ORIGIN_PREFIX = "hearthgate.log/"
PRIVATE, PUBLIC, NEXT = "log.key", "log.pub", "log.next.key"
_MARK = "PRIVATE+KEY+"


def read_or_make_key(folder: Path) -> LogKey:
    """Read the key in `folder`, or make one if there is none; keep the public half beside it.

    Raises:
        ConfigError: the key cannot be believed.

    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    private, public = folder / PRIVATE, folder / PUBLIC
    if not private.exists():
        if public.exists():
            raise ConfigError(f"`{private}` is gone but `{public}` is there", way_out="put the key back")
        name = ORIGIN_PREFIX + secrets.token_hex(8)
        _write_private(private, name, secrets.token_bytes(HASH_BYTES))
    key = _read_private(private)
    text = f"{key.verifier}\n"
    told = public.read_text() if public.exists() else None
    if told is None or (told != text and _kept_file(folder, told).exists()):
        # WHY: a rotation was interrupted behind its last step but this one, or the public half is missing.
        _write(public, text, 0o644)
    elif told != text:
        raise ConfigError(f"`{public}` is not the public half of `{private}`", way_out="put the right one back")
    return key


def make_next_key(folder: Path, name: str) -> LogKey:
    """Make the key that `take_next_key` will put in the place of the one in use; it is durable."""
    key = LogKey(name, seed := secrets.token_bytes(HASH_BYTES))
    _write_private(folder / NEXT, name, seed)
    return key


def read_next_key(folder: Path) -> LogKey | None:
    """Read the key of a rotation that was begun, None if there is none.

    Raises:
        ConfigError: it cannot be believed.

    """
    return _read_private(folder / NEXT) if (folder / NEXT).exists() else None


def drop_next_key(folder: Path) -> None:
    """Forget a rotation that was begun and never recorded."""
    (folder / NEXT).unlink(missing_ok=True)


def take_next_key(folder: Path) -> None:
    """Put the next key in the place of the one in use, whose public half is kept.

    It can be interrupted anywhere: then it is done again, or `read_or_make_key` does the rest.
    """
    old, new = _read_private(folder / PRIVATE), _read_private(folder / NEXT)
    text = f"{old.verifier}\n"
    _write(_kept_file(folder, text), text, 0o644)
    (folder / NEXT).rename(folder / PRIVATE)
    _sync(folder)
    _write(folder / PUBLIC, f"{new.verifier}\n", 0o644)


def _kept_file(folder: Path, verifier: str) -> Path:
    """Where the public half of a key is kept that is no longer used."""
    try:
        return folder / f"log-{parse_verifier(verifier).key_id.hex()}.pub"
    except VerificationError:
        return folder / "log-.pub"


def _write_private(path: Path, name: str, seed: bytes) -> None:
    key_id = LogKey(name, seed).verifier.key_id.hex()
    _write(path, f"{_MARK}{name}+{key_id}+{to_base64(ED25519 + seed)}\n", 0o600)


def _write(path: Path, text: str, mode: int) -> None:
    """Put `text` into `path`, whole and durable or not at all; private from the start."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with open(descriptor, "w", encoding="ascii") as file:  # noqa: PTH123 # a descriptor made private from the start
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_private(path: Path) -> LogKey:
    if path.stat().st_mode & 0o077:
        raise ConfigError(f"`{path}` can be read by others", way_out=f"chmod 600 {path}")
    name, _, rest = path.read_text(encoding="ascii", errors="replace").strip().removeprefix(_MARK).partition("+")
    key_id, _, encoded = rest.partition("+")
    try:
        blob = from_base64(encoded)
        key = LogKey(name, blob[1:])
    except ValueError:
        key = None
    if key is None or blob[:1] != ED25519 or key.verifier.key_id.hex() != key_id:
        raise ConfigError(f"`{path}` is not a key of the log", way_out="put the right one back")
    return key
