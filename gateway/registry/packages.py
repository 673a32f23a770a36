"""What a plugin depends on: the packages of its locked file, unpacked once into a store named by that file's content.

Only wheels, only by hash, and nothing of them is run here: they are unpacked. A cell sees the folder read-only.
"""

import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path

from gateway.domain.visible import clean
from gateway.errors import MalformedError, Place, Problem
from gateway.registry.folder import BUILDING

_PINNED = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9,._ -]*\])?==[A-Za-z0-9.!+_-]+( *;[^#]*?)?( +--hash=sha256:[0-9a-f]{64})+"
)
_MAX_LOCK_BYTES = 1 << 20
_MAX_BYTES = 1 << 30
_MAX_FILES = 100_000
_BUILD_S = 600
_TOLD_LINES = 12
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def packages_path(store: Path, lock: bytes) -> Path:
    """Give where the packages of a locked file lie, for the Python that runs here."""
    what = f"{sys.implementation.cache_tag} {sysconfig.get_platform()}\n".encode() + lock
    return store / hashlib.sha256(what).hexdigest()


def check_lock(name: str, lock: bytes) -> None:
    """Take only lines that pin a package by version and hash.

    Raises:
        MalformedError: with every line that does more, or less.
    """
    if not _NAME.fullmatch(name):
        raise MalformedError(f"requirements `{name[:80]}`: the name of a file in the plugin's folder")
    try:
        text = lock.decode("ascii")
    except UnicodeDecodeError:
        raise MalformedError(f"`{name}` is not plain ASCII text") from None
    problems = [
        Problem(place=Place(file=name, line=number), message=f"`{line[:80]}`: write NAME==VERSION --hash=sha256:...")
        for number, line in _logical_lines(text)
        if not _PINNED.fullmatch(line)
    ]
    if len(lock) > _MAX_LOCK_BYTES or problems:
        # SECURITY: an option here could name another index, a folder or a program.
        raise MalformedError(
            f"`{name}` is no locked file",
            problems=problems,
            way_out="make it with `uv pip compile --generate-hashes` or `pip-compile --generate-hashes`",
        )


def build_packages(name: str, lock: bytes, store: Path) -> Path:
    """Unpack what a locked file names below `store` and give the folder; what is there already stays.

    Raises:
        MalformedError: the file is no lock, or a package cannot be had as a wheel with that hash.
    """
    check_lock(name, lock)
    target = packages_path(store, lock)
    if target.is_dir():
        return target
    store.mkdir(mode=0o755, parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=BUILDING, dir=store))
    try:
        (building / "lock.txt").write_bytes(lock)
        _install(name, building)
        (building / "lock.txt").unlink()
        _settle(name, building)
        building.rename(target)
    except OSError:
        if not target.is_dir():
            raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return target


def _logical_lines(text: str) -> list[tuple[int, str]]:
    lines, held, began = [], "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        began = began if held else number
        plain = "" if line.lstrip().startswith("#") else line.partition(" #")[0]
        held += plain.removesuffix("\\").strip() + " "
        if not plain.endswith("\\"):
            lines.append((began, held.strip()))
            held = ""
    return [(number, line) for number, line in (*lines, (began, held.strip())) if line]


def _install(name: str, building: Path) -> None:
    done = subprocess.run(  # noqa: S603  # pip, by its own interpreter, with words of ours
        [
            *_pip(),
            "install",
            "--require-hashes",
            "--only-binary=:all:",
            "--no-deps",
            "--no-compile",
            "--no-input",
            "--no-warn-conflicts",
            "--quiet",
            "--disable-pip-version-check",
            "--root-user-action=ignore",
            f"--target={building / 'site'}",
            f"--requirement={building / 'lock.txt'}",
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        cwd=building,
        timeout=_BUILD_S,
        check=False,
    )
    if done.returncode != 0:
        told = [clean(line) for line in done.stderr.decode("utf-8", "replace").splitlines() if line.startswith("ERROR")]
        raise MalformedError(
            f"`{name}`: the packages cannot be had: {' '.join(told[:_TOLD_LINES])[:2000] or 'pip failed'}",
            way_out="each must be a wheel for this Python and machine, with a hash of the lock",
        )


def _pip() -> Sequence[str]:
    # WHY: a virtual environment may have no pip; the interpreter it was made from may.
    for interpreter in (sys.executable, getattr(sys, "_base_executable", sys.executable)):
        asked = [interpreter, "-I", "-m", "pip"]
        if subprocess.run([*asked, "--version"], capture_output=True, check=False).returncode == 0:  # noqa: S603  # same
            return asked
    raise MalformedError(
        "this Python has no pip, which plugins with requirements need",
        way_out=f"`{sys.executable} -m ensurepip`, or install the system's package of pip",
    )


def _settle(name: str, building: Path) -> None:
    """Keep plain files and folders alone, in bounds, readable by all and writable by nobody; they move up a level."""
    site = building / "site"
    shutil.rmtree(site / "bin", ignore_errors=True)
    count = size = 0
    for parent, folders, files in os.walk(site):
        for each in (*folders, *files):
            path = Path(parent, each)
            mode = path.lstat().st_mode
            if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
                raise MalformedError(f"`{name}`: `{each[:80]}` is neither a plain file nor a folder")
            count, size = count + 1, size + (path.lstat().st_size if stat.S_ISREG(mode) else 0)
            path.chmod(0o755 if stat.S_ISDIR(mode) else 0o444)
    if count > _MAX_FILES or size > _MAX_BYTES:
        raise MalformedError(
            f"`{name}`: {count} files of {size >> 20} MiB: {_MAX_FILES} and {_MAX_BYTES >> 20} at most"
        )
    for top in site.iterdir():
        top.rename(building / top.name)
    site.rmdir()
    building.chmod(0o755)
