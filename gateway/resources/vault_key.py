"""The key that stored values are sealed with, kept beside the file and out of every plugin's reach."""

import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.errors import ConfigError, UnavailableError

FILE = "vault.key"
_KEY_BYTES = 32
_NONCE_BYTES = 12
_TAG_BYTES = 16


class VaultKey:
    """Seals with AES-256-GCM and names with HMAC-SHA-256, under keys derived for each use from one."""

    def __init__(self, key: bytes) -> None:
        self._naming = hmac.digest(key, b"hearthgate vault: names", "sha256")
        self._sealing = AESGCM(hmac.digest(key, b"hearthgate vault: values", "sha256"))

    @property
    def check(self) -> bytes:
        """What tells this key from another without telling it."""
        return self.tag("which key")

    def tag(self, *parts: str) -> bytes:
        """Give the 16 bytes under which `parts` are found; without the key they tell nothing."""
        text = b"".join(b"%d:%b" % (len(each), each) for each in (part.encode() for part in parts))
        return hmac.digest(self._naming, text, hashlib.sha256)[:_TAG_BYTES]

    def seal(self, plain: bytes, place: bytes) -> bytes:
        """Encrypt `plain`; it opens only at the same `place`."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._sealing.encrypt(nonce, plain, place)

    def open(self, sealed: bytes, place: bytes) -> bytes:
        """Decrypt what `seal` gave.

        Raises:
            UnavailableError: it was changed, moved, or sealed with another key.

        """
        try:
            return self._sealing.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place)
        except (InvalidTag, ValueError):
            raise UnavailableError("a stored value was changed outside the gateway, and cannot be read") from None


def make_vault_key(folder: Path) -> VaultKey:
    """Make a key in `folder`.

    Raises:
        ConfigError: it cannot be kept there.

    """
    path = folder / FILE
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123 # a descriptor made private from the start
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        new.rename(path)
    except OSError as error:
        raise ConfigError(f"the vault's key `{path}` cannot be made: {error.strerror}") from None
    return read_vault_key(folder)


def read_vault_key(folder: Path) -> VaultKey:
    """Read the key in `folder`.

    Raises:
        ConfigError: there is none that can be believed.

    """
    path = folder / FILE
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            key = file.read(_KEY_BYTES + 1)
    except OSError as error:
        way_out = "put the key back: without it nothing in the vault can be read"
        raise ConfigError(f"the vault's key `{path}` cannot be read: {error.strerror}", way_out=way_out) from None
    if mode & 0o077:
        raise ConfigError(f"the vault's key `{path}` can be read by others", way_out=f"chmod 600 {path}")
    if len(key) != _KEY_BYTES:
        raise ConfigError(f"`{path}` is not a key of {_KEY_BYTES} bytes", way_out="put the right one back")
    return VaultKey(key)
