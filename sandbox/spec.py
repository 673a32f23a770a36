"""What one cell may see and use, as values; nothing here touches the system."""

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Self

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ENTRY_POINT = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}\.py")
_MAX_ID = 0xFFFF_FFFE  # the highest is what the kernel says for "unchanged"
_MAX_BYTES = 1 << 50
_MAX_IDENTITY = (1 << 64) - 1
MAX_MOUNTS = 64
_MAX_FILES = 256
_MAX_WORDS = 64
_MAX_WORD = 4096
_TAKEN = ("/", "/tmp")  # noqa: S108  # its scratch folder, within the cell
PRISTINE, FORK, SHARED = "pristine", "fork", "shared"
_MODES = (PRISTINE, FORK, SHARED)
NATIVE, BWRAP, RUNSC = "native", "bwrap", "runsc"
BACKENDS = (NATIVE, BWRAP, RUNSC)
MAX_ORDER_BYTES = 128 << 10  # of a specification, as it is sent to who makes the cell
LOADER = "/loader"  # where a cell that another program makes sees its interpreter
_RESERVED = ("/proc", "/sys", "/dev", LOADER, "/packages", "/plugin", "/run", "/scratch", "/trust")


class SpecError(ValueError):
    """A specification that no cell can be made from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A file or folder of the host that the cell sees at `target`."""

    source: str  # without symbolic links
    target: str
    writable: bool = False
    identity: tuple[int, int] | None = None  # the device and inode that were judged; anything else there is refused

    def __post_init__(self) -> None:
        _check_path("a mount's source", self.source)
        _check_path("a mount's target", self.target)
        if self.target in _TAKEN or _lies_in(self.target, _RESERVED):
            raise SpecError(
                f"a mount's target `{self.target}`: {', '.join(_RESERVED)}, `/tmp` and `/` belong to the cell"
            )
        _check_type("writable", self.writable, bool)
        if self.identity is not None:
            if not isinstance(self.identity, list | tuple) or len(self.identity) != 2:  # noqa: PLR2004  # a pair
                raise SpecError("a mount's identity: a device and an inode")
            for number in self.identity:
                _check_range("a mount's identity", number, 0, _MAX_IDENTITY)
            object.__setattr__(self, "identity", tuple(self.identity))


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program of the host that stands in for the plugin's own code, and speaks over its standard streams."""

    argv: tuple[str, ...]  # the first word is one of `executables`
    executables: tuple[str, ...]  # it and its linker, by where they are seen
    files: tuple[tuple[str, str], ...]  # they and their libraries: where each is seen, and the file of the host

    def __post_init__(self) -> None:
        for name in ("argv", "executables", "files"):
            object.__setattr__(self, name, _tuple(f"a program's {name}", getattr(self, name)))
        object.__setattr__(self, "files", tuple(_tuple("a program's file", each) for each in self.files))
        if not 1 <= len(self.argv) <= _MAX_WORDS or self.argv[0] not in self.executables:
            raise SpecError(f"a program's argv: 1 to {_MAX_WORDS} words, the first one of its executables")
        for word in self.argv:
            if not isinstance(word, str) or "\0" in word or len(word) > _MAX_WORD:
                raise SpecError(f"a program's argument: text of at most {_MAX_WORD} characters without NUL")
        if len(self.files) > _MAX_FILES or not all(len(each) == 2 for each in self.files):  # noqa: PLR2004  # a pair
            raise SpecError(f"a program's files: at most {_MAX_FILES} pairs of a place and a file")
        for place, file in self.files:
            _check_path("a program's file", file)
            _check_path("a program's file", place)
            if is_reserved(place):
                raise SpecError(f"a program's file `{place}` lies where the cell has its own")
        if not set(self.executables) <= set(self.places):
            raise SpecError("a program's executables: each one of its files")

    @property
    def places(self) -> tuple[str, ...]:
        """Where in the cell its files are seen."""
        return tuple(place for place, _ in self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a cell may use up; each bounds the whole tree of its processes where the host can."""

    timeout_s: float = 30.0
    memory_bytes: int = 256 << 20
    processes: int = 32  # threads count too
    open_files: int = 64
    scratch_bytes: int = 32 << 20
    output_bytes: int = 64 << 10  # of printed text, kept by the reader; the rest is discarded
    cpu_percent: int | None = None  # of one core

    def __post_init__(self) -> None:
        _check_seconds("timeout_s", self.timeout_s)
        _check_range("memory_bytes", self.memory_bytes, 16 << 20, _MAX_BYTES)
        _check_range("processes", self.processes, 1, 32768)
        _check_range("open_files", self.open_files, 16, 1 << 20)
        _check_range("scratch_bytes", self.scratch_bytes, 4096, _MAX_BYTES)
        _check_range("output_bytes", self.output_bytes, 0, _MAX_BYTES)
        if self.cpu_percent is not None:
            _check_range("cpu_percent", self.cpu_percent, 1, 100_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """Everything that says how one cell is confined."""

    plugin_id: str  # a label; the sandbox decides nothing by it
    code: str  # the plugin's read-only snapshot, seen as /plugin
    uid: int  # who the plugin is on the host where the gateway runs as root; else its own user
    entry_point: str = "main.py"
    packages: str | None = None  # what the plugin's code depends on, seen read-only as /packages
    mounts: tuple[Mount, ...] = ()
    limits: Limits = field(default_factory=Limits)
    relay: bool = False  # one way out: connections to the cell's own loopback, taken by whoever ordered the cell
    certificates: str | None = None  # whom it may trust there: a file of the host that everybody may read
    isolation: str = PRISTINE  # one call; or many: each in a child of a template, or all in one process
    lifetime_s: float = 0.0  # how long it may wait for calls, besides the time of one
    single_process: bool = False  # threads, but no child: then the process limits bound all there is
    require_cgroup: bool = True  # False: process limits stand in where the host offers no controller
    backend: str = NATIVE  # who makes the cell's namespaces and root; never another than this one
    program: Program | None = None  # what runs in place of the entry point, and answers calls as an MCP server does

    def __post_init__(self) -> None:
        if not isinstance(self.plugin_id, str) or not _LABEL.fullmatch(self.plugin_id):
            raise SpecError(f"plugin_id `{str(self.plugin_id)[:40]}`: letters, digits, `.`, `_` and `-`")
        _check_path("code", self.code)
        if not isinstance(self.entry_point, str) or not _ENTRY_POINT.fullmatch(self.entry_point):
            raise SpecError(f"entry_point `{str(self.entry_point)[:40]}`: a Python file's name like `main.py`")
        if self.packages is not None:
            _check_path("packages", self.packages)
        # SECURITY: never 0; the plugin would own the gateway's files should every other barrier fall.
        _check_range("uid", self.uid, 1, _MAX_ID)
        _check_type("limits", self.limits, Limits)
        self._check_mode()
        _check_type("relay", self.relay, bool)
        if self.certificates is not None:
            _check_path("certificates", self.certificates)
        _check_type("single_process", self.single_process, bool)
        _check_type("require_cgroup", self.require_cgroup, bool)
        if self.backend not in BACKENDS:
            raise SpecError(f"backend `{str(self.backend)[:40]}`: {', '.join(BACKENDS)}")
        if len(self.mounts) > MAX_MOUNTS or not all(isinstance(each, Mount) for each in self.mounts):
            raise SpecError(f"mounts: at most {MAX_MOUNTS}, each a mount")
        self._check_program()
        # SECURITY: a target inside another mount would be looked up through folders that a plugin may have written.
        for mount in self.mounts:
            others = tuple(each.target for each in self.mounts if each is not mount)
            if _lies_in(mount.target, others):
                raise SpecError(f"a mount's target `{mount.target}` lies in another mount's")

    def _check_mode(self) -> None:
        if self.isolation not in _MODES:
            raise SpecError(f"isolation `{str(self.isolation)[:40]}`: {', '.join(_MODES)}")
        if self.lifetime_s != 0:
            _check_seconds("lifetime_s", self.lifetime_s)
        if self.isolation == FORK and self.single_process:
            raise SpecError("isolation `fork` needs a second process")

    def _check_program(self) -> None:
        if self.program is None:
            return
        _check_type("program", self.program, Program)
        if self.backend != NATIVE:
            raise SpecError(f"a program of the host runs in cells of the backend `{NATIVE}` alone")
        if self.isolation == FORK:
            raise SpecError("isolation `fork` is for Python code")
        places = self.program.places
        for mount in self.mounts:
            if _lies_in(mount.target, places) or any(_lies_in(place, (mount.target,)) for place in places):
                raise SpecError(f"a mount's target `{mount.target}` would hide a file of the program")

    def to_json(self) -> str:
        """Write the specification as one JSON object."""
        return json.dumps(asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` wrote; an unknown or missing member is an error."""
        try:
            raw = json.loads(text)
        except (ValueError, RecursionError):
            raise SpecError("a specification must be JSON") from None
        told = _members("a specification", raw)
        mounts = told.pop("mounts", [])
        limits = told.pop("limits", {})
        program = told.pop("program", None)
        if not isinstance(mounts, list):
            raise SpecError("mounts must be a list")
        try:
            return cls(
                **told,  # type: ignore[arg-type]  # checked by __post_init__
                mounts=tuple(Mount(**_members("a mount", each)) for each in mounts),  # type: ignore[arg-type]  # same
                limits=Limits(**_members("limits", limits)),  # type: ignore[arg-type]  # same
                program=None if program is None else Program(**_members("a program", program)),  # type: ignore[arg-type]  # same
            )
        except TypeError:
            raise SpecError("a specification with an unknown or a missing member") from None


def _members(what: str, raw: object) -> dict[str, object]:
    if not isinstance(raw, Mapping):
        raise SpecError(f"{what} must be an object")
    return dict(raw)


def _tuple(what: str, value: object) -> tuple[object, ...]:
    if not isinstance(value, list | tuple):
        raise SpecError(f"{what} must be a list")
    return tuple(value)


def _check_path(what: str, path: object) -> None:
    if (
        not isinstance(path, str)
        or not path.startswith("/")
        or path.startswith("//")
        or "\0" in path
        or os.path.normpath(path) != path
    ):
        raise SpecError(f"{what} `{str(path)[:200]}`: an absolute path without `..` and empty parts")


def is_reserved(path: str) -> bool:
    """Tell whether a path lies where a cell has what is its own."""
    return _lies_in(path, (*_RESERVED, *_TAKEN[1:]))


def _lies_in(path: str, folders: tuple[str, ...]) -> bool:
    return any(path == folder or path.startswith(folder + "/") for folder in folders)


def _check_type(what: str, value: object, wanted: type) -> None:
    if not isinstance(value, wanted):
        raise SpecError(f"{what} `{str(value)[:40]}`: must be of type {wanted.__name__}")


def _check_range(what: str, value: object, least: int, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise SpecError(f"{what} `{str(value)[:40]}`: a whole number from {least} to {most}")


def _check_seconds(what: str, value: object) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or value <= 0:
        raise SpecError(f"{what} `{str(value)[:40]}`: a number of seconds above 0")
