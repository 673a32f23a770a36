"""Forks cells as ordered, tells how they fare, and leaves nothing behind: the zygote's whole work."""

import contextlib
import json
import os
import selectors
import signal
import socket
import time
from dataclasses import dataclass

from sandbox import cell, cgroup, kernel
from sandbox.backends import outside
from sandbox.backends.loader import Loader
from sandbox.controllers import Controllers
from sandbox.errors import SandboxError
from sandbox.meter import Meter
from sandbox.spec import MAX_ORDER_BYTES, NATIVE, Spec, SpecError

_ORDER_DESCRIPTORS = 3
_SETUP_S = 10.0
_GRACE_S = 1.0
_SWEEP_S = 0.05
_REPORT_BYTES = 64 << 10


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


class Nursery:
    """Forks cells as ordered, tells how they fare, and leaves nothing behind."""

    def __init__(self, control: socket.socket, kit: cell.Kit, controllers: Controllers) -> None:
        self._control = control
        self._kit = kit
        self._controllers = controllers
        self._loader = Loader(kit.template)
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
                    tell(status, {"t": "error", **error.as_json()})
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
            self._controllers.check(spec.limits, single_process=spec.single_process)
        self._count += 1
        if spec.backend != NATIVE:
            self._loader.prepare()
        group = cgroup.make_group(self._controllers, f"cell-{self._count}", outside.room(spec))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            pid = self._fork(group)
            if pid == 0:
                ends = cell.Ends(channel=channel, output=output, report=theirs.fileno())
                cell.run(spec, self._kit, group, ends)
        except OSError as error:
            ours.close()
            self._old_groups.append(group)
            raise SandboxError.from_os("pid namespace", error) from None
        finally:
            theirs.close()
        self._keep(pid, ours, status.dup(), group, spec.limits.timeout_s + spec.lifetime_s)

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

    def _hear(self, running: Running) -> bool:
        """Take in what the cell's init reports; tells whether there was anything."""
        try:
            data = running.report.recv(_REPORT_BYTES)
        except BlockingIOError:
            return False
        if not data:
            with contextlib.suppress(KeyError):
                self._selector.unregister(running.report)
            return False
        message = json.loads(data)
        match message.pop("t"):
            case "ready":
                running.kill_at = time.monotonic() + running.timeout_s + _GRACE_S
                try:
                    running.group.bound_cpu()
                except SandboxError as error:
                    tell(running.status, {"t": "error", **error.as_json()})
                    self._kill(running)
                    return True
                tell(running.status, {"t": "ready", "meters": running.group.meters()}, running.handle)
            case "error":
                tell(running.status, {"t": "error", **message})
                self._kill(running)
            case "refused":
                tell(running.status, {"t": "refused", **message})
            case _:
                running.ending = message
        return True

    def _bury(self, running: Running) -> None:
        """Reap a cell whose processes are all gone and tell how it ended."""
        _pid, status, usage = os.wait4(running.pid, 0)
        while self._hear(running):
            pass
        for source in (running.report, running.handle):
            with contextlib.suppress(KeyError):
                self._selector.unregister(source)
        del self._cells[running.pid]
        peak, is_oom = running.group.usage()
        code = os.waitstatus_to_exitcode(status)
        ending = running.ending or {"exit": None, "signal": -code if code < 0 else None}
        # WHY: of processes that end with their namespace the kernel tells their parent nothing.
        with contextlib.closing(Meter(running.group.meters())) as meter:
            counted = meter.total_cpu_s() or 0.0
        ending["cpu_s"] = max(counted, usage.ru_utime + usage.ru_stime)
        ending["memory_peak_bytes"] = peak if peak is not None else usage.ru_maxrss << 10
        ending["oom"] = is_oom
        ending["timed_out"] = running.timed_out
        self._old_groups.append(running.group)
        # INVARIANT: before its end is told, so that whoever waits for it finds nothing left.
        self._sweep()
        running.report.close()
        os.close(running.handle)
        tell(running.status, {"t": "end", **ending})
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


def tell(status: socket.socket, message: dict[str, object], descriptor: int | None = None) -> None:
    """Tell whoever holds the other end, with a descriptor if need be; never waits."""
    data = json.dumps(message).encode() + b"\n"
    # WHY: nobody may be listening any more; the cell is ended by its own clock then.
    with contextlib.suppress(OSError):
        socket.send_fds(status, [data], [] if descriptor is None else [descriptor])
