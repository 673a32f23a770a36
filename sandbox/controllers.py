"""Where on this host cells may have control groups: v1's own folders, a subtree of v2 that is ours, or none."""

import contextlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sandbox import meter, service_manager
from sandbox.errors import SandboxError
from sandbox.spec import Limits

CONTROLLERS = ("memory", "pids", "cpu")
COUNTING = "cpuacct"  # of the first kind of groups: limits nothing, and is never missed
_OWN_GROUP = "or where it has one of its own: as root, a systemd unit with `Delegate=yes`, or a login of systemd's"
_FIX = {
    "memory": f"run the gateway where it may make a memory control group, {_OWN_GROUP}",
    "pids": f"run the gateway where it may make a pids control group, {_OWN_GROUP}",
    "cpu": f"drop the cpu limit, or run the gateway where it may make a cpu control group, {_OWN_GROUP}",
}
_PREFIX = "hearthgate-"
_LEAF = _PREFIX + "main"
_DELEGATED = ("user.delegate", "trusted.delegate")
_TRIES = 20


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


NO_CONTROLLERS = Controllers(folders={}, unified=False)


def find_controllers() -> Controllers:
    """Make this process's own folder below its groups, in each controller that it may use.

    Where a service manager divides the groups, this process may be moved into a scope of its own.
    """
    own = f"{_PREFIX}{os.getpid()}"
    mounts = _mounted()
    paths = _own_paths()
    folders: dict[str, str] = {}
    for controller in (*CONTROLLERS, COUNTING):
        if controller in mounts and controller in paths:
            folder = _inside(mounts[controller], paths[controller])
            if folder is not None and (made := _make_own(folder, own)):
                folders[controller] = made
    if folders or "" not in mounts:
        return Controllers(folders=folders, unified=False)
    return Controllers(folders=_unified(mounts[""], own), unified=True)


def forget_controllers(controllers: Controllers) -> None:
    """Remove the folders that `find_controllers` made."""
    for folder in set(controllers.folders.values()):
        removed(folder)


def removed(folder: str) -> bool:
    """Remove one group; False: the kernel still counts a process that is going, so try again."""
    try:
        os.rmdir(folder)
    except (PermissionError, NotADirectoryError, FileNotFoundError):
        return True
    except OSError:
        return False
    return True


def write(path: str, text: str) -> None:
    """Tell the kernel something by a file of its own; an error names the file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(descriptor)


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
                found |= {name: (place, root) for name in options.split(",") if name in {*CONTROLLERS, COUNTING}}
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


def _unified(mount: tuple[str, str], own: str) -> dict[str, str]:
    managed = service_manager.is_running()
    base = _ours(mount, managed=managed)
    if base is None and managed and service_manager.enter_scope(own):
        base = _ours(mount, managed=managed)
    return {} if base is None else _handed_down(base, own)


def _ours(mount: tuple[str, str], *, managed: bool) -> str | None:
    """Find the nearest group that is this process's to divide; who manages groups says so, else who owns them."""
    own = _inside(mount, _own_paths().get("", "/"))
    if own is None:
        return None
    top = os.path.normpath(mount[0])
    for folder in (own, os.path.dirname(own)) if own != top else (own,):
        if os.path.basename(folder) != _LEAF and _offered(folder) and _may_write(folder):
            is_ours = _is_delegated(folder) if managed else folder == top or os.getuid() != 0
            if is_ours:
                return folder
    # WHY: with no service manager to cross, root may divide the root itself.
    return top if os.getuid() == 0 and not managed and _offered(top) and _may_write(top) else None


def _is_delegated(folder: str) -> bool:
    name = os.path.basename(folder)
    # WHY: a user's own manager marks no scope, not even the one that was just asked for.
    if name.startswith(_PREFIX) and name.endswith(service_manager.SCOPE):
        return True
    for attribute in _DELEGATED:
        with contextlib.suppress(OSError):
            if os.getxattr(folder, attribute) == b"1":
                return True
    return False


def _may_write(folder: str) -> bool:
    return all(os.access(os.path.join(folder, file), os.W_OK) for file in ("cgroup.procs", "cgroup.subtree_control"))


def _offered(folder: str) -> list[str]:
    return [each for each in CONTROLLERS if each in meter.read(os.path.join(folder, "cgroup.controllers")).split()]


def _handed_down(base: str, own: str) -> dict[str, str]:
    """Use a delegated subtree: its processes step into a leaf, then its controllers are handed down."""
    offered = _offered(base)
    _sweep(base)
    try:
        if set(offered) - set(meter.read(os.path.join(base, "cgroup.subtree_control")).split()):
            _empty(base)
            _enable(base, offered)
        path = os.path.join(base, own)
        os.makedirs(path, exist_ok=True)
        _enable(path, offered)
    except OSError:
        return {}
    return dict.fromkeys(offered, path)


def _empty(base: str) -> None:
    """Let the processes of a group step into a leaf: of all that hand controllers down, only the root may hold any."""
    if not os.path.exists(os.path.join(base, "cgroup.type")):
        return
    leaf = os.path.join(base, _LEAF)
    os.makedirs(leaf, exist_ok=True)
    for _try in range(_TRIES):
        pids = meter.read(os.path.join(base, "cgroup.procs")).split()
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                write(os.path.join(leaf, "cgroup.procs"), pid)


def _enable(folder: str, offered: Iterable[str]) -> None:
    write(os.path.join(folder, "cgroup.subtree_control"), " ".join("+" + each for each in offered))


def _sweep(folder: str) -> None:
    """Remove the groups of sandboxes that were killed before they could."""
    for name in os.listdir(folder):
        pid = name.removeprefix(_PREFIX)
        if name.startswith(_PREFIX) and pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
            path = os.path.join(folder, name)
            for cell in os.listdir(path):
                removed(os.path.join(path, cell))
            removed(path)
