"""A cell's first process, its trusted init: it makes the cell, gives up all it could do, and watches over the plugin.

It is born before anybody ordered its cell: it makes what all cells have alike, bears the process that will be the
plugin's, and waits. No word of a plugin or a caller has reached either until then.
"""

import fcntl
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import NoReturn

from sandbox import cell, cgroup, disk, identity, kernel, notify, pause, relay, root
from sandbox.backends import outside
from sandbox.cell import CHANNEL, REPORT, Kit
from sandbox.errors import SandboxError
from sandbox.spec import MAX_ORDER_BYTES, Spec
from sandbox.witness import Tell

_FIRST_SPARE = 64
_PIPE_BYTES = 4096
_HOST_NAME = "cell"
_OUTPUT = 1
_LIKE_AN_ORDER = Spec(plugin_id="none", code="/none", uid=1).to_json()
_TO_PLUGIN = 2  # descriptors: the channel, and where it prints
_TO_INIT = 3  # and where it tells what is refused


def run(kit: Kit, group: cgroup.Group, report: int) -> NoReturn:
    """Become the init of a cell that is not ordered yet; never returns to the zygote's code."""
    status = 1
    try:
        _keep_only(report)
        _enter_namespaces(group)
        root.begin_root(kit.template)
        identity.bar_gains(kit.last_capability)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        plugin = os.fork()
        if plugin == 0:
            ours.close()
            status = _be_plugin(kit, group, theirs)
        else:
            theirs.close()
            status = _be_init(kit, plugin, ours)
    except SandboxError as error:
        _report({"t": "error", **error.as_json()})
    except BaseException as error:  # noqa: BLE001  # a child must never run on as the zygote
        _report({"t": "error", **SandboxError("cell", f"{type(error).__name__}: {error}").as_json()})
    finally:
        os._exit(status)


def run_outside(spec: Spec, kit: Kit, group: cgroup.Group, ends: tuple[int, int, int]) -> NoReturn:
    """Become the one who has another program make a cell; `ends`: its channel, where it prints, and `report`."""
    status = 1
    try:
        channel, output, report = ends
        _keep_only(report, output, output, channel)
        program = outside.build(spec, kit.template, group, channel=CHANNEL, last_capability=kit.last_capability)
        _report(program.await_ready())
        _report(program.wait())
        status = 0
    except SandboxError as error:
        _report({"t": "error", **error.as_json()})
    except BaseException as error:  # noqa: BLE001  # as above
        _report({"t": "error", **SandboxError("cell", f"{type(error).__name__}: {error}").as_json()})
    finally:
        os._exit(status)


def _keep_only(report: int, *from_one: int) -> None:
    """Keep `report` and these, from the number 1 on, under fixed numbers, and close every other descriptor."""
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    kept = (null, *from_one, *(null,) * (REPORT - 1 - len(from_one)), report)
    # WHY: moved up first, for one's number may be another's place.
    spare = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, _FIRST_SPARE) for each in kept]
    for place, descriptor in enumerate(spare):
        os.dup2(descriptor, place, inheritable=False)
    # SECURITY: closed before anything else happens; an inherited descriptor would be a door.
    kernel.close_from(len(kept))


def _enter_namespaces(group: cgroup.Group) -> None:
    group.join()
    try:
        kernel.unshare(
            kernel.CLONE_NEWNS
            | kernel.CLONE_NEWNET
            | kernel.CLONE_NEWIPC
            | kernel.CLONE_NEWUTS
            | kernel.CLONE_NEWCGROUP
        )
        socket.sethostname(_HOST_NAME)
    except OSError as error:
        raise SandboxError.from_os("namespaces", error) from None


def _be_init(kit: Kit, plugin: int, line: socket.socket) -> int:
    """Make the cell that is ordered, and watch over its plugin; gives its own exit status."""
    Spec.from_json(_LIKE_AN_ORDER)
    with socket.socket(fileno=os.dup(REPORT)) as orders:
        poller = select.poll()
        for each in (orders, line):
            poller.register(each, select.POLLIN)
        if any(number == line.fileno() for number, _events in poller.poll()):
            return 0  # WHY: the plugin's process is gone, and without it there is nothing to order
        order, handed = _receive(orders, _TO_INIT)
    if not order:
        return 0
    status = socket.socket(fileno=handed.pop())
    spec = Spec.from_json(order)
    os.dup2(handed[0], CHANNEL, inheritable=False)
    if spec.relay:
        relay.hand_over(relay.open_door(), CHANNEL)
    uid = spec.uid if os.getuid() == 0 else os.getuid()
    disk.hand_over(root.enter_root(kit.template, spec, uid), CHANNEL)
    identity.drop_capabilities(spec.uid)
    # SECURITY: what is the same user inside must not look into the trusted init.
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    # INVARIANT: last of all, so that the plugin's process holds the channel only when nothing else comes through it.
    socket.send_fds(line, [_place(), order], handed)
    for descriptor in handed:
        os.close(descriptor)
    _watch(plugin, spec, kit, line, status)
    return 0


def _be_plugin(kit: Kit, group: cgroup.Group, line: socket.socket) -> int:
    """Wait for the cell to be made, raise the barriers that are left, and take calls; gives the exit status."""
    # WHY: what is done once before the order takes its own copies of memory then, and not when somebody waits.
    Spec.from_json(_LIKE_AN_ORDER)
    told, handed = _receive(line, _TO_PLUGIN)
    if not told:
        return 0
    if not told.startswith(place := _place()):
        # SECURITY: the root was exchanged under a process that was there before; it is looked at, not believed.
        raise SandboxError("root", "the plugin's process is not in the cell's root")
    spec = Spec.from_json(told.removeprefix(place))
    for number, source in ((CHANNEL, handed[0]), (_OUTPUT, handed[1]), (_OUTPUT + 1, handed[1])):
        os.dup2(source, number, inheritable=False)
    for descriptor in handed:
        os.close(descriptor)
    identity.drop_capabilities(spec.uid)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    source_code = b"" if spec.program is not None else cell.read_code(spec)
    server = cell.become_plugin(spec, kit, memory_is_bounded=group.bounds_memory, asking=line)
    os.write(REPORT, cell.READY)
    os.close(REPORT)
    return cell.serve(spec, source_code, server)


def _receive(line: socket.socket, count: int) -> tuple[bytes, list[int]]:
    """Wait for an order; nothing, if whoever could send one is gone."""
    with suppress(ConnectionError):
        told, handed, flags, _address = socket.recv_fds(line, MAX_ORDER_BYTES + _PIPE_BYTES, count)
        if told and (len(handed) != count or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)):
            raise SandboxError("cell", "an order that was cut off")
        return told, handed
    return b"", []


def _place() -> bytes:
    """Tell which folder is this process's root."""
    found = os.stat("/")
    return b"%d %d\n" % (found.st_dev, found.st_ino)


def _watch(plugin: int, spec: Spec, kit: Kit, line: socket.socket, status: socket.socket) -> None:
    """Reap whatever ends in the cell until the plugin does; the kernel then ends the rest.

    Meanwhile the kernel's questions are answered.
    """
    for descriptor in range(REPORT):
        os.close(descriptor)
    waking, woken = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_ended: None)
    if spec.program is not None:
        pause.obey()
    listener = _listener(spec, kit, line, partial(_tell_refused, status))
    poller = select.poll()
    poller.register(waking, select.POLLIN)
    if listener is not None:
        poller.register(listener.descriptor, select.POLLIN)
    while (ended := _reap(plugin)) is None:
        for descriptor, events in poller.poll():
            if descriptor == waking:
                os.read(waking, _PIPE_BYTES)
            elif listener is not None and events & select.POLLIN:
                listener.answer()
            else:
                poller.unregister(descriptor)
    code = os.waitstatus_to_exitcode(ended)
    _report({"t": "end", "exit": code if code >= 0 else None, "signal": -code if code < 0 else None})


def _listener(spec: Spec, kit: Kit, line: socket.socket, tell: Tell) -> notify.Listener | None:
    """Take the end at which the kernel asks, from a plugin's process that has raised all its barriers."""
    with line:
        _data, descriptors, _flags, _address = socket.recv_fds(line, 1, 1)
    if not descriptors:
        return None
    return notify.Listener(descriptors[0], kit.asked, relay=spec.relay, tell=tell, program=spec.program)


def _tell_refused(status: socket.socket, told: Mapping[str, object]) -> bool:
    """Tell whoever holds the cell; False if they hear nothing now."""
    # WHY: straight to them and before the kernel is answered, so that it is there when the plugin answers its call.
    try:
        status.send(json.dumps(told).encode() + b"\n", socket.MSG_DONTWAIT)  # whole or not at all, as short as it is
    except BlockingIOError:
        return False
    except OSError:
        return True  # nobody is left who would hear it
    return True


def _reap(plugin: int) -> int | None:
    """Reap all that have ended; gives the plugin's status if it is among them."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == plugin:
            return status
        if pid == 0:
            return None


def _report(message: dict[str, object]) -> None:
    try:
        os.write(REPORT, json.dumps(message).encode())
    except OSError:
        sys.stderr = None
