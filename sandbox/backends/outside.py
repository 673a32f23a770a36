"""The outer half of a cell that another program makes: builds its root, starts the program, tells how it ended.

The granted folders, the disk and the plugin's code are put into the root here, as for every cell: judged by descriptor,
bounded in size. What keeps the plugin in is the program's work, and then `inside`'s.
"""

import fcntl
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NoReturn

from sandbox import disk, identity, kernel, root
from sandbox.backends import bwrap, loader, runsc
from sandbox.cgroup import Group
from sandbox.errors import SandboxError
from sandbox.relay import CERTIFICATES
from sandbox.spec import BWRAP, RUNSC, Limits, Mount, Spec

DISK = 4  # where a cell of bubblewrap's has its disk until it hands it over
_PROGRAMS: Mapping[str, tuple[str, ...]] = {BWRAP: bwrap.PROGRAMS, RUNSC: runsc.PROGRAMS}
_PACKAGES: Mapping[str, str] = {BWRAP: "bubblewrap", RUNSC: "runsc"}
_OWN_PROCESSES = 3  # bubblewrap's two, and the one that waits for it
_LINE_BYTES = 64 << 10
_SIGNALLED = 128
_NOT_STARTED = 127


def find(backend: str) -> str:
    """Give the program of a backend, from where systems install it and nobody but root may write.

    Raises:
        SandboxError: it is not there, or others may change it.
    """
    for path in _PROGRAMS[backend]:
        # SECURITY: a fixed place, never a search along somebody's path.
        try:
            status = os.stat(path)
        except OSError:
            continue
        if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o022:
            raise SandboxError(backend, f"`{path}` can be changed by others than its owner", fix=f"chmod go-w {path}")
        return path
    places = " or ".join(f"`{path}`" for path in _PROGRAMS[backend])
    raise SandboxError(
        backend, f"{places} is not there", fix=f"apt-get install {_PACKAGES[backend]}, or choose another backend"
    )


def room(spec: Spec) -> Limits:
    """Give the limits of a cell's control group: the plugin's, and what the program needs for itself."""
    if spec.backend == RUNSC:
        memory_bytes, processes = runsc.room(spec.limits)
        return replace(spec.limits, memory_bytes=memory_bytes, processes=processes)
    if spec.backend == BWRAP:
        return replace(spec.limits, processes=spec.limits.processes + _OWN_PROCESSES)
    return spec.limits


@dataclass(slots=True)
class Program:
    """A program that was started to make a cell and run the plugin there."""

    backend: str
    pid: int
    told: int  # what it and the cell's first process say until the plugin begins

    def await_ready(self) -> dict[str, object]:
        """Wait until every barrier is up; gives what to report."""
        heard = b""
        while data := os.read(self.told, _LINE_BYTES):
            heard = (heard + data)[-_LINE_BYTES:]
            for line in heard.splitlines(keepends=True):
                if line.startswith(b'{"t":') and line.endswith(b"\n"):
                    message: dict[str, object] = json.loads(line)
                    return message
        said = " ".join(heard.decode("utf-8", "replace").split())[-500:] or "it ended before the cell was ready"
        return {"t": "error", **SandboxError(self.backend, said).as_json()}

    def wait(self) -> dict[str, object]:
        """Reap whatever ends until the program does; gives what to report."""
        while True:
            pid, status = os.wait()
            if pid == self.pid:
                break
        code = os.waitstatus_to_exitcode(status)
        number = -code if code < 0 else max(0, code - _SIGNALLED)
        return {"t": "end", "exit": None if number else code, "signal": number or None}


def build(spec: Spec, template: root.Template, group: Group, *, channel: int, last_capability: int) -> Program:
    """Start a cell's program around a root that is built here."""
    program = find(spec.backend)
    if spec.backend == RUNSC:
        runsc.check(spec)
    group.join()
    uid = spec.uid if os.getuid() == 0 else os.getuid()
    try:
        kernel.unshare(kernel.CLONE_NEWNS | (runsc.NAMESPACES if spec.backend == RUNSC else 0))
    except OSError as error:
        raise SandboxError.from_os("namespaces", error) from None
    root.begin_root(template, spec.backend)
    made = root.build_root(template, spec, uid)
    known = {"spec": _seen(spec).to_json(), "memory_is_bounded": group.bounds_memory, "last": last_capability}
    command = loader.command(template, json.dumps(known))
    reader, writer = os.pipe()
    if spec.backend == RUNSC:
        disk.hand_over(made, channel)
        try:
            runsc.prepare(template, spec, command)
        except OSError as error:
            raise SandboxError.from_os(spec.backend, error) from None
        places = {0: channel, 2: writer}
        words = runsc.argv(program, template)
    else:
        places = {2: writer, channel: channel, DISK: made}
        words = bwrap.argv(program, template.new, command, is_root=os.getuid() == 0)
    pid = os.fork()
    if pid == 0:
        _execute(words, places)
    for descriptor in {writer, channel} | ({made} if spec.backend == BWRAP else set()):
        os.close(descriptor)
    identity.drop_privileges(last_capability, spec.uid)
    return Program(backend=spec.backend, pid=pid, told=reader)


def _seen(spec: Spec) -> Spec:
    """Give a specification as the cell may know it: no path of the host."""
    return replace(
        spec,
        code="/plugin",
        packages=None if spec.packages is None else "/packages",
        certificates=None if spec.certificates is None else CERTIFICATES,
        mounts=tuple(Mount(source=each.target, target=each.target, writable=each.writable) for each in spec.mounts),
    )


def _execute(words: list[str], places: Mapping[int, int]) -> NoReturn:
    """Become the program, with these descriptors, the plain output, and no other; with no environment."""
    try:
        for place, descriptor in sorted(places.items()):
            # INVARIANT: no place is another's descriptor that is still to be moved: they are 3 and above, in order.
            if place != descriptor:
                os.dup2(descriptor, place)
        for place in {0, 1, 2, *places}:
            fcntl.fcntl(place, fcntl.F_SETFD, 0)
        kernel.close_from(max(*places, 2) + 1)
        os.execve(words[0], words, {})  # noqa: S606  # words, which no shell reads
    finally:
        os._exit(_NOT_STARTED)
