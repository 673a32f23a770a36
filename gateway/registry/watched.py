"""The part of a plugin's folder that it wants to have watched: where it lies, and what it holds."""

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from gateway.errors import MalformedError, Place, Problem
from gateway.registry.folder import LEFT_OUT
from gateway.registry.manifest import MANIFEST_FILE

_MOST = 5000  # folders, and files, of one plugin
_READ_BYTES = 1 << 20


def check_watch_paths(folder: Path, watch_paths: Sequence[str]) -> None:
    """Refuse paths that lead out of a plugin's folder, by a link or otherwise.

    Raises:
        MalformedError: with the place of each such path in the manifest.
    """
    root = folder.resolve()
    problems = [
        Problem(
            place=Place(file=MANIFEST_FILE),
            message=f"sandbox_config.watch_paths[{index}]: `{path}` leads out of the plugin's folder",
        )
        for index, path in enumerate(watch_paths)
        if not (root / path).resolve().is_relative_to(root)
    ]
    if problems:
        raise MalformedError("the manifest is not valid", problems=problems)


def watched_folders(folder: Path, watch_paths: Sequence[str]) -> tuple[Path, ...]:
    """Give the folders whose entries are to be looked at: the plugin's own, and all at and below what it names."""
    found = {folder}
    for path in _inside(folder, watch_paths):
        if path.is_dir():
            found.update(_folders(path))
        else:
            found.add(path.parent)
        if len(found) > _MOST:
            break
    return tuple(sorted(each for each in found if each.is_dir()))[:_MOST]


def watched_files(folder: Path, watch_paths: Sequence[str], entry_point: str) -> tuple[Path, ...]:
    """Give the files that count: the manifest, the entry point, and all at and below what it names."""
    found = {folder / MANIFEST_FILE, folder / entry_point}
    for path in _inside(folder, watch_paths):
        if path.is_dir():
            found.update(Path(parent, name) for parent in _folders(path) for name in _names(parent))
        else:
            found.add(path)
        if len(found) > _MOST:
            break
    return tuple(sorted(found))[:_MOST]


def stamps(files: Sequence[Path]) -> tuple[object, ...]:
    """Give what the file system says of files; if it is the same as before they were not written meanwhile."""
    return tuple((str(each), *_state(each)) for each in files)


def content_of(folder: Path, files: Sequence[Path]) -> str:
    """Give a digest of files by their paths in a folder, of what kind each is, and of what it holds."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(os.fsencode(path.relative_to(folder)) + b"\0" + _content(path))
    return digest.hexdigest()


def _inside(folder: Path, watch_paths: Sequence[str]) -> Iterator[Path]:
    root = folder.resolve()
    for each in watch_paths:
        # SECURITY: looked at again each time, for a link may have been put there since the manifest was read.
        path = (root / each).resolve()
        if path.is_relative_to(root):
            yield folder / path.relative_to(root)


def _folders(top: Path) -> Iterator[Path]:
    for parent, below, _ in os.walk(top, followlinks=False):
        below[:] = sorted(name for name in below if name not in LEFT_OUT)
        yield Path(parent)


def _names(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(folder) if not entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _state(path: Path) -> tuple[int, ...]:
    try:
        state = path.lstat()
    except OSError:
        return ()
    return (state.st_mode, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)


def _content(path: Path) -> bytes:
    try:
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode):
            return b"other"
        digest = hashlib.sha256(b"x" if mode & stat.S_IXUSR else b"-")
        with path.open("rb") as file:
            while data := file.read(_READ_BYTES):
                digest.update(data)
        return digest.digest()
    except OSError:
        return b"none"
