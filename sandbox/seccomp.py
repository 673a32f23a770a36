"""The barrier of system calls: only the ones named in seccomp.csv reach the kernel."""

import csv
import ctypes
import errno
import os
import signal
import termios
from collections.abc import Callable, Mapping

from sandbox import bpf, kernel, notify, pause
from sandbox.errors import SandboxError

_TABLE = os.path.join(os.path.dirname(__file__), "seccomp.csv")
ARCHITECTURES = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
X32_BIT = 0x4000_0000
_MODE_FILTER = 2

_NEW_NAMESPACES = 0x7E02_0000
_NEW_THREAD = 0x0001_0000
_AF_UNIX, _AF_INET = 1, 2
_SOCKET_KINDS = (1, 5)  # stream and sequenced packets: connected for good, so they can reach no other address
_KIND_MASK = 0xF
_STREAM = 1
_TCP = (0, 6)  # the protocol of such a socket, unsaid or said; others, as multipath, are further ways into the kernel
_FAST_OPEN = 0x2000_0000
_IOCTLS = (termios.TCGETS, termios.TIOCGWINSZ, termios.FIONREAD, termios.FIONBIO, termios.FIOCLEX, termios.FIONCLEX)
_SOCKET_OPTIONS = (2, 7, 8, 9, 13, 20, 21)  # address again, buffers, keeping alive, lingering, time-outs
_TCP_OPTIONS = (1, 4, 5, 6, 12, 18)  # no delay, how to keep alive, quick answers, how long to try
_EXIT_SIGNAL, _SET_SIGNAL = 0xFF, 10  # of `clone`: how its parent is told of the end; of `fcntl`: how of a descriptor
# The calls that send a signal, each with the argument that is its number.
_SENDING = {
    "kill": 1,
    "tkill": 1,
    "tgkill": 2,
    "rt_sigqueueinfo": 1,
    "rt_tgsigqueueinfo": 2,
    "pidfd_send_signal": 1,
}
_PRCTLS = (3, 15, 16, 21, 23, 39, 0x53564D41)  # read-only ones, a thread's name, the name of a memory area

_ALLOW = (bpf.answer(bpf.ALLOW),)
# SECURITY: weaker than to ask, stronger than to allow: without the one who is asked it is refused.
_ASKED = (bpf.answer(bpf.TRACE),)
_REFUSE = (bpf.answer(bpf.refuse(errno.EPERM)),)
_NO_FAMILY = (bpf.answer(bpf.refuse(errno.EAFNOSUPPORT)),)


def build_filter(
    machine: str, *, single_process: bool = False, relay: bool = False, asks: bool = False, programs: bool = False
) -> bytes:
    """Assemble the filter of an architecture from the table.

    With `single_process` no child can be made; with `relay` there are TCP sockets that connect, and none that listen.
    With `asks` the words of a refusal that is told are another filter's (`sandbox.notify`); without that one the call
    fails all the same, as one that there is not. With `programs` one may be started: which, is for other barriers; and
    none of its processes can have another woken, for what stands still between calls must go on standing.
    """
    return bpf.assemble(
        (
            bpf.load(bpf.ARCHITECTURE_AT),
            # SECURITY: another architecture's numbers mean other calls; nothing but an attack uses them.
            *bpf.unless_equal(ARCHITECTURES[machine], (bpf.answer(bpf.KILL_PROCESS),)),
            bpf.load(bpf.NUMBER_AT),
            *_rules(machine, single_process=single_process, relay=relay, asks=asks, programs=programs),
        )
    )


def read_table(machine: str, table: str = _TABLE) -> Mapping[str, tuple[int, str]]:
    """Read each call's number on a machine and the rule it is judged by."""
    with open(table, encoding="ascii", newline="") as file:
        rows = list(csv.DictReader(file))
    return {row["name"]: (int(row[machine]), row["rule"]) for row in rows if row[machine]}


def apply(program: bytes) -> None:
    """Put the filter in force for this thread and all that come from it; it can never be taken off."""
    instructions = ctypes.create_string_buffer(program, len(program))
    handle = ctypes.c_void_p(ctypes.addressof(instructions))
    pointer = _Program(len(program) // 8, handle)
    try:
        kernel.prctl(kernel.PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(pointer))
    except OSError as error:
        raise SandboxError.from_os("seccomp", error, detail="the filter was not taken") from None


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def _rules(machine: str, *, single_process: bool, relay: bool, asks: bool, programs: bool) -> bpf.Block:
    processes, sockets = _ONE_PROCESS if single_process else _MANY_PROCESSES, _RELAYED if relay else _NO_SOCKETS
    judged = {**_RULES, **processes, **sockets}
    blocks = {number: judged[rule]() for number, rule in read_table(machine).values()}
    if asks:
        blocks |= dict.fromkeys(notify.PROGRAMS[machine], _ASKED)
        table = read_table(machine)
        if not relay:
            blocks |= {table["socket"][0]: _asked_socket(), table["connect"][0]: _ASKED}
    if programs:
        blocks |= {number: _ALLOW for number, name in notify.PROGRAMS[machine].items() if name == "execve"}
        blocks |= _without_waking(read_table(machine), single_process=single_process)
    starts: list[tuple[int, bpf.Block]] = [(0, _REFUSE)]
    for number in range(max(blocks) + 2):
        block = blocks.get(number, _REFUSE)
        if block != starts[-1][1]:
            starts.append((number, block))
    if machine == "x86_64":
        starts.append((X32_BIT, (bpf.answer(bpf.KILL_PROCESS),)))
    return bpf.choose(starts)


def _without_waking(table: Mapping[str, tuple[int, str]], *, single_process: bool) -> dict[int, bpf.Block]:
    """Refuse each way in which the kernel would let a process go on that was told to stand still.

    By a signal of another process, of a clock, of a descriptor; by the end of a child; by the end of who led its group.
    """
    blocks = {name: _but(argument, pause.WAKING) for name, argument in _SENDING.items()}
    blocks |= {"timer_create": _REFUSE, "setpgid": _REFUSE, "fcntl": _but(1, (_SET_SIGNAL,))}
    if not single_process:
        told = [each for number in (0, signal.SIGCHLD) for each in bpf.when_equal(number, _ALLOW)]
        within = (bpf.load(bpf.low_word_of(0)), bpf.mask(_EXIT_SIGNAL), *told, *_REFUSE)
        outside = (bpf.load(bpf.low_word_of(0)), bpf.mask(_NEW_NAMESPACES))
        blocks["clone"] = (*outside, *bpf.when_equal(0, within), *_REFUSE)
    return {table[name][0]: block for name, block in blocks.items() if name in table}


def _but(argument: int, values: tuple[int, ...]) -> bpf.Block:
    return (
        bpf.load(bpf.low_word_of(argument)),
        *(each for value in values for each in bpf.when_equal(value, _REFUSE)),
        *_ALLOW,
    )


def _asked_socket() -> bpf.Block:
    families = [each for family in notify.FAMILIES for each in bpf.when_equal(family, _ASKED)]
    return (bpf.load(bpf.low_word_of(0)), *families, *_NO_FAMILY)


def _clone() -> bpf.Block:
    return (bpf.load(bpf.low_word_of(0)), bpf.mask(_NEW_NAMESPACES), *bpf.when_equal(0, _ALLOW), *_REFUSE)


def _thread() -> bpf.Block:
    return (
        bpf.load(bpf.low_word_of(0)),
        bpf.mask(_NEW_NAMESPACES | _NEW_THREAD),
        *bpf.when_equal(_NEW_THREAD, _ALLOW),
        *_REFUSE,
    )


def _only(argument: int, values: tuple[int, ...], otherwise: bpf.Block) -> bpf.Block:
    tests = [each for value in values for each in bpf.when_equal(value, _ALLOW)]
    return (bpf.load(bpf.low_word_of(argument)), *tests, *otherwise)


def _ioctl() -> bpf.Block:
    return _only(1, _IOCTLS, (bpf.answer(bpf.refuse(errno.ENOTTY)),))


def _prctl() -> bpf.Block:
    return _only(0, _PRCTLS, _REFUSE)


def _socketpair() -> bpf.Block:
    kinds = [each for kind in _SOCKET_KINDS for each in bpf.when_equal(kind, _ALLOW)]
    inner = (bpf.load(bpf.low_word_of(1)), bpf.mask(_KIND_MASK), *kinds, *_REFUSE)
    return (bpf.load(bpf.low_word_of(0)), *bpf.when_equal(_AF_UNIX, inner), *_REFUSE)


def _tcp_socket() -> bpf.Block:
    protocols = [each for protocol in _TCP for each in bpf.when_equal(protocol, _ALLOW)]
    plain = (bpf.load(bpf.low_word_of(2)), *protocols, *_NO_FAMILY)
    stream = (bpf.load(bpf.low_word_of(1)), bpf.mask(_KIND_MASK), *bpf.when_equal(_STREAM, plain), *_NO_FAMILY)
    return (bpf.load(bpf.low_word_of(0)), *bpf.when_equal(_AF_INET, stream), *_NO_FAMILY)


def _setsockopt() -> bpf.Block:
    """Let the plain options be set: others load programs into the kernel, or change its protocols."""
    no_option = (bpf.answer(bpf.refuse(errno.ENOPROTOOPT)),)
    general = _only(2, _SOCKET_OPTIONS, no_option)
    tcp = _only(2, _TCP_OPTIONS, no_option)
    return (bpf.load(bpf.low_word_of(1)), *bpf.when_equal(1, general), *bpf.when_equal(6, tcp), *no_option)


def _send(flags: int) -> bpf.Block:
    """Let data be sent, but not in a connection's first packet: that connects, unseen by what judges `connect`."""
    return (bpf.load(bpf.low_word_of(flags)), bpf.mask(_FAST_OPEN), *bpf.when_equal(0, _ALLOW), *_REFUSE)


def _prlimit() -> bpf.Block:
    """Let a limit be read: the address of a new one must be null, both halves of it."""
    inner = (bpf.load(bpf.high_word_of(2)), *bpf.when_equal(0, _ALLOW), *_REFUSE)
    return (bpf.load(bpf.low_word_of(2)), *bpf.when_equal(0, inner), *_REFUSE)


_RULES: Mapping[str, Callable[[], bpf.Block]] = {
    "allow": lambda: _ALLOW,
    "send_flags_3rd": lambda: _send(2),
    "send_flags_4th": lambda: _send(3),
    "enosys": lambda: (bpf.answer(bpf.refuse(errno.ENOSYS)),),
    "ioctl": _ioctl,
    "prctl": _prctl,
    "setsockopt": _setsockopt,
    "socketpair": _socketpair,
    "prlimit": _prlimit,
}
_MANY_PROCESSES: Mapping[str, Callable[[], bpf.Block]] = {"clone": _clone, "fork": lambda: _ALLOW}
_ONE_PROCESS: Mapping[str, Callable[[], bpf.Block]] = {"clone": _thread, "fork": lambda: _REFUSE}
_NO_SOCKETS: Mapping[str, Callable[[], bpf.Block]] = {"socket": lambda: _NO_FAMILY, "connect": lambda: _REFUSE}
_RELAYED: Mapping[str, Callable[[], bpf.Block]] = {"socket": _tcp_socket, "connect": lambda: _ALLOW}
