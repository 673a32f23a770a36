"""The host's service manager, asked for a group of processes that the sandbox may divide as it likes."""

import os
import signal
import time
from collections.abc import Callable

SCOPE = ".scope"
_BUSCTL = ("/usr/bin/busctl", "/bin/busctl")
_RUNS = "/run/systemd/system"  # sd_booted(3)
_CALL = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
_WAIT_S = 5.0
_LOOK_S = 0.005


def is_running() -> bool:
    """Tell whether a service manager divides this host's control groups."""
    return os.path.isdir(_RUNS)


def enter_scope(name: str) -> bool:
    """Move this process into a new scope of this name, delegated to it; False: the service manager did not.

    An ordinary user's own manager is asked (org.freedesktop.systemd1(5), StartTransientUnit).
    """
    program = next((path for path in _BUSCTL if os.access(path, os.X_OK)), None)
    if program is None:
        return False
    uid = os.getuid()
    before = _own_group()
    bus = "--system" if uid == 0 else "--user"
    argv = [program, bus, "--quiet", "--no-pager", "call", *_CALL, "StartTransientUnit", "ssa(sv)a(sa(sv))"]
    argv += [name + SCOPE, "fail", "2", "Delegate", "b", "true", "PIDs", "au", "1", str(os.getpid()), "0"]
    deadline = time.monotonic() + _WAIT_S
    if not _succeeds(argv, {"XDG_RUNTIME_DIR": f"/run/user/{uid}"}, deadline):
        return False
    return _until(lambda: _own_group() != before, deadline)


def _succeeds(argv: list[str], environment: dict[str, str], deadline: float) -> bool:
    silent = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
    # WHY: not `subprocess`, whose modules each cell would carry in its memory.
    try:
        pid = os.posix_spawn(argv[0], argv, environment, file_actions=silent)
    except OSError:
        return False
    ended: list[int] = []

    def is_over() -> bool:
        found, status = os.waitpid(pid, os.WNOHANG)
        ended.extend([status] if found else [])
        return bool(found)

    if not _until(is_over, deadline):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return ended == [0]


def _until(is_so: Callable[[], bool], deadline: float) -> bool:
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_S)
    return True


def _own_group() -> str:
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        return file.read()
