"""The barrier of resources: memory, processes and cpu of a cell's whole tree, by control groups v1 or v2."""

import contextlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from sandbox import meter
from sandbox.errors import SandboxError
from sandbox.spec import Limits

CONTROLLERS = ("memory", "pids", "cpu")
_COUNTING = "cpuacct"  # of the first kind of groups: limits nothing, and is never missed
_FIX = {
    "memory": "run the gateway where it owns a memory control group (as root, or a systemd unit with `Delegate=yes`)",
    "pids": "run the gateway where it owns a pids control group (as root, or a systemd unit with `Delegate=yes`)",
    "cpu": "run the gateway where it owns a cpu control group, or drop the cpu limit",
}
_METERS = {"cpu": "cpuacct.usage", "memory": "memory.max_usage_in_bytes"}
_PREFIX = "hearthgate-"
_PERIOD_US = 100_000
_MIN_QUOTA_US = 1_000


@dataclass(frozen=True, slots=True)
class Controllers:
    """Where this sandbox may make groups: controller name to folder; the folders are the sandbox's own."""

    folders: Mapping[str, str]
    unified: bool

    def missing(self, limits: Limits, *, single_process: bool = False) -> list[str]:
        """Name the controllers that these limits need and the host does not offer."""
        # WHY: where there is one process, its own limits bound the whole tree's memory and number.
        needed = set() if single_process else {"memory", "pids"}
        if limits.cpu_percent is not None:
            needed.add("cpu")
        return sorted(needed - set(self.folders))

    def check(self, limits: Limits, *, single_process: bool = False) -> None:
        """Refuse limits that nothing on this host would keep."""
        for controller in self.missing(limits, single_process=single_process):
            raise SandboxError(f"{controller} cgroup", "the host offers no writable controller", fix=_FIX[controller])


@dataclass(slots=True)
class Group:
    """The control groups of one cell."""

    folders: Mapping[str, str]
    unified: bool
    cpu: Mapping[str, str] = field(default_factory=dict)  # the share of the processor, not yet in force
    left: set[str] = field(default_factory=set)

    @property
    def bounds_memory(self) -> bool:
        """Tell whether the memory of the whole tree is counted."""
        return "memory" in self.folders

    def join(self) -> None:
        """Put this process, and all that come from it, under the limits."""
        # WHY: in v1 a thread that moves itself, and this process has one, waits for no lock of the whole
        # system; `cgroup.procs` does, for milliseconds. v2 has no such file for controllers of memory.
        file = "cgroup.procs" if self.unified else "tasks"
        for folder in sorted(set(self.folders.values())):
            try:
                _write(os.path.join(folder, file), "0")
            except OSError as error:
                raise SandboxError.from_os("cgroup", error) from None

    def bound_cpu(self) -> None:
        """Put the share of the processor in force."""
        try:
            for file, value in self.cpu.items():
                _write(os.path.join(self.folders["cpu"], file), value)
        except OSError as error:
            raise SandboxError.from_os("cgroup", error) from None

    def usage(self) -> tuple[int | None, bool]:
        """Read the memory peak in bytes and whether the kernel killed for want of memory."""
        folder = self.folders.get("memory")
        if folder is None:
            return None, False
        peak = _read(folder, "memory.peak" if self.unified else "memory.max_usage_in_bytes")
        events = _read(folder, "memory.events" if self.unified else "memory.oom_control")
        kills = re.search(r"^oom_kill (\d+)$", events, re.MULTILINE)
        return (int(peak) if peak.strip().isdigit() else None), bool(kills and int(kills[1]))

    def meters(self) -> dict[str, str]:
        """Name the files that count what the cell uses."""
        files = {"cpu": "cpu.stat", "memory": "memory.peak"} if self.unified else dict(_METERS)
        places = {"cpu": "cpu" if self.unified else _COUNTING, "memory": "memory"}
        return {what: f"{self.folders[place]}/{files[what]}" for what, place in places.items() if place in self.folders}

    def remove(self) -> bool:
        """Remove the groups; False: the kernel still counts a process that is going, so try again."""
        self.left = {folder for folder in (self.left or set(self.folders.values())) if not _removed(folder)}
        return not self.left


NO_CONTROLLERS = Controllers(folders={}, unified=False)


def find_controllers() -> Controllers:
    """Make this process's own folder below its groups, in each controller that it may use."""
    own = f"{_PREFIX}{os.getpid()}"
    mounts = _mounted()
    paths = _own_paths()
    folders: dict[str, str] = {}
    for controller in (*CONTROLLERS, _COUNTING):
        if controller in mounts and controller in paths:
            folder = _inside(mounts[controller], paths[controller])
            if folder is not None and (made := _make_own(folder, own)):
                folders[controller] = made
    if folders or "" not in mounts:
        return Controllers(folders=folders, unified=False)
    base = _inside(mounts[""], paths.get("", "/"))
    return Controllers(folders=_unified(base, own) if base else {}, unified=True)


def forget_controllers(controllers: Controllers) -> None:
    """Remove the folders that `find_controllers` made."""
    for folder in set(controllers.folders.values()):
        _removed(folder)


def make_group(controllers: Controllers, name: str, limits: Limits) -> Group:
    """Make a cell's groups with their limits set; what the host does not offer is left out.

    The share of the processor is set by `bound_cpu`.
    """
    folders = {
        controller: os.path.join(folder, name)
        for controller, folder in controllers.folders.items()
        if controller != "cpu" or controllers.unified or limits.cpu_percent is not None
    }
    # WHY: in force from the start, it would stretch the raising of the barriers, which is the sandbox's own work.
    cpu = _settings("cpu", limits, unified=controllers.unified) if "cpu" in folders else {}
    group = Group(folders=folders, unified=controllers.unified, cpu=cpu)
    try:
        for folder in set(folders.values()):
            os.mkdir(folder)
        for controller, folder in folders.items():
            if controller in {"cpu", _COUNTING}:
                continue
            for file, value in _settings(controller, limits, unified=controllers.unified).items():
                _write(os.path.join(folder, file), value)
        _bound_swap(group, limits)
    except OSError as error:
        group.remove()
        raise SandboxError.from_os("cgroup", error) from None
    return group


def _settings(controller: str, limits: Limits, *, unified: bool) -> dict[str, str]:
    if controller == "memory":
        if unified:
            return {"memory.max": str(limits.memory_bytes), "memory.oom.group": "1"}
        return {"memory.limit_in_bytes": str(limits.memory_bytes)}
    if controller == "pids":
        return {"pids.max": str(limits.processes + 1)}  # WHY: the cell's own init is one more
    if limits.cpu_percent is None:
        return {}
    quota = max(_MIN_QUOTA_US, limits.cpu_percent * _PERIOD_US // 100)
    if unified:
        return {"cpu.max": f"{quota} {_PERIOD_US}"}
    return {"cpu.cfs_period_us": str(_PERIOD_US), "cpu.cfs_quota_us": str(quota)}


def _bound_swap(group: Group, limits: Limits) -> None:
    folder = group.folders.get("memory")
    if folder is None:
        return
    wanted = {"memory.memsw.limit_in_bytes": str(limits.memory_bytes), "memory.swappiness": "0"}
    for file, value in ({"memory.swap.max": "0"} if group.unified else wanted).items():
        path = os.path.join(folder, file)
        # WHY: some are there only where the kernel counts swap.
        if os.path.exists(path):
            _write(path, value)


def _mounted() -> dict[str, tuple[str, str]]:
    """Find where each controller is mounted and which group its mount shows; "" is the unified tree."""
    found: dict[str, tuple[str, str]] = {}
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            _id, _parent, _device, root, place = left.split(" ")[:5]
            kind, _source, options = right.rstrip("\n").split(" ")[:3]
            if kind == "cgroup2":
                found[""] = (place, root)
            elif kind == "cgroup":
                found |= {name: (place, root) for name in options.split(",") if name in {*CONTROLLERS, _COUNTING}}
    return found


def _own_paths() -> dict[str, str]:
    paths: dict[str, str] = {}
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            _number, names, path = line.rstrip("\n").split(":", 2)
            paths |= dict.fromkeys(names.split(","), path)
    return paths


def _inside(mount: tuple[str, str], path: str) -> str | None:
    place, root = mount
    relative = os.path.relpath(path, root)
    return None if relative.startswith("..") else os.path.normpath(os.path.join(place, relative))


def _make_own(folder: str, own: str) -> str | None:
    if not os.access(os.path.join(folder, "cgroup.procs"), os.W_OK):
        return None
    _sweep(folder)
    path = os.path.join(folder, own)
    try:
        os.mkdir(path)
    except FileExistsError:
        pass
    except OSError:
        return None
    return path


def _unified(base: str, own: str) -> dict[str, str]:
    """Use a delegated subtree: its processes step into a leaf, then its controllers are handed down."""
    offered = [each for each in CONTROLLERS if each in _read(base, "cgroup.controllers").split()]
    if not offered or not os.access(os.path.join(base, "cgroup.procs"), os.W_OK):
        return {}
    _sweep(base)
    try:
        if set(offered) - set(_read(base, "cgroup.subtree_control").split()):
            leaf = os.path.join(base, _PREFIX + "main")
            os.makedirs(leaf, exist_ok=True)
            for pid in (os.getpid(), os.getppid()):
                _write(os.path.join(leaf, "cgroup.procs"), str(pid))
            _write(os.path.join(base, "cgroup.subtree_control"), " ".join("+" + each for each in offered))
        path = os.path.join(base, own)
        os.mkdir(path)
        _write(os.path.join(path, "cgroup.subtree_control"), " ".join("+" + each for each in offered))
    except OSError:
        return {}
    return dict.fromkeys(offered, path)


def _sweep(folder: str) -> None:
    """Remove the groups of sandboxes that were killed before they could."""
    for name in os.listdir(folder):
        pid = name.removeprefix(_PREFIX)
        if name.startswith(_PREFIX) and pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
            path = os.path.join(folder, name)
            for cell in os.listdir(path):
                _removed(os.path.join(path, cell))
            _removed(path)


def _removed(folder: str) -> bool:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        try:
            os.rmdir(folder)
        except (PermissionError, NotADirectoryError, FileNotFoundError):
            return True
        except OSError:
            return False
    return True


def _read(folder: str, file: str) -> str:
    return meter.read(os.path.join(folder, file))


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(descriptor)
