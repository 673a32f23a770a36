"""What the probe does inside a cell, and outside as the control: run as a plugin's code and as a plain script."""

import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from typing import Any

_NAMESPACES = ("user", "mnt", "pid", "net", "ipc", "uts")
_STATUS_LINES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters")
_NEW_USER_NAMESPACE = 0x1000_0000
_PAGE = 4096
_SPEAK_S = 5
_FORKS_AT_MOST = 64


def look(_ctx: object, *, port: int, secret: str) -> dict[str, Any]:
    """Tell what this process is and what it can do; nothing raises."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        lines = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    return {
        "namespaces": {name: _link(f"/proc/self/ns/{name}") for name in _NAMESPACES},
        "kernel": " ".join(os.uname()[2:4]),
        "status": {name: lines.get(name, "") for name in _STATUS_LINES},
        "uid": os.getuid(),
        "environment": len(os.environ) + _size("/proc/self/environ"),
        "connected": _tried(lambda: socket.create_connection(("127.0.0.1", port), 2).close()),
        "interfaces": _tried(_interfaces),
        "secret": _tried(lambda: open(secret, "rb").close()),
        "code": _tried(lambda: open(__file__, "ab").close()),
        "root_listed": _tried(lambda: os.listdir("/")),
        "new_namespace": _tried(_enter_namespace),
    }


def read(_ctx: object, *, path: str) -> str | None:
    """Open a file that a cell does not have."""
    return _tried(lambda: open(path, "rb").close())


def speak(_ctx: object, *, port: int) -> str:
    """Say something at the door, and tell what came back."""
    with socket.create_connection(("127.0.0.1", port), _SPEAK_S) as connection:
        connection.sendall(b"x")
        return connection.recv(1).decode()


def fill(_ctx: object, *, size: int) -> int:
    """Use up memory, page by page."""
    held = bytearray(size)
    for offset in range(0, size, _PAGE):
        held[offset] = 1
    return len(held)


def multiply(_ctx: object) -> int:
    """Fork until no more; tell how many there were."""
    children: list[int] = []
    try:
        while len(children) < _FORKS_AT_MOST:
            child = os.fork()
            if child == 0:
                signal.pause()
                os._exit(0)
            children.append(child)
    except OSError:
        pass
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return len(children)


def spin(_ctx: object, *, seconds: float) -> float:
    """Use the processor all the time; tell which share of it was given."""
    started, used = time.monotonic(), time.process_time()
    while time.monotonic() - started < seconds:
        pass
    return (time.process_time() - used) / (time.monotonic() - started)


def stay(_ctx: object) -> None:
    """Ignore every signal, leave a daemon behind, and never end."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):  # WHY: where a cell is one process, it leaves none behind
        if os.fork() == 0:
            os.setsid()
            os.fork()
    while True:
        time.sleep(1)


def _tried(deed: Any) -> str | None:  # noqa: ANN401  # any deed
    """Give None when the deed was done, else what held it."""
    try:
        deed()
    except Exception as error:  # noqa: BLE001  # whatever holds it is the answer
        return f"{type(error).__name__}: {error}"
    return None


def _interfaces() -> None:
    with open("/proc/self/net/dev", encoding="ascii") as file:
        names = [line.partition(":")[0].strip() for line in file if ":" in line]
    if set(names) <= {"lo"}:
        raise LookupError("only the loopback, which is down")


def _enter_namespace() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_USER_NAMESPACE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _size(path: str) -> int:
    with open(path, "rb") as file:
        return len(file.read().strip(b"\0"))


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def main() -> None:
    """Do one of the above outside: the control."""
    order: Mapping[str, Any] = json.loads(sys.argv[1])
    sys.stdout.write(json.dumps(globals()[order["function"]](None, **order["kwargs"])))


if __name__ == "__main__":
    main()
