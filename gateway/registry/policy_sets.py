"""Every policy that was ever in force, kept under the name of its content: a file once, a set as a list of files."""

import hashlib
import json
import os
from pathlib import Path

from gateway.policy.text import PolicyText

_IN_FORCE = "in-force"
_HEX = frozenset("0123456789abcdef")


class PolicySets:
    """The sets kept in a folder; what is read back is checked to be what its name says."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, text: PolicyText) -> None:
        """Keep a set; returns only once it would survive a power cut.

        Raises:
            OSError: it could not be written.
        """
        names = {}
        for path, data in text.files.items():
            names[path] = text.digest(path).hex()
            self._write(self._folder / "files" / names[path], data)
        self._write(self._list_of(text.version), json.dumps(names, indent=1).encode())

    def note_in_force(self, version: str) -> None:
        """Remember which set is in force.

        Raises:
            OSError: it could not be written.
        """
        self._replace(self._folder / _IN_FORCE, version.encode())

    def in_force(self) -> PolicyText | None:
        """Give the set that was put in force last, None if it is not there whole."""
        try:
            return self.read((self._folder / _IN_FORCE).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            return None

    def read(self, version: str) -> PolicyText | None:
        """Give a set, None if it is not there whole."""
        if not _is_version(version):
            return None
        try:
            names = json.loads(self._list_of(version).read_bytes())
            text = PolicyText({path: (self._folder / "files" / name).read_bytes() for path, name in names.items()})
        except (OSError, ValueError, AttributeError, TypeError):
            return None
        # SECURITY: whoever could change a kept file must not be able to choose what comes into force.
        return text if text.version == version else None

    def _list_of(self, version: str) -> Path:
        return self._folder / "sets" / version.removeprefix("sha256:")

    def _write(self, path: Path, data: bytes) -> None:
        try:
            if path.stat().st_size == len(data):
                return
        except FileNotFoundError:
            pass
        self._replace(path, data)

    def _replace(self, path: Path, data: bytes) -> None:
        for folder in (self._folder, path.parent):
            folder.mkdir(mode=0o700, exist_ok=True)
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123 (a descriptor has no path)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path)
        parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)


def _is_version(version: str) -> bool:
    kind, _, name = version.partition(":")
    return kind == "sha256" and len(name) == hashlib.sha256().digest_size * 2 and _HEX.issuperset(name)
