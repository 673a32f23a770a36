"""What becomes the plugin: a process that raises the last barriers on itself before the plugin's first line."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from sandbox import identity, kernel, landlock, notify, relay, rlimits, root, runtime, seccomp, stdio, template
from sandbox.backends import loader
from sandbox.errors import SandboxError
from sandbox.spec import FORK, NATIVE, PRISTINE, Spec

CHANNEL, REPORT = 3, 4
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
    if asking is not None:
        # SECURITY: who holds this end answers for the kernel; it is closed here before the plugin's first line.
        with asking:
            if kit.asking:
                _ask(kit.asking[spec.relay], asking)
    rlimits.limit_files(spec.limits)
    server = None if spec.program is None else stdio.start(spec.program, lambda: _filter(spec, kit, starts=True))
    _filter(spec, kit)
    return server


def _filter(spec: Spec, kit: Kit, *, starts: bool = False) -> None:
    seccomp.apply(kit.refusals)
    seccomp.apply(kit.filters[spec.single_process, spec.relay, starts])


def _ask(program: bytes, asking: socket.socket) -> None:
    """Have the kernel ask the cell's init from now on."""
    listener = notify.apply(program, kernel.machine())
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
