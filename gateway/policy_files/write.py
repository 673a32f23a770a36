"""The policies folder on disk, written without ever losing what was there."""

import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway.errors import ConflictError
from gateway.policy.text import GRANTS, KNOWN_FILES, PolicyText, is_case_file, is_rule_file
from gateway.policy_files.read import EDIT, is_half_edited


def write_grants(folder: Path, *, expected: bytes, new: bytes) -> None:
    """Replace grants.csv, provided that it still says what the caller has read.

    Returns only once the new file would survive a power cut.

    Raises:
        ConflictError: it says something else by now; nothing was written.
        UnavailableError: the disk does not take it; nothing was written.

    """
    write_policy_file(folder, GRANTS, expected=expected, new=new)


def write_policy_file(folder: Path, name: str, *, expected: bytes | None, new: bytes | None) -> None:
    """Replace a file of the folder, provided that it still says what the caller has read; None is no file.

    Returns only once the change would survive a power cut.

    Raises:
        ConflictError: it says something else by now, or is a link; nothing was written.

    """
    root = folder.resolve(strict=True)
    with _locked(root):
        _expect(root, name, expected)
        _put(root, name, new)


def write_policy_files(folder: Path, before: PolicyText, after: PolicyText) -> None:
    """Make the files of the folder, which say `before`, say `after`, so that nobody ever reads some of each.

    Whoever reads meanwhile waits; if this process ends half-way the folder cannot be read until `finish_edit`.
    Returns only once the change would survive a power cut.

    Raises:
        ConflictError: they say something else by now, or are links; nothing was written.

    """
    root = folder.resolve(strict=True)
    names = sorted({*before.files, *after.files})
    changed = [name for name in names if before.files.get(name) != after.files.get(name)]
    with _locked(root):
        if is_half_edited(root):
            raise ConflictError("another edit was broken off half-way", way_out="`hearthgate policy fmt` finishes it")
        for name in changed:
            _expect(root, name, before.files.get(name))
        for name in changed:
            if name in after.files:
                _replace(_staged(root, name), after.files[name], like=root / name)
        digests = {name: after.digest(name).hex() if name in after.files else None for name in changed}
        # INVARIANT: once this file is there all that is to come is there too, and the edit only goes forward.
        _replace(root / EDIT, json.dumps(digests).encode())
        _finish(root, digests)


def finish_edit(folder: Path) -> bool:
    """Finish an edit of several files that was broken off; tells whether there was one.

    Raises:
        ConflictError: what it was to become is not there any more.

    """
    root = folder.resolve(strict=True)
    if not is_half_edited(root):
        return False
    with _locked(root):
        if is_half_edited(root):
            _finish(root, _read_edit(root))
    return True


def _read_edit(root: Path) -> Mapping[str, str | None]:
    try:
        found: Any = json.loads((root / EDIT).read_bytes())
        digests = {name: digest for name, digest in found.items() if digest is None or isinstance(digest, str)}
    except (ValueError, AttributeError):
        digests = {}
    # SECURITY: only files of a policy, for these names become paths.
    if not digests or not all(name in KNOWN_FILES or is_rule_file(name) or is_case_file(name) for name in digests):
        raise _lost(root, "it cannot be read")
    return digests


def _finish(root: Path, digests: Mapping[str, str | None]) -> None:
    for name, digest in digests.items():
        if digest is not None and digest not in {_digest(_staged(root, name)), _digest(root / name)}:
            raise _lost(root, f"what was to become of {name} is not there")
    for name, digest in digests.items():
        if digest is None:
            (root / name).unlink(missing_ok=True)
        elif _digest(_staged(root, name)) == digest:
            (root / name).parent.mkdir(exist_ok=True)
            _staged(root, name).rename(root / name)
        else:
            _staged(root, name).unlink(missing_ok=True)
    for folder in {(root / name).parent for name in digests}:
        if folder.is_dir():
            _sync_folder(folder)
    (root / EDIT).unlink()
    _sync_folder(root)


def _lost(root: Path, what: str) -> ConflictError:
    way_out = f"make the files say what you want, then remove {root / EDIT}"
    return ConflictError(f"an edit that was broken off cannot be finished: {what}", way_out=way_out)


def _staged(root: Path, name: str) -> Path:
    """Give where the coming content of a file lies; beside the others, in a folder that is always there."""
    return root / f".{name.replace('/', '-')}.edit"


def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return None


def _expect(root: Path, name: str, expected: bytes | None) -> None:
    path = root / name
    if path.is_symlink() or path.parent.is_symlink():
        raise ConflictError(f"{path} is a link, so it is not replaced", way_out="put a file in its place")
    there = path.read_bytes() if path.exists() else None
    if (there or b"") != (expected or b""):
        raise ConflictError(f"{path} was edited meanwhile", way_out="try again")


def _put(root: Path, name: str, new: bytes | None) -> None:
    path = root / name
    path.parent.mkdir(exist_ok=True)
    if new is None:
        path.unlink(missing_ok=True)
        _sync_folder(path.parent)
    else:
        _replace(path, new)


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old or the new one whole; it survives a power cut."""
    _replace(path, text.encode())


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    # WHY: the folder itself is locked: a lock file would be one more thing in a folder that people edit.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(path: Path, data: bytes, *, like: Path | None = None) -> None:
    """Replace a file; it gets the mode of the one that it replaces, or will replace."""
    model = like or path
    mode = stat.S_IMODE(model.stat().st_mode) if model.exists() else 0o644
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    temporary.unlink(missing_ok=True)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123 (a descriptor has no path)
            file.write(data)
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
