"""Host files: read, listed and written without ever following a link or opening what is not a file."""

import os
import secrets
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from gateway.errors import DeniedError, MalformedError, TooLargeError
from gateway.resources.walk import Identity, identity_of, open_folder, open_regular, refuse_special, told

MAX_FILE_BYTES = 16 << 20
MAX_ENTRIES = 10_000
_ALWAYS_FORBIDDEN = tuple(Path(text) for text in ("/proc", "/sys", "/dev", "/run", "/var/run"))
_CHUNK = 1 << 18
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Files:
    """The host's files, but for those that are, contain or lie in a forbidden path.

    `resolve` and `is_forbidden` are asked before the decision and tell nothing of what exists; `read`,
    `list` and `write` take the resolved path that was decided on and check everything again on what
    they have opened. Methods block on the disk and may be called from any thread.
    """

    def __init__(self, forbidden: Sequence[Path]) -> None:
        named = (*_ALWAYS_FORBIDDEN, *(path.absolute() for path in forbidden))
        self._forbidden = tuple(dict.fromkeys(each for path in named for each in (path, path.resolve())))

    @property
    def forbidden(self) -> tuple[Path, ...]:
        """What no plugin ever gets, and what contains or lies in it."""
        return self._forbidden

    def resolve(self, path: str) -> Path:
        """Give the host path that `path` means, symbolic links followed; it need not exist.

        Raises:
            MalformedError: it is not an absolute path without `.`, `..`, empty segments and NUL.

        """
        if not path.startswith("/") or "\0" in path:
            raise MalformedError(f"`{path[:200]!s}` is not an absolute path")
        if any(part in {"", ".", ".."} for part in path[1:].split("/")) and path != "/":
            raise MalformedError(f"`{path[:200]}`: no `.`, `..` or empty segments in a path")
        try:
            # WHY: Path.resolve raises for a loop of links, which would tell that there is one.
            return Path(os.path.realpath(path))
        except (OSError, UnicodeEncodeError):
            raise MalformedError("a path that no file system has") from None

    def is_forbidden(self, path: Path) -> bool:
        """Tell whether the resolved `path` is, contains or lies in what no plugin ever gets."""
        return any(path.is_relative_to(each) or each.is_relative_to(path) for each in self._forbidden)

    def read(self, path: Path, max_bytes: int = MAX_FILE_BYTES) -> bytes:
        """Give the content of the regular file at the resolved `path`.

        A file with several hard links is read: telling them from the honest ones would take a search of
        the whole disk, and no plugin can make one (its folders are other mounts than the home).

        Raises:
            NotFoundError: there is none.
            DeniedError: it is not a regular file, or lies where no plugin gets.
            TooLargeError: it is longer than `max_bytes`.

        """
        self._refuse_forbidden(path)
        with (
            open_folder(path.parent, self._identities()) as folder,
            open_regular(folder, path.name, path) as file,
            told(path),
        ):
            if os.fstat(file).st_size > max_bytes:
                raise _too_large(path, max_bytes)
            return _read_all(file, path, max_bytes)

    def list(self, path: Path) -> list[str]:
        """Name the regular files and folders in the folder at the resolved `path`, in order.

        Raises:
            NotFoundError: there is none.
            DeniedError: it lies where no plugin gets.
            TooLargeError: it holds more than anyone would read.

        """
        self._refuse_forbidden(path)
        with open_folder(path, self._identities()) as folder, told(path):
            readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
            try:
                return _names(readable, path)
            finally:
                os.close(readable)

    def write(self, path: Path, data: bytes) -> None:
        """Put `data` in place of the file at the resolved `path`, or make it; whole or not at all.

        Raises:
            NotFoundError: its folder does not exist.
            DeniedError: what is there is not a regular file or has several names, or no plugin gets there.
            TooLargeError: `data` is too long.

        """
        if len(data) > MAX_FILE_BYTES:
            raise _too_large(path, MAX_FILE_BYTES)
        self._refuse_forbidden(path)
        with open_folder(path.parent, self._identities()) as folder, told(path):
            before = existing(folder, path)
            kept = None if before is None else (before.st_uid, before.st_gid, before.st_mode & 0o777)
            put_in_place(folder, path.name, [data], kept)
            sync_folder(folder)

    def _refuse_forbidden(self, path: Path) -> None:
        if not path.is_absolute() or ".." in path.parts or path == Path("/") or self.is_forbidden(path):
            raise DeniedError(f"`{path}` is never within a plugin's reach")

    def _identities(self) -> frozenset[Identity]:
        found = set[Identity]()
        for path in self._forbidden:
            with suppress(OSError):
                found.add(identity_of(path.stat()))
        return frozenset(found)


def _too_large(path: Path, max_bytes: int) -> TooLargeError:
    return TooLargeError(f"`{path}`: more than {max_bytes} bytes")


def _read_all(file: int, path: Path, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    left = max_bytes + 1
    while left > 0 and (part := os.read(file, min(left, _CHUNK))):
        parts.append(part)
        left -= len(part)
    if left <= 0:
        raise _too_large(path, max_bytes)  # it grew while it was read
    return b"".join(parts)


def _names(folder: int, path: Path) -> list[str]:
    names: list[str] = []
    with os.scandir(folder) as entries:
        for count, entry in enumerate(entries):
            if count >= MAX_ENTRIES:
                raise TooLargeError(f"`{path}` holds more than {MAX_ENTRIES} names")
            if entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False):
                names.append(entry.name)
    return sorted(name for name in names if name.isprintable())


def existing(folder: int, path: Path) -> os.stat_result | None:
    """Look at the file that is to be replaced, by its name in an open folder; None: there is none.

    Raises:
        DeniedError: it is not a regular file, or has several names.
        OSError: it is a symbolic link.
    """
    try:
        status = os.stat(path.name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    refuse_special(status, path)
    # SECURITY: one of its other names may lie where no plugin gets, or in what another one trusts.
    if status.st_nlink > 1:
        raise DeniedError(f"`{path}` has several hard links, and the others may lie anywhere")
    return status


def put_in_place(folder: int, name: str, parts: Iterable[bytes], kept: tuple[int, int, int] | None) -> None:
    """Put a file in place of the one of that name, whole or not at all; `kept`: its uid, gid and mode."""
    temporary = f".{secrets.token_hex(8)}.part"
    try:
        _write_new(folder, temporary, parts, kept)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise


def _write_new(folder: int, name: str, parts: Iterable[bytes], kept: tuple[int, int, int] | None) -> None:
    file = os.open(name, _NEW_FILE, 0o600, dir_fd=folder)
    try:
        for part in parts:
            view = memoryview(part)
            while view:
                view = view[os.write(file, view) :]
        if kept is not None:
            if kept[:2] != (os.geteuid(), os.getegid()):
                os.fchown(file, *kept[:2])
            # SECURITY: never setuid, setgid or sticky, whatever the file had.
            os.fchmod(file, kept[2] & 0o777)
        os.fsync(file)
    finally:
        os.close(file)


def sync_folder(folder: int) -> None:
    """Make the names in an open folder durable."""
    readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.fsync(readable)
    finally:
        os.close(readable)
