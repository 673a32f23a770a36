"""Plugin folders: a manifest and code, copied into a store that is named by its content."""

import hashlib
import json
import math
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.domain.request import Json
from gateway.errors import MalformedError, NotFoundError, Place, Problem
from gateway.registry.manifest import MANIFEST_FILE

BUILDING, _LEAVING = ".building-", ".leaving-"
_MAX_FILES = 5000
_MAX_BYTES = 64 << 20
MAX_MANIFEST_BYTES = 1 << 20
LEFT_OUT = frozenset({"__pycache__", ".git", ".venv", ".pytest_cache", ".mypy_cache", ".ruff_cache"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginFolder:
    """One reading of a plugin's folder; `digest` names its files, modes and bytes."""

    manifest: Json | None  # None: the folder has no manifest.json
    files: tuple[tuple[str, bool, bytes], ...]  # relative path, executable, content; by path
    digest: str


def read_plugin_folder(folder: Path) -> PluginFolder:
    """Read a plugin's folder once.

    Raises:
        NotFoundError: there is no such folder.
        MalformedError: it holds a link, a device, too much, or a manifest.json that is large or not JSON.
    """
    if not folder.is_dir() or folder.is_symlink():
        raise NotFoundError(f"there is no folder `{folder}`")
    _refuse_open_folders(folder.resolve())
    files = tuple(sorted(_files(folder)))
    digest = hashlib.sha256()
    for path, executable, content in files:
        digest.update(f"{len(path.encode())} {path} {int(executable)} {len(content)}\n".encode())
        digest.update(content)
    manifest = next((content for path, _, content in files if path == MANIFEST_FILE), None)
    if manifest is not None and len(manifest) > MAX_MANIFEST_BYTES:
        raise MalformedError(f"`{MANIFEST_FILE}` has more than {MAX_MANIFEST_BYTES >> 20} MiB")
    return PluginFolder(
        manifest=None if manifest is None else parse_json_strictly(manifest, MANIFEST_FILE),
        files=files,
        digest=f"sha256:{digest.hexdigest()}",
    )


def parse_json_strictly(raw: bytes, name: str) -> Json:
    """Take bytes as JSON, refusing what two readers could read differently: duplicate members, NaN, half a character.

    Raises:
        MalformedError: with the line and column.
    """
    try:
        value: Json = _DECODER.decode(raw.decode("utf-8"))
        if b"\\u" in raw:
            # SECURITY: half a character (a lone surrogate) can be kept in no file and no log.
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except json.JSONDecodeError as error:
        place = Place(file=name, line=error.lineno, column=error.colno)
        raise MalformedError(f"`{name}` is not JSON", problems=[Problem(place=place, message=error.msg)]) from None
    except (UnicodeError, RecursionError, ValueError) as error:
        reason = str(error) if type(error) is ValueError else type(error).__name__
        raise MalformedError(f"`{name}` is not JSON: {reason}") from None
    return value


def _once(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the member `{twice[:80]}` is given twice")
    return members


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"`{text[:80]}` is larger than any number")
    return number


def _no_constant(text: str) -> Json:
    raise ValueError(f"`{text}` is not a JSON number")


_DECODER = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_constant, parse_float=_finite)


def _refuse_open_folders(folder: Path) -> None:
    # SECURITY: who may write above a file can put another one in its place; only a folder like /tmp prevents that.
    for each in (folder, *folder.parents):
        mode = each.stat().st_mode
        if mode & stat.S_IWOTH and (each == folder or not mode & stat.S_ISVTX):
            raise MalformedError(f"the folder `{each}` can be written by everybody", way_out=f"chmod o-w {each}")


def _files(folder: Path) -> Iterator[tuple[str, bool, bytes]]:
    count = size = 0
    for parent, folders, names in os.walk(folder, followlinks=False):
        folders[:] = sorted(name for name in folders if name not in LEFT_OUT)
        for name in [*names, *folders]:
            path = Path(parent, name)
            mode = path.lstat().st_mode
            relative = path.relative_to(folder).as_posix()
            _check_name(relative)
            if stat.S_ISDIR(mode) and not mode & stat.S_IWOTH:
                continue
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                # SECURITY: a link or a device would put something else into the sandbox than what was looked at.
                raise MalformedError(f"plugin file `{relative}` is not a regular file")
            if mode & stat.S_IWOTH:
                raise MalformedError(f"plugin file `{relative}` can be written by everybody", way_out="chmod o-w it")
            content = _read_regular(path)
            count, size = count + 1, size + len(content)
            if count > _MAX_FILES or size > _MAX_BYTES:
                raise MalformedError(
                    f"the plugin has more than {_MAX_FILES} files or {_MAX_BYTES >> 20} MiB", way_out="ship less"
                )
            yield relative, bool(mode & stat.S_IXUSR), content


def _check_name(relative: str) -> None:
    try:
        relative.encode("utf-8")
    except UnicodeEncodeError:
        spelt = os.fsencode(relative).decode("utf-8", "backslashreplace")
        problem = Problem(place=Place(file=spelt), message="its name is not UTF-8: rename it")
        raise MalformedError("the plugin has a file whose name is not UTF-8", problems=[problem]) from None


def _read_regular(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise MalformedError(f"plugin file `{path.name}` is not a regular file")
        return file.read(_MAX_BYTES + 1)


def store_snapshot(folder: PluginFolder, store: Path) -> Path:
    """Write a folder's files below `store`, named by the digest, and give the path; what is there already stays.

    The copy is read-only and complete, or it is not there: it appears by one rename.
    """
    target = snapshot_path(store, folder.digest)
    if target.is_dir():
        return target
    store.mkdir(mode=0o755, parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=BUILDING, dir=store))
    try:
        for path, executable, content in folder.files:
            file = building / path
            file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            file.write_bytes(content)
            file.chmod(0o555 if executable else 0o444)
        for parent, _, _ in os.walk(building, topdown=False):
            Path(parent).chmod(0o755)
        building.rename(target)
    except OSError:
        shutil.rmtree(building, ignore_errors=True)
        if not target.is_dir():
            raise
    return target


def snapshot_path(store: Path, digest: str) -> Path:
    """Give where the snapshot of a digest lies."""
    return store / digest.removeprefix("sha256:")


def stored_snapshots(store: Path) -> tuple[str, ...]:
    """Give the digests of all snapshots of a store."""
    try:
        names = [entry.name for entry in os.scandir(store) if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return ()
    return tuple(f"sha256:{name}" for name in sorted(names) if not name.startswith("."))


def forget_snapshot(store: Path, digest: str) -> Path | None:
    """Take a snapshot out of the store at once, and give what is left to be removed; None if there was none."""
    leaving = Path(tempfile.mkdtemp(prefix=_LEAVING, dir=store)) if store.is_dir() else None
    if leaving is None:
        return None
    try:
        snapshot_path(store, digest).rename(leaving / "code")
    except OSError:
        leaving.rmdir()
        return None
    return leaving


def remove_unfinished(store: Path) -> None:
    """Remove what was being built or was leaving when its gateway was killed; to be called while nobody does either."""
    for entry in (*store.glob(f"{BUILDING}*"), *store.glob(f"{_LEAVING}*")):
        shutil.rmtree(entry, ignore_errors=True)


def remove_forgotten(leaving: Path) -> None:
    """Remove what `forget_snapshot` left."""
    shutil.rmtree(leaving, ignore_errors=True)
