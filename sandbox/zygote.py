"""The process that cells are forked from: clean, single-threaded, without secrets.

It is exec'd with an empty environment and one descriptor, and is the first process of a pid
namespace of its own: when it ends, for whatever reason, the kernel ends every cell with it.
Of earlier orders (labels, paths, limits) a cell may find traces in its memory; no order is secret.
"""

import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import sys
import time
from dataclasses import dataclass
from typing import NoReturn

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from sandbox import cell, cgroup, identity, kernel, landlock, libraries, root, seccomp
from sandbox.errors import SandboxError
from sandbox.spec import Spec, SpecError

MAX_ORDER_BYTES = 128 << 10
_ORDER_DESCRIPTORS = 3
_SETUP_S = 10.0
_GRACE_S = 1.0
_SWEEP_S = 0.05
_REPORT_BYTES = 64 << 10
_GO_FIRST = "500"
_NAMESPACES_FIX = "run as root with CAP_SYS_ADMIN, or as an ordinary user who may make user namespaces"


@dataclass(slots=True)
class Running:
    """A cell under way."""

    pid: int
    handle: int
    report: socket.socket
    status: socket.socket
    group: cgroup.Group
    timeout_s: float
    kill_at: float
    timed_out: bool = False
    ending: dict[str, object] | None = None


class Zygote:
    """Forks cells as ordered, tells how they fare, and leaves nothing behind."""

    def __init__(self, control: socket.socket, kit: cell.Kit, controllers: cgroup.Controllers) -> None:
        self._control = control
        self._kit = kit
        self._controllers = controllers
        self._own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ)
        self._cells: dict[int, Running] = {}
        self._old_groups: list[cgroup.Group] = []
        self._count = 0

    def serve(self) -> None:
        """Work until the other end closes; then end every cell and return when all are gone."""
        while self._take_events():
            pass
        for running in self._cells.values():
            self._kill(running)
        for running in list(self._cells.values()):
            self._bury(running)
        deadline = time.monotonic() + _SETUP_S
        while self._old_groups and time.monotonic() < deadline:
            self._sweep()
            time.sleep(_SWEEP_S / 10)

    def _take_events(self) -> bool:
        for key, _events in self._selector.select(self._patience()):
            if key.fileobj is self._control:
                if not self._take_order():
                    return False
            elif key.data in self._cells:
                running = self._cells[key.data]
                if key.fileobj is running.report:
                    self._hear(running)
                else:
                    self._bury(running)
        self._end_overdue()
        self._sweep()
        return True

    def _patience(self) -> float | None:
        if self._old_groups:
            return _SWEEP_S
        nearest = min((each.kill_at for each in self._cells.values()), default=None)
        return None if nearest is None else max(0.0, nearest - time.monotonic())

    def _take_order(self) -> bool:
        data, descriptors, flags, _address = socket.recv_fds(self._control, MAX_ORDER_BYTES, _ORDER_DESCRIPTORS)
        if not data:
            return False
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) or len(descriptors) != _ORDER_DESCRIPTORS:
                raise SandboxError("zygote", "an order that was cut off")
            channel, output, status_end = descriptors
            with socket.socket(fileno=os.dup(status_end)) as status:
                try:
                    self._spawn(data, channel, output, status)
                except SandboxError as error:
                    _tell(status, {"t": "error", **error.as_json()})
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def _spawn(self, order: bytes, channel: int, output: int, status: socket.socket) -> None:
        try:
            spec = Spec.from_json(order)
        except SpecError as error:
            raise SandboxError("spec", str(error)) from None
        if spec.require_cgroup:
            self._controllers.check(spec.limits)
        self._count += 1
        group = cgroup.make_group(self._controllers, f"cell-{self._count}", spec.limits)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            pid = self._fork()
            if pid == 0:
                ends = cell.Ends(channel=channel, output=output, report=theirs.fileno())
                cell.run(spec, self._kit, group, ends)
        except OSError as error:
            ours.close()
            self._old_groups.append(group)
            raise SandboxError.from_os("pid namespace", error) from None
        finally:
            theirs.close()
        self._keep(pid, ours, status.dup(), group, spec.limits.timeout_s)

    def _fork(self) -> int:
        """Fork the first process of a new pid namespace."""
        kernel.unshare(kernel.CLONE_NEWPID)
        pid = -1
        try:
            pid = os.fork()
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

    def _keep(
        self, pid: int, report: socket.socket, status: socket.socket, group: cgroup.Group, timeout_s: float
    ) -> None:
        handle = os.pidfd_open(pid)
        running = Running(
            pid=pid,
            handle=handle,
            report=report,
            status=status,
            group=group,
            timeout_s=timeout_s,
            kill_at=time.monotonic() + _SETUP_S,
        )
        report.settimeout(0)
        status.settimeout(0)
        self._cells[pid] = running
        self._selector.register(report, selectors.EVENT_READ, pid)
        self._selector.register(handle, selectors.EVENT_READ, pid)

    def _hear(self, running: Running) -> None:
        """Take in what the cell's init reports."""
        try:
            data = running.report.recv(_REPORT_BYTES)
        except BlockingIOError:
            return
        if not data:
            with contextlib.suppress(KeyError):
                self._selector.unregister(running.report)
            return
        message = json.loads(data)
        match message.pop("t"):
            case "ready":
                running.kill_at = time.monotonic() + running.timeout_s + _GRACE_S
                _tell(running.status, {"t": "ready"}, running.handle)
            case "error":
                _tell(running.status, {"t": "error", **message})
                self._kill(running)
            case _:
                running.ending = message

    def _bury(self, running: Running) -> None:
        """Reap a cell whose processes are all gone and tell how it ended."""
        _pid, status, usage = os.wait4(running.pid, 0)
        for _report in range(3):
            self._hear(running)
        for source in (running.report, running.handle):
            with contextlib.suppress(KeyError):
                self._selector.unregister(source)
        del self._cells[running.pid]
        peak, is_oom = running.group.usage()
        code = os.waitstatus_to_exitcode(status)
        ending = running.ending or {"exit": None, "signal": -code if code < 0 else None}
        ending["cpu_s"] = usage.ru_utime + usage.ru_stime
        ending["memory_peak_bytes"] = peak if peak is not None else usage.ru_maxrss << 10
        ending["oom"] = is_oom
        ending["timed_out"] = running.timed_out
        self._old_groups.append(running.group)
        self._sweep()
        running.report.close()
        os.close(running.handle)
        _tell(running.status, {"t": "end", **ending})
        running.status.close()

    def _kill(self, running: Running) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(running.handle, signal.SIGKILL)

    def _end_overdue(self) -> None:
        now = time.monotonic()
        for running in self._cells.values():
            if running.kill_at <= now:
                running.timed_out = True
                running.kill_at = now + _SETUP_S
                self._kill(running)

    def _sweep(self) -> None:
        self._old_groups = [each for each in self._old_groups if not each.remove()]


def _tell(status: socket.socket, message: dict[str, object], descriptor: int | None = None) -> None:
    data = json.dumps(message).encode() + b"\n"
    # WHY: nobody may be listening any more; the cell is ended by its own clock then.
    with contextlib.suppress(OSError):
        socket.send_fds(status, [data], [] if descriptor is None else [descriptor])


def main() -> NoReturn:
    """Start as the launcher's child: settle in, fork the zygote proper, and clean up after it."""
    control = socket.socket(fileno=int(sys.argv[1]))
    sys.path.remove(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    controllers = cgroup.NO_CONTROLLERS
    try:
        _settle()
        controllers = cgroup.find_controllers()
        if os.getuid() == 0:
            kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWPID)
        else:
            identity.enter_user_namespace(kernel.CLONE_NEWNS | kernel.CLONE_NEWPID)
        zygote = os.fork()
        if zygote == 0:
            _run(control, controllers)
        control.close()
        os.waitpid(zygote, 0)
    except OSError as error:
        _tell(control, {"t": "error", **SandboxError.from_os("namespaces", error, fix=_NAMESPACES_FIX).as_json()})
    except SandboxError as error:
        _tell(control, {"t": "error", **error.as_json()})
    finally:
        cgroup.forget_controllers(controllers)
        os._exit(0)


def _settle() -> None:
    os.environ.clear()
    os.umask(0o022)
    sys.dont_write_bytecode = True
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # WHY: where the host runs out of memory, cells go before the gateway.
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write(_GO_FIRST)
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)


def _run(control: socket.socket, controllers: cgroup.Controllers) -> NoReturn:
    try:
        # WHY: a cell outlives neither this process nor, through this, the one that cleans up after it.
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
        libraries.preload()
        kit = cell.Kit(
            filter=seccomp.build_filter(kernel.machine()),
            last_capability=identity.last_capability(),
            template=root.prepare_template(os.path.dirname(os.path.abspath(__file__))),
        )
        gc.collect()
        gc.freeze()
        zygote = Zygote(control, kit, controllers)
        _tell(control, {"t": "ready", "landlock_abi": landlock.abi(), "controllers": sorted(controllers.folders)})
        zygote.serve()
    except SandboxError as error:
        _tell(control, {"t": "error", **error.as_json()})
    except OSError as error:
        _tell(control, {"t": "error", **SandboxError.from_os("zygote", error).as_json()})
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
