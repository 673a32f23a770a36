"""Lets everything in a cell stand still between calls, so that what stays of one call does nothing before the next.

Whoever holds the cell tells its trusted init, the only one that goes on. None of the others runs, and none of them
could have it undone before or meanwhile: what wakes a process is refused to all that a program is made of
(`sandbox.seccomp`). The kernel stops a process that is being forked too.
"""

import contextlib
import os
import signal

# None that programs have a use for; the second is taken after the first where both have come.
PAUSE, RESUME = int(signal.SIGRTMAX) - 2, int(signal.SIGRTMAX) - 1
WAKING = (int(signal.SIGCONT), PAUSE, RESUME)  # which no process of a program may send
_EVERYBODY_ELSE = -1  # in the pid namespace, for its first process


def obey() -> None:
    """Take, as a cell's init, the signals of whoever holds the cell."""
    signal.signal(PAUSE, lambda *_told: _tell_all(signal.SIGSTOP))
    signal.signal(RESUME, lambda *_told: _tell_all(signal.SIGCONT))


def _tell_all(which: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(_EVERYBODY_ELSE, which)
