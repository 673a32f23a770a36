"""The policies folder on disk, read as one snapshot.

What the text means is for `gateway.policy.parse` to say.
"""

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from gateway.errors import Place, PolicyUnreadableError, Problem
from gateway.policy.text import PolicyText
from gateway.policy_files.kept import KeptFiles, Mark, mark_of

# While this file is there, an edit of several files is under way, or was broken off.
EDIT = ".edit"

MAX_FILE_BYTES = 32 * 1024 * 1024
MAX_FOLDER_BYTES = 64 * 1024 * 1024
MAX_FILES = 2000
_TRIES = 10
_PAUSE_S = 0.02
_FOLDERS = ("rules", "tests")
_TEMPORARY_SUFFIXES = ("~", ".swp", ".swx", ".swo", ".tmp", ".bak", ".orig", ".rej", ".part")


class _ChangedError(Exception):
    """A file changed while the folder was read."""


class _HalfEditedError(Exception):
    """The files are partly those before an edit and partly those after it."""


def read_policy_folder(folder: Path, kept: KeptFiles | None = None, *, whole: bool = True) -> PolicyText:
    """Read every policy file of a folder as one snapshot.

    The folder may be edited while it is read; a snapshot whose files changed meanwhile is read again. What was read
    is remembered in `kept`; unless `whole`, a file that cannot have changed since is taken from there.

    Raises:
        PolicyUnreadableError: it is no folder, keeps changing, is too large, or others may write to it.

    """
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(_PAUSE_S)
        try:
            return _read_once(folder, kept or KeptFiles(), whole=whole)
        except _HalfEditedError:
            continue
        except (_ChangedError, FileNotFoundError):
            if not folder.is_dir():
                raise _unreadable(folder, folder, "no such folder") from None
        except OSError as error:
            raise _unreadable(folder, Path(error.filename or folder), f"cannot be read: {error.strerror}") from None
    if is_half_edited(folder):
        message = "an edit of several files was broken off half-way: `hearthgate policy fmt` finishes it"
        raise _unreadable(folder, folder / EDIT, message)
    raise _unreadable(folder, folder, "the files keep changing while they are read")


def is_half_edited(folder: Path) -> bool:
    """Tell whether an edit of several files is under way, or was broken off."""
    return os.path.lexists(folder / EDIT)


def _read_once(folder: Path, kept: KeptFiles, *, whole: bool) -> PolicyText:
    root = folder.resolve(strict=True)
    _refuse_open_folders(folder, root)
    # SECURITY: some files of an edit without the others could allow what neither the old nor the new policy does.
    if is_half_edited(root):
        raise _HalfEditedError
    begun_s = kept.now_s()
    before = _list(folder, root)
    listed_s = kept.now_s()
    _refuse_size(folder, before)
    known = {} if whole else kept.settled(before)
    files = {name: known[name] if name in known else _read_file(path, mark) for name, (path, mark) in before.items()}
    if is_half_edited(root):
        raise _HalfEditedError
    if _list(folder, root) != before:
        raise _ChangedError
    return PolicyText(kept.keep(before, files, begun_s=begun_s, listed_s=listed_s))


def _list(folder: Path, root: Path) -> dict[str, tuple[Path, Mark]]:
    found: dict[str, tuple[Path, Mark]] = {}
    problems: list[Problem] = []
    for path in _entries(root):
        name = path.relative_to(root).as_posix()
        # WHY: only a link has to be followed to see where it leads, and following is dear.
        real = path.resolve(strict=True) if path.is_symlink() or path.parent != root else path
        state = real.stat()
        if not real.is_relative_to(root):
            problems.append(_problem(name, "a link that leads out of the policies folder: copy the file"))
        elif not stat.S_ISREG(state.st_mode):
            if not (stat.S_ISDIR(state.st_mode) and name in _FOLDERS):
                problems.append(_problem(name, "no regular file: rules are rules/*.csv, cases tests/*.toml"))
        elif _is_open(state.st_mode):
            problems.append(_problem(name, f"anybody may write it: chmod o-w {path}"))
        else:
            found[name] = (real, mark_of(state))
    if problems:
        raise PolicyUnreadableError(f"the policy files in {folder} cannot be believed", problems=problems)
    return found


def _entries(root: Path) -> Iterator[Path]:
    for folder in (root, *(root / name for name in _FOLDERS)):
        if folder == root or folder.is_dir():
            yield from (path for path in sorted(folder.iterdir()) if not _is_temporary(path.name))


def _is_temporary(name: str) -> bool:
    """Tell whether an editor or a version control system keeps its own things under this name."""
    return name.startswith((".", "#")) or name.endswith(_TEMPORARY_SUFFIXES)


def _read_file(path: Path, mark: Mark) -> bytes:
    # SECURITY: a pipe put in the file's place must not make the gateway wait.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:  # noqa: PTH123 (a descriptor has no path)
        if mark_of(os.fstat(descriptor)) != mark:
            raise _ChangedError
        data = file.read(mark.size + 1)
    if len(data) != mark.size:
        raise _ChangedError
    return data


def _refuse_size(folder: Path, found: dict[str, tuple[Path, Mark]]) -> None:
    problems = [
        _problem(name, f"{mark.size} bytes: at most {MAX_FILE_BYTES}")
        for name, (_, mark) in found.items()
        if mark.size > MAX_FILE_BYTES
    ]
    if len(found) > MAX_FILES:
        problems.append(_problem(".", f"{len(found)} files: at most {MAX_FILES}"))
    if sum(mark.size for _, mark in found.values()) > MAX_FOLDER_BYTES:
        problems.append(_problem(".", f"more than {MAX_FOLDER_BYTES} bytes together"))
    if problems:
        raise PolicyUnreadableError(f"the policy files in {folder} are too large", problems=problems)


def _refuse_open_folders(folder: Path, root: Path) -> None:
    inner = [root / name for name in _FOLDERS if (root / name).is_dir()]
    problems = [
        _problem(str(each), f"anybody may write in this folder: chmod o-w {each}")
        for each in dict.fromkeys((*inner, root, *root.parents, *folder.absolute().parents))
        if _is_open(each.stat().st_mode) and not _is_shared(each, root)
    ]
    if problems:
        raise PolicyUnreadableError(f"the policy files in {folder} cannot be believed", problems=problems)


def _is_open(mode: int) -> bool:
    return bool(mode & stat.S_IWOTH)


def _is_shared(folder: Path, root: Path) -> bool:
    """Tell whether a folder above is like /tmp, where nobody can rename or remove another's things."""
    return folder not in {root, root / "rules", root / "tests"} and bool(folder.stat().st_mode & stat.S_ISVTX)


def _problem(file: str, message: str) -> Problem:
    return Problem(place=Place(file=file), message=message)


def _unreadable(folder: Path, path: Path, message: str) -> PolicyUnreadableError:
    problem = _problem(str(path), message)
    return PolicyUnreadableError(f"the policy folder {folder} cannot be read", problems=[problem])
