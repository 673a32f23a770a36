"""What of the host's files a cell may be shown, and what a rule's scope has to do with it."""

import os
import stat
import sysconfig
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import DeniedError
from gateway.resources.files import Files
from gateway.resources.mount_table import Lying, MountTable, is_at_or_below, read_mount_table
from gateway.resources.walk import Identity, identity_of, open_folder, refuse_kernel_file_system, told
from sandbox.relay import CERTIFICATES

# What a cell has of its own; nothing of the host can be shown there.
_OWN = ("/plugin", "/scratch", "/proc", "/dev", "/sys", "/run", str(Path(CERTIFICATES).parent))
_LIBRARIES = tuple({os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")})


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A folder or plain file of the host as it was found: shown, it is this one or none."""

    path: Path  # symbolic links followed
    identity: Identity
    is_folder: bool
    lying: Lying


class Views:
    """The host's files as they lie at one moment."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._table: MountTable = read_mount_table()
        self._forbidden = [self._table.lying(os.path.realpath(each)) for each in files.forbidden]
        self._learnt: dict[str, tuple[tuple[str, Lying], ...]] = {}

    def look(self, path: str) -> View:
        """Find what could be shown of a path.

        Raises:
            HearthgateError: there is nothing, or nothing that a plugin ever sees as a whole; it says why.
        """
        resolved = self._files.resolve(path)
        lying = self._table.lying(str(resolved))
        if self._files.is_forbidden(resolved) or any(
            each.holds(lying) or lying.holds(each) for each in self._forbidden
        ):
            raise DeniedError(f"`{resolved}` is never within a plugin's reach")
        inner = next(self._table.below(str(resolved)), None)
        if inner is not None:
            # SECURITY: what is mounted below may be anything, and may change while it is shown.
            raise DeniedError(f"something is mounted below it, at `{inner}`")
        identity, is_folder = _found(resolved)
        return View(path=resolved, identity=identity, is_folder=is_folder, lying=lying)

    def learn(self, scopes: Iterable[str]) -> None:
        """Find out where the scopes of rules lie, so that `touches` need not ask the host."""
        for scope in scopes:
            if scope not in self._learnt:
                written = scope.removesuffix("/*") or "/"
                # WHY: a rule means the path as it is written, and what it leads to.
                self._learnt[scope] = tuple((path, self._table.lying(path)) for path in {written, _resolved(written)})

    def touches(self, view: View, scope: str) -> bool:
        """Tell whether a rule's scope covers anything of a view, by whatever path."""
        if scope == "*":
            return True
        self.learn([scope])
        below = scope.endswith("/*")
        return any(
            is_at_or_below(path, str(view.path))
            or view.lying.holds(lying)
            or (below and (is_at_or_below(str(view.path), path) or lying.holds(view.lying)))
            for path, lying in self._learnt[scope]
        )


def own_place(target: str) -> str | None:
    """Name what a cell has of its own where `target` would be; None: there is room."""
    if target in {"/", "/tmp"}:  # noqa: S108 (a name within cells)
        return target
    own = next((each for each in _OWN if is_at_or_below(target, each)), None)
    return own or next(
        (each for each in _LIBRARIES if is_at_or_below(target, each) or is_at_or_below(each, target)), None
    )


def _found(path: Path) -> tuple[Identity, bool]:
    with open_folder(path.parent) as folder, told(path):
        handle = os.open(path.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            status = os.fstat(handle)
            refuse_kernel_file_system(handle, path)
        finally:
            os.close(handle)
    if not stat.S_ISDIR(status.st_mode) and not stat.S_ISREG(status.st_mode):
        raise DeniedError(f"`{path}` is neither a folder nor a plain file")
    return identity_of(status), stat.S_ISDIR(status.st_mode)


def _resolved(path: str) -> str:
    with suppress(OSError, UnicodeEncodeError):
        return os.path.realpath(path)
    return path
