"""The limits of each process: the only ones everywhere, the second wall where cgroups hold the whole tree."""

import math
import resource

from sandbox.errors import SandboxError
from sandbox.spec import Limits

_CPU_GRACE_S = 2
_INTERPRETER_BYTES = 192 << 20  # address space of the interpreter and its libraries, before a plugin asks for any
_LOOSE_FACTOR = 4
PENDING_EACH = 4  # signals that wait, for each process
_LOOSE_BYTES = 1 << 30


def limit_process(limits: Limits, *, memory_is_bounded: bool, lifetime_s: float = 0.0, reserves: bool = False) -> None:
    """Bound all but the open files of this process and those that come from it; each may only be lowered from here on.

    `memory_is_bounded`: a cgroup counts the memory of the whole tree, so the process limit is a loose backstop.
    `reserves`: a program may reserve more addresses than it uses memory, as those do that compile while they run.
    """
    wanted = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_CPU: math.ceil(limits.timeout_s + lifetime_s) + _CPU_GRACE_S,
        resource.RLIMIT_FSIZE: limits.scratch_bytes,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_NICE: 0,
        resource.RLIMIT_RTPRIO: 0,
        resource.RLIMIT_NPROC: limits.processes,
        resource.RLIMIT_SIGPENDING: PENDING_EACH * limits.processes,
    }
    if not memory_is_bounded:
        wanted[resource.RLIMIT_DATA] = limits.memory_bytes
    if not reserves:
        loose, tight = limits.memory_bytes * _LOOSE_FACTOR + _LOOSE_BYTES, limits.memory_bytes + _INTERPRETER_BYTES
        wanted[resource.RLIMIT_AS] = loose if memory_is_bounded else tight
    for which, value in wanted.items():
        _lower(which, value)


def limit_files(limits: Limits) -> None:
    """Bound what this process, and each that comes from it, holds open."""
    # WHY: by itself and last, for it bounds the descriptors that all processes of this user have under way to others,
    # too: a plugin that floods its sockets with them would let no cell of the same user come up.
    _lower(resource.RLIMIT_NOFILE, limits.open_files)


def _lower(which: int, value: int) -> None:
    soft, hard = resource.getrlimit(which)
    bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
    if soft == hard == bound:
        return
    try:
        resource.setrlimit(which, (bound, bound))
    except (OSError, ValueError) as error:
        raise SandboxError("rlimits", f"limit {which} of {value}: {error}") from None
