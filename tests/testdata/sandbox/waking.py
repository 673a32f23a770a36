"""Ways in which a program that stands still could have itself woken."""

import ctypes
import fcntl
import os
import signal
import struct
import threading

LIBC = ctypes.CDLL(None, use_errno=True)
OFTEN_S = 0.02
SET_SIGNAL = 10


def clock() -> None:
    """Have a clock of the kernel wake this process again and again."""
    event = struct.pack("=QiiI44x", 0, signal.SIGCONT, 0, 0)
    number = ctypes.c_void_p()
    if LIBC.timer_create(0, event, ctypes.byref(number)) != 0:
        return
    every = struct.pack("=4q", 0, int(OFTEN_S * 1e9), 0, int(OFTEN_S * 1e9))
    LIBC.timer_settime(number, 0, every, None)


def others() -> None:
    """Have threads and children call out to everybody, so that who is about to stand still goes on."""
    for _ in range(2):
        threading.Thread(target=shout, args=(os.getpid(),), daemon=True).start()
        main = os.getpid()
        if os.fork() == 0:
            shout(main)


def shout(pid: int) -> None:
    while True:
        try:
            os.kill(pid, signal.SIGCONT)
        except PermissionError:
            return


def descriptor() -> None:
    """Have it told by a signal that what was printed is being read."""
    fcntl.fcntl(2, fcntl.F_SETOWN, os.getpid())
    try:
        fcntl.fcntl(2, SET_SIGNAL, signal.SIGCONT)
    except OSError:
        return
    fcntl.fcntl(2, fcntl.F_SETFL, fcntl.fcntl(2, fcntl.F_GETFL) | os.O_ASYNC | os.O_NONBLOCK)
    try:
        while True:
            os.write(2, b"x" * 4096)
    except BlockingIOError:
        pass


def init() -> None:
    """Tell the cell's init what whoever holds the cell would."""
    if os.fork() == 0:
        while True:
            for number in range(1, 65):
                try:
                    if number not in (signal.SIGKILL, signal.SIGSTOP):
                        os.kill(1, number)
                except OSError:
                    continue
