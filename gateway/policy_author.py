"""Who edited the policy files: the author of the commit that they are, else whom the newest changed file belongs to."""

import hashlib
import pwd
import shutil
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from gateway.policy.text import GRANTS, PolicyText

_TIMEOUT_S = 5
_SHA256_HEX = 64
# SECURITY: nothing that a repository's own settings name is run: no file system monitor, no hook, no signature check;
# and the files are compared here, for `git status` would run its filters. An object that is not there is not fetched,
# for fetching runs programs: an empty list of protocols, unlike a setting, cannot be widened by the repository.
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin", "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ALLOW_PROTOCOL": "", "GIT_NO_LAZY_FETCH": "1", "GIT_TERMINAL_PROMPT": "0",
}  # fmt: skip
_GIT = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "log.showSignature=false")


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """Whoever edited, and how that is known."""

    name: str
    known_by: str  # `verb`, `git` or `file owner`


def author_of(folder: Path, text: PolicyText, changed: Collection[str]) -> Author | None:
    """Tell who made the files of `folder` say `text`; None if nobody can be named."""
    name = _committer(folder, text)
    if name is not None:
        return Author(name=name, known_by="git")
    owner = _owner(folder, changed)
    return None if owner is None else Author(name=owner, known_by="file owner")


def _committer(folder: Path, text: PolicyText) -> str | None:
    """Give the author of HEAD if the files are just what was committed."""
    listed = _git(folder, "ls-tree", "-r", "-z", "HEAD")
    if not listed:
        return None
    blobs = dict(_entry(line) for line in listed.split(b"\0") if line)
    files = {path: data for path, data in text.files.items() if path != GRANTS}
    if {path for path in blobs if path in text.files or path.endswith((".csv", ".toml"))} - {GRANTS} != set(files):
        return None
    if any(blobs[path] != _blob_name(data, len(blobs[path])) for path, data in files.items()):
        return None
    author = _git(folder, "show", "-s", "--format=%an <%ae>", "HEAD")
    return author.decode(errors="replace").strip() or None if author else None


def _entry(line: bytes) -> tuple[str, str]:
    kind, _, path = line.partition(b"\t")
    return path.decode(errors="replace"), kind.split(b" ")[-1].decode()


def _blob_name(data: bytes, length: int) -> str:
    whole = b"blob %d\0%b" % (len(data), data)
    # WHY: git's own name of a file's content, no protection.
    return hashlib.sha256(whole).hexdigest() if length == _SHA256_HEX else hashlib.sha1(whole).hexdigest()  # noqa: S324


def _git(folder: Path, *arguments: str) -> bytes | None:
    program = shutil.which("git")
    if program is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 (a fixed program with fixed arguments)
            [program, "-C", str(folder), *_GIT, *arguments],
            env=_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _owner(folder: Path, changed: Collection[str]) -> str | None:
    try:
        states = [path.stat() for name in changed if (path := folder / name).exists()] or [folder.stat()]
    except OSError:
        return None
    uid = max(states, key=lambda state: state.st_mtime_ns).st_uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid{uid}"
