"""Two cells of one user at a time, and code that changes while it is loaded: nothing of one reaches the other."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from sandbox import frames
from sandbox.errors import SandboxError
from sandbox.launcher import Cell, Launcher
from sandbox.spec import Limits, Mount, Spec

SOON_S = 15.0
MB = 1 << 20
CODE = """
import errno, os, signal, time
def wait(ctx):
    ctx.log("there")
    time.sleep(60)
def attack(ctx):
    reached = []
    for pid in [-1, *range(3, 400)]:
        for number in (0, signal.SIGKILL, signal.SIGSTOP):
            try:
                os.kill(pid, number)
                reached.append(pid)
            except OSError as error:
                assert error.errno == errno.ESRCH, (pid, error)
    return reached
def fork_all(ctx):
    count = 0
    try:
        while count < 200:
            if os.fork() == 0:
                time.sleep(60)
                os._exit(0)
            count += 1
    except OSError:
        pass
    ctx.log(str(count))
    time.sleep(60)
def fork_few(ctx):
    for _ in range(4):
        if os.fork() == 0:
            os._exit(0)
    return [os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(4)]
def leave(ctx):
    with open("/scratch/left", "w") as file:
        file.write("x")
    return sorted(os.listdir("/scratch"))
def version(ctx):
    import part
    return [VERSION, part.VERSION]
def read(ctx):
    try:
        return sorted(os.listdir("/given"))
    except OSError as error:
        return error.errno
"""


def begin(cell: Cell, function: str) -> None:
    cell.channel.settimeout(SOON_S)
    frames.write_frame(cell.channel, {"t": "call", "function": function, "kwargs": {}, "deadline_s": SOON_S})


def hear(cell: Cell) -> Mapping[str, Any]:
    frame = frames.read_said(cell.channel)
    assert frame is not None
    return frame[0]


def call(launcher: Launcher, spec: Spec, function: str) -> Any:  # noqa: ANN401  # JSON may be anything
    with launcher.spawn(spec) as cell:
        begin(cell, function)
        told = hear(cell)
        assert told["t"] == "result", told
        return told["value"]


@pytest.fixture
def busy(launcher: Launcher, spec_of: Callable[..., Spec]) -> Iterator[tuple[Cell, Spec]]:
    """A cell under way, and what another one of the same user is made from."""
    spec = spec_of(CODE, limits=Limits(timeout_s=60, processes=16))
    with launcher.spawn(spec) as cell:
        begin(cell, "wait")
        assert hear(cell)["message"] == "there"
        yield cell, spec


def test_no_signal_reaches_another_cell_of_the_same_user(launcher: Launcher, busy: tuple[Cell, Spec]) -> None:
    cell, spec = busy
    assert call(launcher, spec, "attack") == []
    with pytest.raises(TimeoutError):
        cell.wait(0.2)
    state = Path(f"/proc/{launcher.zygote_pid}/stat").read_text().rpartition(")")[2].split()[0]
    assert state in {"S", "R", "D"}
    # The control: the same signal from outside, where the cell's processes have numbers.
    cell.kill()
    assert cell.wait(SOON_S).signal == signal.SIGKILL


def test_a_cell_that_uses_up_its_processes_leaves_anothers_alone(
    launcher: Launcher, spec_of: Callable[..., Spec]
) -> None:
    spec = spec_of(CODE, limits=Limits(timeout_s=60, processes=16))
    with launcher.spawn(spec) as greedy:
        begin(greedy, "fork_all")
        assert int(hear(greedy)["message"]) < 16
        assert call(launcher, spec, "fork_few") == [0] * 4


def test_what_is_left_in_the_scratch_folder_is_in_no_other_cell(
    launcher: Launcher, spec_of: Callable[..., Spec]
) -> None:
    spec = spec_of(CODE)
    assert [call(launcher, spec, "leave") for _ in range(2)] == [["left"], ["left"]]


def test_code_that_is_swapped_meanwhile_is_one_version_or_the_other(
    launcher: Launcher, spec_of: Callable[..., Spec], tmp_path: Path
) -> None:
    """The folder is opened once: whoever renames another into its place changes the next cell, not this one."""
    spec = spec_of(CODE)
    versions = []
    for number in (1, 2):
        folder = tmp_path / f"version-{number}"
        folder.mkdir()
        (folder / "main.py").write_text(f"VERSION = {number}\n{CODE}")
        (folder / "part.py").write_text(f"VERSION = {number}\n")
        versions.append(folder)
    place = Path(spec.code)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for folder in versions:
                place.rename(tmp_path / "old")
                folder.rename(place)
                place.rename(folder)
                (tmp_path / "old").rename(place)

    (place / "main.py").write_text(f"VERSION = 0\n{CODE}")
    (place / "part.py").write_text("VERSION = 0\n")
    swapping = threading.Thread(target=swap)
    swapping.start()
    seen, refused = set(), set()
    try:
        for _ in range(40):
            try:
                seen.add(tuple(call(launcher, spec, "version")))
            except SandboxError as error:
                refused.add(error.barrier)
    finally:
        stop.set()
        swapping.join()
    assert refused <= {"mount", "code"}
    assert seen <= {(0, 0), (1, 1), (2, 2)}
    assert len(seen) > 0


def test_a_granted_folder_that_becomes_a_link_shows_nothing(
    launcher: Launcher, spec_of: Callable[..., Spec], tmp_path: Path
) -> None:
    given, secret = tmp_path / "given", tmp_path / "secret"
    given.mkdir()
    secret.mkdir()
    (secret / "diary").touch()
    spec = spec_of(CODE, mounts=(Mount(source=str(given), target="/given"),))
    with launcher.spawn(spec) as cell:
        given.rename(tmp_path / "moved")
        given.symlink_to(secret)
        begin(cell, "read")
        assert hear(cell)["value"] == []
    with pytest.raises(SandboxError, match="symbolic links"):
        launcher.spawn(spec)
    given.unlink()
    secret.rename(given)
    assert call(launcher, spec, "read") == ["diary"], "the control: a folder in its place is shown"


@pytest.mark.skipif(os.getuid() != 0, reason="only root's cells have users of their own")
def test_each_plugin_is_a_user_of_its_own(launcher: Launcher, spec_of: Callable[..., Spec]) -> None:
    text = "import os\ndef f(ctx): return [os.getuid(), os.getgid(), os.getgroups()]"
    specs = [spec_of(text), spec_of(text)]
    object.__setattr__(specs[1], "uid", specs[0].uid + 1)
    first, second = (call(launcher, each, "f") for each in specs)
    assert first == [specs[0].uid, specs[0].uid, []]
    assert second == [specs[1].uid, specs[1].uid, []]
