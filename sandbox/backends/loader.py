"""What an interpreter needs in a cell that another program starts: itself, its libraries, and this package."""

import os
import sys
from collections.abc import Mapping, Sequence

from sandbox import kernel
from sandbox.errors import SandboxError
from sandbox.kernel import MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY
from sandbox.root import Template, bind
from sandbox.spec import LOADER

_BARRIER = "loader"
_PYTHON = f"{LOADER}/python"
CODE = f"{LOADER}/code"
_INSIDE = f"{CODE}/sandbox/backends/inside.py"
_LINKER = "ld-linux"


class Loader:
    """The folder of the template that holds it; filled when the first cell needs it, for most hosts never need it."""

    def __init__(self, template: Template) -> None:
        self._template = template
        self._is_ready = False

    def prepare(self) -> None:
        """Fill the folder, unless it is.

        Raises:
            SandboxError: this interpreter cannot be started that way.
        """
        if self._is_ready:
            return
        folder = self._template.tree + LOADER
        plain = MS_NOSUID | MS_NODEV
        try:
            kernel.mount("tmpfs", folder, "tmpfs", plain | MS_NOEXEC, "mode=0755,size=1m")
            files = self._files()
            for path in files:
                bind(path, f"{folder}/{os.path.basename(path)}", plain | MS_RDONLY)
            for name, path in _other_names(files).items():
                os.symlink(os.path.basename(path), f"{folder}/{name}")
            bind(os.path.realpath(sys.executable), self._template.tree + _PYTHON, plain | MS_RDONLY)
            code = f"{self._template.tree}{CODE}/sandbox"
            os.makedirs(code)
            # WHY: not with what is mounted below it, for that is the template.
            kernel.mount(f"/proc/self/fd/{self._template.package}", code, None, MS_BIND)
            kernel.set_mount_flags(code, plain | MS_NOEXEC | MS_RDONLY)
            kernel.set_mount_flags(folder, MS_RDONLY, recursive=False)
        except OSError as error:
            raise SandboxError.from_os(_BARRIER, error) from None
        self._is_ready = True

    def _files(self) -> list[str]:
        """Name the libraries that are mapped here, where every one that may be asked for is."""
        with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as file:
            mapped = {"/" + line.rstrip("\n").partition("/")[2] for line in file if "/" in line}
        within = tuple(folder + "/" for folder in self._template.libraries)
        return sorted(path for path in mapped if ".so" in os.path.basename(path) and not path.startswith(within))


def command(template: Template, told: str) -> list[str]:
    """Give the words that start, within a cell, what raises the other barriers; `told` is what it needs to know."""
    linker = next((name for name in sorted(os.listdir(template.tree + LOADER)) if name.startswith(_LINKER)), None)
    if linker is None:
        raise SandboxError(_BARRIER, "the interpreter is not linked against glibc", fix="choose the native backend")
    # WHY: by the linker itself, for nothing of the environment reaches the interpreter.
    started = [f"{LOADER}/{linker}", "--library-path", LOADER, "--argv0", os.path.realpath(sys.executable), _PYTHON]
    return [*started, "-I", "-S", "-B", "-X", "utf8", _INSIDE, told]


def readable() -> tuple[str, ...]:
    """Name, within a cell, what of it is read after the start: not the interpreter itself."""
    names = [name for name in os.listdir(LOADER) if name.startswith("lib")]
    return (CODE, *(path for name in names if not os.path.islink(path := f"{LOADER}/{name}")))


def _other_names(files: Sequence[str]) -> Mapping[str, str]:
    """Give the names under which others may ask for libraries, and the file of each."""
    taken = {os.path.basename(path) for path in files}
    found: dict[str, str] = {}
    for folder in sorted({os.path.dirname(path) for path in files}):
        with os.scandir(folder) as entries:
            links = [each for each in entries if each.name.startswith("lib") and each.is_symlink()]
        wanted = {path: os.path.basename(path).partition(".so")[0] + ".so" for path in files}
        for each in links:
            if each.name.startswith(tuple(wanted.values())) and (real := os.path.realpath(each.path)) in wanted:
                found.setdefault(each.name, real)
    return {name: path for name, path in found.items() if name not in taken}
