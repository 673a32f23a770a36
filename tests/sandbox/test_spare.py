"""The cell that is born before anybody ordered it."""
# ruff: noqa: ANN401  # the fixture's class lies in conftest, which tests do not import

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sandbox import frames
from sandbox.errors import SandboxError
from sandbox.launcher import Cell, Launcher
from sandbox.spec import Spec

SOON_S = 15.0
SPEAKING = "def speak(ctx, word):\n    return word\n"


def children(pid: int | None) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def until(what: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + SOON_S
    while not what() and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    return what()


def is_there(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def spare_of(launcher: Launcher) -> tuple[int, int]:
    """Give the two processes of the one cell that is there when none is ordered."""
    zygote = children(launcher.zygote_pid)[0]
    assert until(lambda: len(children(zygote)) == 1 and len(children(children(zygote)[0])) == 1)
    first = children(zygote)[0]
    return first, children(first)[0]


def call(cell: Cell, word: str) -> object:
    order = {"t": "call", "function": "speak", "kwargs": {"word": word}, "user_id": "alice", "session_id": None}
    frames.write_frame(cell.channel, {**order, "deadline_s": 10})
    cell.channel.settimeout(SOON_S)
    told = frames.read_said(cell.channel)
    return None if told is None else told[0].get("value")


@pytest.fixture
def speaking(spec_of: Callable[..., Spec]) -> Spec:
    return spec_of(SPEAKING)


def test_it_serves_the_next_order_and_another_is_born(launcher: Launcher, speaking: Spec) -> None:
    first, plugin = spare_of(launcher)
    with launcher.spawn(speaking) as cell:
        assert until(lambda: len(children(children(launcher.zygote_pid)[0])) == 2)
        assert is_there(first)
        assert is_there(plugin)
        assert call(cell, "hello") == "hello"
        assert cell.wait(SOON_S).exit == 0
    assert not is_there(first)
    assert spare_of(launcher)[0] != first


@pytest.mark.parametrize("which", ["init", "plugin"])
def test_one_that_is_killed_costs_no_order(launcher: Launcher, speaking: Spec, which: str) -> None:
    first, plugin = spare_of(launcher)
    os.kill(first if which == "init" else plugin, signal.SIGKILL)
    assert until(lambda: children(children(launcher.zygote_pid)[0]) == [])
    with launcher.spawn(speaking) as cell:
        assert call(cell, "hello") == "hello"


def test_one_that_is_killed_as_it_is_ordered_costs_that_order_alone(launcher: Launcher, speaking: Spec) -> None:
    first, _plugin = spare_of(launcher)
    zygote = children(launcher.zygote_pid)[0]
    os.kill(zygote, signal.SIGSTOP)
    os.kill(first, signal.SIGSTOP)
    told: list[object] = []

    def one() -> None:
        try:
            with launcher.spawn(speaking) as cell:
                told.append(call(cell, "hello"))
        except SandboxError as error:
            told.append(error.barrier)

    thread = threading.Thread(target=one)
    thread.start()
    os.kill(zygote, signal.SIGCONT)
    assert until(lambda: len(children(zygote)) == 1)
    os.kill(first, signal.SIGKILL)
    thread.join(SOON_S)
    assert told in (["cell"], ["hello"])
    with launcher.spawn(speaking) as cell:
        assert call(cell, "hello") == "hello"


def test_orders_at_once_get_a_cell_each(launcher: Launcher, speaking: Spec) -> None:
    spare_of(launcher)
    told: list[object] = []

    def one(number: int) -> None:
        with launcher.spawn(speaking) as cell:
            told.append(call(cell, str(number)))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON_S)
    assert sorted(map(str, told)) == [str(number) for number in range(8)]


def test_it_holds_nothing_but_its_lines(launcher: Launcher, speaking: Spec) -> None:
    with launcher.spawn(speaking) as cell:
        # Born beside a cell whose sockets the zygote holds.
        zygote = children(launcher.zygote_pid)[0]
        assert until(lambda: len(children(zygote)) == 2)
        assert call(cell, "hello") == "hello"
        cell.wait(SOON_S)
    for pid in spare_of(launcher):
        if os.getuid() == 0:
            held = {int(each.name): str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()}
            assert [held[number] for number in range(4)] == ["/dev/null"] * 4
            assert all(held[number].startswith("socket:") for number in held if number > 3)
            assert len(held) <= 7  # the report, how it is ordered, and the line between the two


def test_it_ends_with_the_launcher(speaking: Spec) -> None:
    launcher = Launcher()
    launcher.start()
    with launcher.spawn(speaking) as cell:
        call(cell, "hello")
    left = spare_of(launcher)
    launcher.close()
    assert until(lambda: not any(map(is_there, left)))


def test_it_ends_with_the_zygote(launcher: Launcher, speaking: Spec) -> None:
    left = spare_of(launcher)
    assert launcher.zygote_pid is not None
    os.kill(launcher.zygote_pid, signal.SIGKILL)
    assert until(lambda: not any(map(is_there, left)))
    with launcher.spawn(speaking) as cell:
        assert call(cell, "hello") == "hello"


def test_a_plugin_that_did_not_come_into_the_root_never_begins(host: Any) -> None:
    told = host.call("tell_state", without="root for all")
    assert told["refused"]["barrier"] == "root"
    assert "not in the cell's root" in told["refused"]["detail"]
