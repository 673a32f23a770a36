"""Bears the first processes of cells, each in a control group and a namespace of processes of its own."""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from sandbox import cgroup, kernel
from sandbox.controllers import Controllers
from sandbox.errors import SandboxError


@dataclass(frozen=True, slots=True)
class Newborn:
    """A cell's first process, as the zygote holds it."""

    pid: int
    handle: int
    report: socket.socket
    group: cgroup.Group


Become = Callable[[cgroup.Group, int], NoReturn]  # with the number of the socket through which it reports


class Cradle:
    """Where the zygote's children are born."""

    def __init__(self, controllers: Controllers) -> None:
        self._controllers = controllers
        self._own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._count = 0

    def bear(self, become: Become) -> Newborn:
        """Fork a process that becomes a cell's init.

        Raises:
            SandboxError: it could not be born, or not in a group of its own.
        """
        self._count += 1
        group = cgroup.make_group(self._controllers, f"cell-{self._count}")
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                try:
                    pid = self._fork(group)
                    if pid == 0:
                        become(group, theirs.fileno())
                    handle = os.pidfd_open(pid)
                except OSError:
                    ours.close()
                    raise
        except OSError as error:
            group.remove()
            raise SandboxError.from_os("pid namespace", error) from None
        ours.settimeout(0)
        return Newborn(pid, handle, ours, group)

    def _fork(self, group: cgroup.Group) -> int:
        """Fork the first process of a new pid namespace."""
        kernel.unshare(kernel.CLONE_NEWPID)
        pid = -1
        try:
            pid = group.fork()
        finally:
            if pid != 0:
                self._come_back()
        return pid

    def _come_back(self) -> None:
        try:
            kernel.enter_namespace(self._own_pids, kernel.CLONE_NEWPID)
        except OSError as error:
            # SECURITY: a cell may be born already that nobody would watch; ending here ends it too.
            raise SystemExit(f"the zygote lost its pid namespace: {error}") from None
