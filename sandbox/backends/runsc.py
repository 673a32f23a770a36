"""gVisor: a kernel of the cell's own, in user space, between the plugin and the host's."""

import json
import os
from collections.abc import Sequence

from sandbox import kernel, rlimits
from sandbox.errors import SandboxError
from sandbox.kernel import MS_NODEV, MS_NOEXEC, MS_NOSUID
from sandbox.root import Template
from sandbox.spec import Limits, Spec

PROGRAMS = ("/usr/bin/runsc", "/usr/local/bin/runsc")
MEMORY_BYTES = 96 << 20  # of gVisor's own, besides what the plugin may use
PROCESSES = 128  # threads of gVisor's own
_PROCESSES_EACH = 4  # of the host for each thread of a plugin
_NAME = "cell"
# SECURITY: gVisor takes orders at a socket that has a name and no place: whoever shares its network could speak there.
NAMESPACES = kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS
_SET_OUTSIDE = ("RLIMIT_MSGQUEUE", "RLIMIT_NICE", "RLIMIT_RTPRIO")


def check(spec: Spec) -> None:
    """Refuse what gVisor cannot keep.

    Raises:
        SandboxError: it is asked for.
    """
    if os.getuid() != 0:
        raise SandboxError("runsc", "only root can have it", fix="run the gateway as root, or choose another backend")
    if spec.relay:
        fix = "let the plugin use `ctx.http` alone (no network permission), or take its tier out of `isolation.runsc`"
        raise SandboxError("runsc", "a cell of gVisor's has no relay", fix=fix)
    if not spec.single_process:
        raise SandboxError("runsc", "a cell of gVisor's is one process", fix="order it with `single_process`")


def room(limits: Limits) -> tuple[int, int]:
    """Give how many bytes and processes the host must give for a plugin's."""
    return limits.memory_bytes + MEMORY_BYTES, limits.processes * _PROCESSES_EACH + PROCESSES


def prepare(template: Template, spec: Spec, command: Sequence[str]) -> None:
    """Write down what gVisor is to run, where nobody else sees it."""
    kernel.mount("tmpfs", template.state, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700,size=4m")
    # WHY: the host's /proc knows this process by another number.
    kernel.mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    for folder in ("/root", "/bundle"):
        os.mkdir(template.state + folder)
    with open(template.state + "/bundle/config.json", "w", encoding="utf-8") as file:
        json.dump(_config(template.new, spec, command), file)


def argv(program: str, template: Template) -> list[str]:
    """Give the words that run what `prepare` wrote."""
    return [
        program,
        *("--root", template.state + "/root", "--network=none", "--ignore-cgroups"),
        *("run", "--bundle", template.state + "/bundle", _NAME),
    ]


def _config(root: str, spec: Spec, command: Sequence[str]) -> dict[str, object]:
    shared = [("/scratch", True), *((each.target, each.writable) for each in spec.mounts)]
    # WHY: named one by one, for gVisor keeps what lies in the root to itself, and does not look again.
    binds = [
        {"destination": place, "type": "bind", "source": root + place, "options": ["rbind", "rw" if writes else "ro"]}
        for place, writes in shared
    ]
    pending = rlimits.PENDING_EACH * spec.limits.processes
    return {
        "ociVersion": "1.0.0",
        "process": {
            "user": {"uid": spec.uid, "gid": spec.uid},
            "args": list(command),
            "env": [],
            "cwd": "/",
            "noNewPrivileges": True,
            "capabilities": {},
            # WHY: what a process may not set for itself there; the others it lowers, as in every cell.
            "rlimits": [{"type": name, "hard": 0, "soft": 0} for name in _SET_OUTSIDE]
            + [{"type": "RLIMIT_SIGPENDING", "hard": pending, "soft": pending}],
        },
        "root": {"path": root, "readonly": True},
        "hostname": "cell",
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}, *binds],
        "linux": {"namespaces": [{"type": each} for each in ("pid", "network", "ipc", "uts", "mount")]},
    }
