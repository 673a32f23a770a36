"""The kernel asks a cell's init about raw calls; nothing is allowed by it, and nothing is refused that was allowed."""
# ruff: noqa: ANN401  # the fixture's class lies in conftest, which tests do not import

from collections.abc import Callable
from typing import Any

import pytest

from sandbox import frames, notify
from sandbox.launcher import Launcher
from sandbox.spec import Spec

PATIENCE_S = 20
RAW = """
import ctypes, os, threading
libc = ctypes.CDLL(None, use_errno=True)
OPENAT = {"x86_64": 257, "aarch64": 56}[os.uname().machine]

def opened(path, flags=0):
    ctypes.set_errno(0)
    return libc.syscall(OPENAT, -100, path, flags), ctypes.get_errno()

def bad_pointers(ctx):
    return [opened(ctypes.c_void_p(place))[1] for place in (0, 1, 1 << 46, (1 << 64) - 8)]

def endless(ctx):
    return opened(b"/" + b"x" * 100_000)[1]

def odd(ctx):
    return [opened(bytes([0xFF, 0xFE, 10, 34]))[1], opened(b"")[1]]

def many(ctx, count):
    for number in range(count):
        opened(b"/opt/%d" % number)
    return count

def at_once(ctx, count):
    def work(which):
        for number in range(count):
            descriptor = os.open(f"/scratch/{which}", os.O_CREAT | os.O_RDWR)
            os.write(descriptor, b"x")
            os.close(descriptor)
    threads = [threading.Thread(target=work, args=(each,)) for each in range(4)]
    for each in threads: each.start()
    for each in threads: each.join()
    return sorted(os.listdir("/scratch"))

def swap(ctx, count):
    '''Change the path while it is asked about: what the init read decides nothing.'''
    path = ctypes.create_string_buffer(b"/scratch/mine", 64)
    stop = threading.Event()
    def change():
        while not stop.is_set():
            path.value = b"/etc/shadow"
            path.value = b"/scratch/mine"
    open("/scratch/mine", "w").close()
    threading.Thread(target=change).start()
    try:
        found = set()
        for _ in range(count):
            descriptor = libc.syscall(OPENAT, -100, path, 0)
            if descriptor >= 0:
                found.add(os.readlink(f"/proc/self/fd/{descriptor}"))
                os.close(descriptor)
        return sorted(found)
    finally:
        stop.set()

def hold(ctx):
    '''Every descriptor that this process holds, and what it is.'''
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            pass
    return found
"""


@pytest.fixture
def asks(launcher: Launcher, spec_of: Callable[..., Spec]) -> Callable[..., tuple[Any, list[Any]]]:
    """Call a function of RAW in a cell; gives its answer and what the kernel told of it."""
    if not launcher.asks:
        pytest.skip("this kernel has no seccomp user notification, so it is NOT TESTED here")

    def call(function: str, **kwargs: object) -> tuple[Any, list[Any]]:
        with launcher.spawn(spec_of(RAW)) as cell:
            frames.write_frame(cell.channel, {"t": "call", "function": function, "kwargs": kwargs})
            cell.channel.settimeout(PATIENCE_S)
            told = frames.read_said(cell.channel)
            assert told is not None
            assert told[0]["t"] == "result", told
            assert cell.wait(PATIENCE_S).exit == 0
            return told[0]["value"], [each["scope"] for each in cell.take_refused()]

    return call


@pytest.mark.parametrize("function", ["bad_pointers", "endless", "odd"])
def test_what_cannot_be_read_is_refused_as_ever_and_ends_nothing(asks: Any, function: str) -> None:
    value, _told = asks(function)
    assert all(each != 0 for each in (value if isinstance(value, list) else [value]))


def test_a_flood_is_told_up_to_a_bound(asks: Any) -> None:
    value, told = asks("many", count=2000)
    assert value == 2000
    assert told == [f"/opt/{number}" for number in range(notify.MOST)]


def test_threads_may_be_asked_about_at_once(asks: Any) -> None:
    value, told = asks("at_once", count=200)
    assert value == ["0", "1", "2", "3"]
    assert told == []


def test_a_path_that_changes_while_it_is_asked_about_gains_nothing(asks: Any) -> None:
    value, _told = asks("swap", count=2000)
    assert set(value) <= {"/scratch/mine"}


def test_a_plugin_does_not_hold_the_end_that_answers(asks: Any) -> None:
    value, _told = asks("hold")
    assert not any("seccomp" in each for each in value), value
