"""One cell, from the first instruction after the fork: every barrier is raised before the plugin's first line.

The first process of a cell is its trusted init: it builds the cell, gives up all it could do, and
waits. Its child raises the last barriers on itself and becomes the plugin.
"""

import fcntl
import json
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from sandbox import cgroup, disk, identity, kernel, landlock, relay, rlimits, root, runtime, seccomp, template
from sandbox.backends import loader, outside
from sandbox.errors import SandboxError
from sandbox.spec import FORK, NATIVE, PRISTINE, Spec

CHANNEL, REPORT = 3, 4
_FIRST_SPARE = 64
_HOST_NAME = "cell"
READY = b'{"t":"ready"}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """What the zygote prepared once for all cells."""

    template: root.Template
    filters: Mapping[tuple[bool, bool], bytes]  # by `single_process` and `relay` of a specification
    refusals: bytes
    last_capability: int


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
        elif (plugin := _build(spec, kit, group)) == 0:
            become_plugin(spec, kit, memory_is_bounded=group.bounds_memory)
            os.write(REPORT, READY)
            os.close(REPORT)
            status = serve(spec)
        else:
            _watch(plugin)
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


def become_plugin(spec: Spec, kit: Kit, *, memory_is_bounded: bool) -> None:
    """Raise, on a process that has its namespaces and its root, every other barrier."""
    os.setsid()
    identity.enter_user_namespace()
    identity.drop_privileges(kit.last_capability)
    restrain(spec, kit, memory_is_bounded=memory_is_bounded)


def restrain(spec: Spec, kit: Kit, *, memory_is_bounded: bool) -> None:
    """Raise the last barriers, those that a process without any privilege can raise."""
    seccomp.apply(kit.refusals)
    entry_point = f"/plugin/{spec.entry_point}"
    if not os.access(entry_point, os.R_OK):
        raise SandboxError(
            "code",
            f"`{spec.code}/{spec.entry_point}` is missing or not readable by uid {os.getuid()}",
            fix="chmod a+rX",
        )
    rlimits.limit_process(spec.limits, lifetime_s=spec.lifetime_s, memory_is_bounded=memory_is_bounded)
    if spec.relay:
        os.environ.update(relay.environment(certificates=spec.certificates is not None))
    landlock.restrict(_reaches(spec, kit.template), connect_port=relay.PORT if spec.relay else None)
    seccomp.apply(kit.filters[spec.single_process, spec.relay])
    os.chdir("/scratch")


def serve(spec: Spec) -> int:
    """Take calls as the plugin's process; gives its exit status."""
    with socket.socket(fileno=CHANNEL) as channel:
        if spec.isolation == FORK:
            return template.serve(channel, spec.entry_point)
        return runtime.serve(channel, spec.entry_point, once=spec.isolation == PRISTINE)


def _reaches(spec: Spec, common: root.Template) -> list[landlock.Reach]:
    trusted = () if spec.certificates is None else (relay.CERTIFICATES,)
    packages = () if spec.packages is None else ("/packages",)
    another = () if spec.backend == NATIVE else loader.readable()
    readable = (*common.libraries, *another, "/plugin", *packages, "/proc", *(each.target for each in spec.mounts))
    written = ("/scratch", *(each.target for each in spec.mounts if each.writable))
    return [
        *(landlock.Reach(path, landlock.READ) for path in (*readable, *trusted)),
        *(landlock.Reach(path, landlock.READ | landlock.WRITE_FILE) for path in root.DEVICES),
        *(landlock.Reach(path, landlock.WRITE) for path in written),
    ]


def _watch(plugin: int) -> None:
    """Reap whatever ends in the cell until the plugin does; the kernel then ends the rest."""
    for descriptor in range(REPORT):
        os.close(descriptor)
    while True:
        pid, status = os.wait()
        if pid == plugin:
            break
    code = os.waitstatus_to_exitcode(status)
    _report({"t": "end", "exit": code if code >= 0 else None, "signal": -code if code < 0 else None})


def _report(message: dict[str, object]) -> None:
    try:
        os.write(REPORT, json.dumps(message).encode())
    except OSError:
        sys.stderr = None
