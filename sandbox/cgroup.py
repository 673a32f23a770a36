"""The barrier of resources: memory, processes and cpu of a cell's whole tree, by control groups v1 or v2."""

import errno
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from sandbox import kernel, meter
from sandbox.controllers import COUNTING, Controllers, removed, write
from sandbox.errors import SandboxError
from sandbox.spec import Limits

_METERS = {"cpu": "cpuacct.usage", "memory": "memory.max_usage_in_bytes"}
_NO_SUCH_FORK = frozenset({errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.E2BIG})  # an older kernel, or a container
_PERIOD_US = 100_000
_MIN_QUOTA_US = 1_000


@dataclass(slots=True)
class Group:
    """The control groups of one cell."""

    folders: Mapping[str, str]
    unified: bool
    cpu: Mapping[str, str] = field(default_factory=dict)  # the share of the processor, not yet in force
    left: set[str] = field(default_factory=set)
    is_joined: bool = False

    @property
    def bounds_memory(self) -> bool:
        """Tell whether the memory of the whole tree is counted."""
        return "memory" in self.folders

    def fork(self) -> int:
        """Fork as `os.fork` does; where the kernel can, the child is born under the limits."""
        # WHY: in v2 a process that moves waits for a lock of the whole system, some 20 ms.
        pid = self._fork_inside() if self.unified and self.folders else None
        return os.fork() if pid is None else pid

    def _fork_inside(self) -> int | None:
        folder = os.open(next(iter(self.folders.values())), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            pid = kernel.fork_into(folder)
        except OSError as error:
            if error.errno in _NO_SUCH_FORK:
                return None
            raise
        finally:
            os.close(folder)
        self.is_joined = pid == 0
        return pid

    def join(self) -> None:
        """Put this process, and all that come from it, under the limits, unless it was born there."""
        if self.is_joined:
            return
        # WHY: in v1 a thread that moves itself, and this process has one, waits for no lock of the whole
        # system; `cgroup.procs` does, for milliseconds. v2 has no such file for controllers of memory.
        file = "cgroup.procs" if self.unified else "tasks"
        for folder in sorted(set(self.folders.values())):
            try:
                write(os.path.join(folder, file), "0")
            except OSError as error:
                raise SandboxError.from_os("cgroup", error) from None

    def bound(self, limits: Limits) -> None:
        """Put the limits in force, but for the share of the processor, which `bound_cpu` does."""
        # WHY: in force from the start, it would stretch the raising of the barriers, which is the sandbox's own work.
        self.cpu = _settings("cpu", limits, unified=self.unified) if "cpu" in self.folders else {}
        try:
            for controller, folder in self.folders.items():
                if controller in {"cpu", COUNTING}:
                    continue
                for file, value in _settings(controller, limits, unified=self.unified).items():
                    write(os.path.join(folder, file), value)
            _bound_swap(self, limits)
        except OSError as error:
            raise SandboxError.from_os("cgroup", error) from None

    def bound_cpu(self) -> None:
        """Put the share of the processor in force."""
        try:
            for file, value in self.cpu.items():
                write(os.path.join(self.folders["cpu"], file), value)
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
        places = {"cpu": "cpu" if self.unified else COUNTING, "memory": "memory"}
        return {what: f"{self.folders[place]}/{files[what]}" for what, place in places.items() if place in self.folders}

    def remove(self) -> bool:
        """Remove the groups; False: the kernel still counts a process that is going, so try again."""
        self.left = {folder for folder in (self.left or set(self.folders.values())) if not removed(folder)}
        return not self.left


def make_group(controllers: Controllers, name: str) -> Group:
    """Make a cell's groups, without limits; what the host does not offer is left out."""
    folders = {controller: os.path.join(folder, name) for controller, folder in controllers.folders.items()}
    group = Group(folders=folders, unified=controllers.unified)
    try:
        for folder in set(folders.values()):
            os.mkdir(folder)
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
            write(path, value)


def _read(folder: str, file: str) -> str:
    return meter.read(os.path.join(folder, file))
