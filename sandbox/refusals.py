"""The second barrier of system calls: what no cell ever needs is refused by a list of its own.

The first one (`seccomp`) allows what is named and refuses the rest; this one refuses what is named. It is
raised earlier, from another table, so that neither a wrong line there nor a call allowed for one plugin's
sake opens the kernel's rarer parts.
"""

import errno
import os
import termios
from collections.abc import Callable, Mapping

from sandbox import bpf, seccomp

_TABLE = os.path.join(os.path.dirname(__file__), "refused.csv")
_NEW_NAMESPACES = 0x7E02_0000
_FAMILIES = (1, 2, 10)  # local, IPv4, IPv6: whether one is open to a plugin is for the other filter to say
_TERMINAL_INPUT = (termios.TIOCSTI, termios.TIOCLINUX)

_ALLOW = (bpf.answer(bpf.ALLOW),)
_REFUSE = (bpf.answer(bpf.refuse(errno.EPERM)),)


def build_filter(machine: str) -> bytes:
    """Assemble the filter of an architecture from the table; what the table does not name passes."""
    program: list[bpf.Instruction] = [
        bpf.load(bpf.ARCHITECTURE_AT),
        *bpf.unless_equal(seccomp.ARCHITECTURES[machine], (bpf.answer(bpf.KILL_PROCESS),)),
        bpf.load(bpf.NUMBER_AT),
    ]
    if machine == "x86_64":
        program += bpf.when_at_least(seccomp.X32_BIT, (bpf.answer(bpf.KILL_PROCESS),))
    for number, rule in seccomp.read_table(machine, _TABLE).values():
        program += bpf.when_equal(number, _RULES[rule]())
    return bpf.assemble((*program, *_ALLOW))


def _clone() -> bpf.Block:
    return (bpf.load(bpf.low_word_of(0)), bpf.mask(_NEW_NAMESPACES), *bpf.when_equal(0, _ALLOW), *_REFUSE)


def _family() -> bpf.Block:
    known = [each for family in _FAMILIES for each in bpf.when_equal(family, _ALLOW)]
    return (bpf.load(bpf.low_word_of(0)), *known, bpf.answer(bpf.refuse(errno.EAFNOSUPPORT)))


def _terminal() -> bpf.Block:
    typed = [each for request in _TERMINAL_INPUT for each in bpf.when_equal(request, _REFUSE)]
    return (bpf.load(bpf.low_word_of(1)), *typed, *_ALLOW)


_RULES: Mapping[str, Callable[[], bpf.Block]] = {
    "refuse": lambda: _REFUSE,
    "enosys": lambda: (bpf.answer(bpf.refuse(errno.ENOSYS)),),
    "clone": _clone,
    "family": _family,
    "terminal": _terminal,
}
