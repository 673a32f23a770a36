"""One cell, from the first instruction after the fork: every barrier is raised before the plugin's first line.

The first process of a cell is its trusted init: it builds the cell, gives up all it could do, and
waits. Its child raises the last barriers on itself and becomes the plugin.
"""

import fcntl
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from sandbox import (
    cgroup,
    disk,
    identity,
    kernel,
    landlock,
    notify,
    pause,
    relay,
    rlimits,
    root,
    runtime,
    seccomp,
    stdio,
    template,
)
from sandbox.backends import loader, outside
from sandbox.errors import SandboxError
from sandbox.spec import FORK, NATIVE, PRISTINE, Spec

CHANNEL, REPORT = 3, 4
_FIRST_SPARE = 64
_PIPE_BYTES = 4096
_HOST_NAME = "cell"
READY = b'{"t":"ready"}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """What the zygote prepared once for all cells."""

    template: root.Template
    filters: Mapping[tuple[bool, bool, bool], bytes]  # by `single_process`, `relay`, and whether a program is started
    refusals: bytes
    last_capability: int
    asking: Mapping[bool, bytes] = field(default_factory=dict)  # by `relay`; empty: this kernel cannot ask
    asked: Mapping[int, str] = field(default_factory=dict)  # the calls that are asked about, by number


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """The descriptors that a cell is born with."""

    channel: int
    output: int
    report: int

    def take(self) -> None:
        """Keep these under fixed numbers and close every other descriptor."""
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        wanted = (null, self.output, self.output, self.channel, self.report)
        # WHY: moved up first, for one's number may be another's place.
        spare = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, _FIRST_SPARE) for each in wanted]
        for place, descriptor in enumerate(spare):
            os.dup2(descriptor, place, inheritable=False)
        # SECURITY: closed before anything else happens; an inherited descriptor would be a door.
        kernel.close_from(len(wanted))


def run(spec: Spec, kit: Kit, group: cgroup.Group, ends: Ends) -> NoReturn:
    """Become the init of a new cell; never returns to the zygote's code."""
    status = 1
    try:
        ends.take()
        if spec.backend != NATIVE:
            program = outside.build(spec, kit.template, group, channel=CHANNEL, last_capability=kit.last_capability)
            _report(program.await_ready())
            _report(program.wait())
            status = 0
        else:
            listening, asking = socket.socketpair()
            plugin = _build(spec, kit, group)
            if plugin == 0:
                listening.close()
                source = b"" if spec.program is not None else read_code(spec)
                server = become_plugin(spec, kit, memory_is_bounded=group.bounds_memory, asking=asking)
                os.write(REPORT, READY)
                os.close(REPORT)
                status = serve(spec, source, server)
            else:
                asking.close()
                _watch(plugin, spec, kit, listening)
                status = 0
    except SandboxError as error:
        _report({"t": "error", **error.as_json()})
    except BaseException as error:  # noqa: BLE001  # a child must never run on as the zygote
        _report({"t": "error", **SandboxError("cell", f"{type(error).__name__}: {error}").as_json()})
    finally:
        os._exit(status)


def _build(spec: Spec, kit: Kit, group: cgroup.Group) -> int:
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
    if spec.relay:
        relay.hand_over(relay.open_door(), CHANNEL)
    uid = spec.uid if os.getuid() == 0 else os.getuid()
    disk.hand_over(root.enter_root(kit.template, spec, uid), CHANNEL)
    identity.drop_privileges(kit.last_capability, spec.uid)
    # SECURITY: what is the same user inside must not look into the trusted init.
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    return os.fork()


def become_plugin(
    spec: Spec, kit: Kit, *, memory_is_bounded: bool, asking: socket.socket | None = None
) -> stdio.Server | None:
    """Raise, on a process that has its namespaces and its root, every other barrier; `asking` leads to its init.

    Gives the program that was started behind the same barriers, where the specification names one.
    """
    os.setsid()
    identity.enter_user_namespace()
    identity.drop_privileges(kit.last_capability)
    return restrain(spec, kit, memory_is_bounded=memory_is_bounded, asking=asking)


def restrain(
    spec: Spec, kit: Kit, *, memory_is_bounded: bool, asking: socket.socket | None = None
) -> stdio.Server | None:
    """Raise the last barriers, those that a process without any privilege can raise."""
    rlimits.limit_process(
        spec.limits,
        lifetime_s=spec.lifetime_s,
        memory_is_bounded=memory_is_bounded,
        reserves=spec.program is not None,
    )
    if spec.relay:
        os.environ.update(relay.environment(certificates=spec.certificates is not None))
    landlock.restrict(_reaches(spec, kit.template), connect_port=relay.PORT if spec.relay else None)
    os.chdir("/scratch")
    if asking is not None and kit.asking:
        _ask(kit.asking[spec.relay], asking)
    server = None if spec.program is None else stdio.start(spec.program, lambda: _filter(spec, kit, starts=True))
    _filter(spec, kit)
    return server


def _filter(spec: Spec, kit: Kit, *, starts: bool = False) -> None:
    seccomp.apply(kit.refusals)
    seccomp.apply(kit.filters[spec.single_process, spec.relay, starts])


def _ask(program: bytes, asking: socket.socket) -> None:
    """Have the kernel ask the cell's init from now on."""
    listener = notify.apply(program, kernel.machine())
    # SECURITY: who holds this end answers for the kernel; it is closed here before the plugin's first line.
    with asking:
        socket.send_fds(asking, [b"l"], [listener])
    os.close(listener)


def read_code(spec: Spec) -> bytes:
    """Read the plugin's first file; as the plugin's user, and before the kernel asks about each file that is opened."""
    try:
        descriptor = os.open(f"/plugin/{spec.entry_point}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            return file.read()
    except OSError:
        missing = f"`{spec.code}/{spec.entry_point}` is missing or not readable by uid {os.getuid()}"
        raise SandboxError("code", missing, fix="chmod a+rX") from None


def serve(spec: Spec, source: bytes, server: stdio.Server | None = None) -> int:
    """Take calls as the plugin's process, for the program that it started if there is one; gives its exit status."""
    code = runtime.Code(spec.entry_point, source)
    with socket.socket(fileno=CHANNEL) as channel:
        if server is not None:
            return stdio.serve_calls(channel, server, most=1 if spec.isolation == PRISTINE else None)
        if spec.isolation == FORK:
            return template.serve(channel, code)
        return runtime.serve_calls(channel, code, most=1 if spec.isolation == PRISTINE else None)


def _reaches(spec: Spec, common: root.Template) -> list[landlock.Reach]:
    trusted = () if spec.certificates is None else (relay.CERTIFICATES,)
    packages = () if spec.packages is None else ("/packages",)
    another = () if spec.backend == NATIVE else loader.readable()
    readable = (*common.libraries, *another, "/plugin", *packages, "/proc", *(each.target for each in spec.mounts))
    written = ("/scratch", *(each.target for each in spec.mounts if each.writable))
    libraries, started = _of_program(spec)
    return [
        *(landlock.Reach(path, landlock.READ) for path in (*readable, *trusted, *libraries)),
        # SECURITY: the one wall between a cell and every other program; no folder is among them.
        *(landlock.Reach(path, landlock.READ | landlock.EXECUTE) for path in started),
        *(landlock.Reach(path, landlock.READ | landlock.WRITE_FILE) for path in root.DEVICES),
        *(landlock.Reach(path, landlock.WRITE) for path in written),
    ]


def _of_program(spec: Spec) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Name what of a program is read, and what is started."""
    if spec.program is None:
        return (), ()
    started = spec.program.executables
    return tuple(place for place in spec.program.places if place not in started), started


def _watch(plugin: int, spec: Spec, kit: Kit, listening: socket.socket) -> None:
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
    listener = _listener(spec, kit, listening)
    poller = select.poll()
    poller.register(waking, select.POLLIN)
    if listener is not None:
        poller.register(listener.descriptor, select.POLLIN)
    while (status := _reap(plugin)) is None:
        for descriptor, events in poller.poll():
            if descriptor == waking:
                os.read(waking, _PIPE_BYTES)
            elif listener is not None and events & select.POLLIN:
                listener.answer()
            else:
                poller.unregister(descriptor)
    code = os.waitstatus_to_exitcode(status)
    _report({"t": "end", "exit": code if code >= 0 else None, "signal": -code if code < 0 else None})


def _listener(spec: Spec, kit: Kit, listening: socket.socket) -> notify.Listener | None:
    """Take the end at which the kernel asks, from a plugin's process that has raised all its barriers."""
    with listening:
        _data, descriptors, _flags, _address = socket.recv_fds(listening, 1, 1)
    if not descriptors:
        return None
    return notify.Listener(descriptors[0], kit.asked, relay=spec.relay, tell=_report_refused, program=spec.program)


def _report_refused(told: Mapping[str, object]) -> bool:
    _report(dict(told))
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
