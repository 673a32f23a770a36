"""Forks cells as ordered, tells how they fare, and leaves nothing behind: the zygote's whole work."""

import contextlib
import json
import os
import select
import selectors
import signal
import socket
import time
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

from sandbox import cell, cgroup, init
from sandbox.backends import outside
from sandbox.backends.loader import Loader
from sandbox.controllers import Controllers
from sandbox.cradle import Cradle, Newborn
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

    born: Newborn
    status: socket.socket
    timeout_s: float
    kill_at: float
    is_made: bool = False
    timed_out: bool = False
    ending: dict[str, object] | None = None


class Nursery:
    """Has cells born as ordered, tells how they fare, and leaves nothing behind.

    One is born before it is ordered, so that an order need not wait for that.
    """

    def __init__(self, control: socket.socket, kit: cell.Kit, controllers: Controllers) -> None:
        self._control = control
        self._kit = kit
        self._controllers = controllers
        self._cradle = Cradle(controllers)
        self._loader = Loader(kit.template)
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ)
        self._cells: dict[int, Running] = {}
        self._spare: Newborn | None = None
        self._wants_spare = True
        self._old_groups: list[cgroup.Group] = []

    def serve(self) -> None:
        """Work until the other end closes; then end every cell and return when all are gone."""
        self._bear_spare()
        while self._take_events():
            self._bear_spare()
        self._give_up_spare()
        for running in self._cells.values():
            _kill(running.born)
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
                if key.fileobj is running.born.report:
                    self._hear(running)
                else:
                    self._bury(running)
            elif self._spare is not None and key.data == self._spare.pid:
                # WHY: it has nothing to say but that it ends; whoever orders the next one is told why.
                self._give_up_spare()
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
        if spec.backend != NATIVE:
            self._loader.prepare()
            born = self._cradle.bear(partial(self._become_outside, spec, channel, output))
        else:
            born = self._take_spare() or self._cradle.bear(self._become)
        self._keep(born, status.dup(), spec.limits.timeout_s + spec.lifetime_s)
        try:
            born.group.bound(outside.room(spec))
            if spec.backend == NATIVE:
                socket.send_fds(born.report, [order], [channel, output, status.fileno()])
        except (OSError, SandboxError) as error:
            _kill(born)
            raise error if isinstance(error, SandboxError) else SandboxError.from_os("cell", error) from None

    def _become(self, group: cgroup.Group, report: int) -> NoReturn:
        init.run(self._kit, group, report)

    def _become_outside(self, spec: Spec, channel: int, output: int, group: cgroup.Group, report: int) -> NoReturn:
        init.run_outside(spec, self._kit, group, (channel, output, report))

    def _bear_spare(self) -> None:
        """Have a cell born that nobody ordered yet, when there is none and nobody waits for one."""
        if self._spare is not None or not self._wants_spare or not all(each.is_made for each in self._cells.values()):
            return
        self._wants_spare = False
        # WHY: what cannot be now is told to whoever orders one.
        with contextlib.suppress(SandboxError):
            self._spare = self._cradle.bear(self._become)
            self._watch(self._spare)

    def _take_spare(self) -> Newborn | None:
        spare, self._spare = self._spare, None
        self._wants_spare = True
        if spare is not None:
            self._unwatch(spare)
            if _is_gone(spare):
                self._spare = spare
                self._give_up_spare()
                return None
        return spare

    def _give_up_spare(self) -> None:
        spare, self._spare = self._spare, None
        if spare is not None:
            self._unwatch(spare)
            _kill(spare)
            os.waitpid(spare.pid, 0)
            self._old_groups.append(spare.group)
            spare.report.close()
            os.close(spare.handle)

    def _keep(self, born: Newborn, status: socket.socket, timeout_s: float) -> None:
        status.settimeout(0)
        kill_at = time.monotonic() + _SETUP_S
        self._cells[born.pid] = Running(born=born, status=status, timeout_s=timeout_s, kill_at=kill_at)
        self._watch(born)

    def _watch(self, born: Newborn) -> None:
        for source in (born.report, born.handle):
            self._selector.register(source, selectors.EVENT_READ, born.pid)

    def _unwatch(self, born: Newborn) -> None:
        for source in (born.report, born.handle):
            with contextlib.suppress(KeyError):
                self._selector.unregister(source)

    def _hear(self, running: Running) -> bool:
        """Take in what the cell's init reports; tells whether there was anything."""
        try:
            data = running.born.report.recv(_REPORT_BYTES)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            data = b""  # it ended before it had read its order
        if not data:
            with contextlib.suppress(KeyError):
                self._selector.unregister(running.born.report)
            return False
        message = json.loads(data)
        match message.pop("t"):
            case "ready":
                running.is_made = True
                running.kill_at = time.monotonic() + running.timeout_s + _GRACE_S
                try:
                    running.born.group.bound_cpu()
                except SandboxError as error:
                    tell(running.status, {"t": "error", **error.as_json()})
                    _kill(running.born)
                    return True
                tell(running.status, {"t": "ready", "meters": running.born.group.meters()}, running.born.handle)
            case "error":
                tell(running.status, {"t": "error", **message})
                _kill(running.born)
            case _:
                running.ending = message
        return True

    def _bury(self, running: Running) -> None:
        """Reap a cell whose processes are all gone and tell how it ended."""
        born = running.born
        _pid, status, usage = os.wait4(born.pid, 0)
        while self._hear(running):
            pass
        self._unwatch(born)
        del self._cells[born.pid]
        peak, is_oom = born.group.usage()
        code = os.waitstatus_to_exitcode(status)
        ending = running.ending or {"exit": None, "signal": -code if code < 0 else None}
        # WHY: of processes that end with their namespace the kernel tells their parent nothing.
        with contextlib.closing(Meter(born.group.meters())) as meter:
            counted = meter.total_cpu_s() or 0.0
        ending["cpu_s"] = max(counted, usage.ru_utime + usage.ru_stime)
        ending["memory_peak_bytes"] = peak if peak is not None else usage.ru_maxrss << 10
        ending["oom"] = is_oom
        ending["timed_out"] = running.timed_out
        self._old_groups.append(born.group)
        # INVARIANT: before its end is told, so that whoever waits for it finds nothing left.
        self._sweep()
        born.report.close()
        os.close(born.handle)
        tell(running.status, {"t": "end", **ending})
        running.status.close()

    def _end_overdue(self) -> None:
        now = time.monotonic()
        for running in self._cells.values():
            if running.kill_at <= now:
                running.timed_out = True
                running.kill_at = now + _SETUP_S
                _kill(running.born)

    def _sweep(self) -> None:
        self._old_groups = [each for each in self._old_groups if not each.remove()]


def _kill(born: Newborn) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(born.handle, signal.SIGKILL)


def _is_gone(born: Newborn) -> bool:
    poller = select.poll()
    poller.register(born.handle, select.POLLIN)
    return bool(poller.poll(0))


def tell(status: socket.socket, message: dict[str, object], descriptor: int | None = None) -> None:
    """Tell whoever holds the other end, with a descriptor if need be; never waits."""
    data = json.dumps(message).encode() + b"\n"
    # WHY: nobody may be listening any more; the cell is ended by its own clock then.
    with contextlib.suppress(OSError):
        socket.send_fds(status, [data], [] if descriptor is None else [descriptor])
