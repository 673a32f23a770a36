"""To keep what a cell changed: from a layer of its own into the folder of the host that lies below it.

The layer is a plugin's work: nothing in it is followed or believed. Each file is replaced whole or not at all, as
`ctx.files` does it; what is neither a folder nor a plain file is left out and told.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from gateway.domain.permission import Kind
from gateway.domain.request import Json
from gateway.domain.scope import is_canonical
from gateway.errors import ConflictError, DeniedError, HearthgateError, TooLargeError
from gateway.resources.files import existing, put_in_place, sync_folder
from gateway.resources.views import View
from gateway.resources.walk import identity_of, open_folder, told

_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CHUNK = 1 << 18
_MOST_TOLD = 100
_MOST_DEEP = 64


@dataclass(slots=True)
class Kept:
    """What became of a layer: how much of it was kept, and the names of the first of it."""

    files: int = 0
    folders: int = 0
    removed: int = 0
    bytes: int = 0
    names: list[str] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)

    def as_json(self) -> dict[str, Json]:
        """Give the wire shape."""
        left: list[Json] = [{"path": path, "why": why} for path, why in self.left_out]
        return {
            "files": self.files,
            "folders": self.folders,
            "removed": self.removed,
            "bytes": self.bytes,
            "names": [*self.names],
            "left_out": left,
        }

    def note(self, path: str) -> None:
        """Note what was kept."""
        if len(self.names) < _MOST_TOLD:
            self.names.append(path)

    def leave_out(self, path: str, why: str) -> None:
        """Note what was not."""
        if len(self.left_out) < _MOST_TOLD:
            self.left_out.append((os.fsencode(path).decode("utf-8", "backslashreplace"), why))


def is_unchanged(layer: int) -> bool:
    """Tell whether nothing was changed."""
    return not _is_opaque(layer) and not _names(layer)


def keep_changes(layer: int, view: View, most_bytes: int) -> Kept:
    """Put the changes of the open `layer` into the folder that was shown, files of `most_bytes` in all.

    Raises:
        ConflictError: another folder lies there by now; nothing was changed.
    """
    keeping = _Keeping(view.path, view.identity[0], most_bytes)
    with open_folder(view.path) as found, told(view.path), _opened(".", found) as place:
        if identity_of(os.fstat(place)) != view.identity:
            raise ConflictError(f"`{view.path}` is another folder by now", way_out="call again")
        keeping.folder(layer, place, "", 0)
    return keeping.kept


class _Keeping:
    """One walk over a layer and the host's folder side by side, by open folders alone."""

    def __init__(self, path: Path, device: int, most_bytes: int) -> None:
        self._path = path
        self._device = device
        self._left = most_bytes
        self.kept = Kept()

    def folder(self, layer: int, place: int, path: str, depth: int) -> None:
        """Keep the changes of one folder and of those in it."""
        if depth > _MOST_DEEP:
            raise TooLargeError(f"more than {_MOST_DEEP} folders deep")
        names = _names(layer)
        if _is_opaque(layer):
            for name in sorted(set(_names(place)) - set(names)):
                with self._telling(_joined(path, name)):
                    self._remove(place, name, _joined(path, name))
        for name in names:
            with self._telling(_joined(path, name)):
                self._entry(layer, place, name, _joined(path, name), depth)
        sync_folder(place)

    @contextmanager
    def _telling(self, path: str) -> Iterator[None]:
        try:
            with told(self._path / path):
                yield
        except HearthgateError as error:
            self.kept.leave_out(path, error.message)

    def _entry(self, layer: int, place: int, name: str, path: str, depth: int) -> None:
        if not is_canonical(Kind.FILE, str(self._path / path)):
            # SECURITY: what no rule can name, no rule can forbid either.
            raise DeniedError("a name that no rule could speak of")
        status = os.stat(name, dir_fd=layer, follow_symlinks=False)
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            self._remove(place, name, path)
        elif stat.S_ISDIR(status.st_mode):
            self._inner(layer, place, name, path, depth)
        elif stat.S_ISREG(status.st_mode):
            self._file(layer, place, name, path, status)
        else:
            raise DeniedError("neither a folder nor a plain file")

    def _inner(self, layer: int, place: int, name: str, path: str, depth: int) -> None:
        there = _status(place, name)
        if there is not None and not stat.S_ISDIR(there.st_mode):
            self._remove(place, name, path)
            there = None
        if there is None:
            os.mkdir(name, 0o700, dir_fd=place)
            self.kept.folders += 1
            self.kept.note(path)
        with _opened(name, layer) as inner, _opened(name, place) as below:
            self._check_device(below)
            if there is None:
                _belong(below, place)
                os.fchmod(below, stat.S_IMODE(os.fstat(inner).st_mode) & 0o777)
            self.folder(inner, below, path, depth + 1)

    def _file(self, layer: int, place: int, name: str, path: str, status: os.stat_result) -> None:
        # SECURITY: by the length of the file, for one with holes takes less room in the cell than here.
        if status.st_size > self._left:
            raise TooLargeError("more than its manifest's `max_disk_mb` in all")
        there = _status(place, name)
        if there is not None and not stat.S_ISREG(there.st_mode):
            self._remove(place, name, path)
        before = existing(place, self._path / path)
        file = os.open(name, _FILE, dir_fd=layer)
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise DeniedError("neither a folder nor a plain file")
            put_in_place(place, name, _parts(file, status.st_size), _likeness(before, status, place))
        finally:
            os.close(file)
        self._left -= status.st_size
        self.kept.files += 1
        self.kept.bytes += status.st_size
        self.kept.note(path)

    def _remove(self, place: int, name: str, path: str) -> None:
        there = _status(place, name)
        if there is None:
            return
        if stat.S_ISDIR(there.st_mode):
            with _opened(name, place) as folder:
                self._check_device(folder)
                for each in _names(folder):
                    self._remove(folder, each, _joined(path, each))
            os.rmdir(name, dir_fd=place)
        else:
            os.unlink(name, dir_fd=place)
        self.kept.removed += 1
        self.kept.note(path)

    def _check_device(self, folder: int) -> None:
        # SECURITY: something was mounted there since it was judged.
        if os.fstat(folder).st_dev != self._device:
            raise DeniedError("it lies on another file system by now")


@contextmanager
def _opened(name: str, folder: int) -> Iterator[int]:
    opened = os.open(name, _FOLDER, dir_fd=folder)
    try:
        yield opened
    finally:
        os.close(opened)


def _names(folder: int) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries)


def _status(folder: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _belong(folder: int, outer: int) -> None:
    status = os.fstat(outer)
    if os.geteuid() == 0:
        os.fchown(folder, status.st_uid, status.st_gid)


def _likeness(before: os.stat_result | None, written: os.stat_result, folder: int) -> tuple[int, int, int]:
    """Give a file's owner, group and mode: those it had; a new one belongs to whom its folder does."""
    if before is not None:
        return before.st_uid, before.st_gid, stat.S_IMODE(before.st_mode)
    mode = stat.S_IMODE(written.st_mode) & 0o666
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid(), mode
    outer = os.fstat(folder)
    return outer.st_uid, outer.st_gid, mode


def _parts(file: int, size: int) -> Iterator[bytes]:
    left = size
    while left > 0 and (part := os.read(file, min(left, _CHUNK))):
        left -= len(part)
        yield part


def _is_opaque(folder: int) -> bool:
    for name in _OPAQUE:
        with suppress(OSError):
            if os.getxattr(folder, name) == b"y":
                return True
    return False


def _joined(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name
