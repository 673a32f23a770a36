"""Cells that bubblewrap or gVisor makes: the same attacks, limits and protocol, and nothing in place of another."""
# ruff: noqa: ANN401  # the fixture's class lies in conftest, which tests do not import

import errno
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from sandbox import frames
from sandbox.backends import outside
from sandbox.errors import SandboxError
from sandbox.launcher import Launcher
from sandbox.spec import Spec

SECONDS_EACH, SECONDS = 10, 60
MB = 1 << 20
TOGETHER = 12  # deeds that share a cell where each cannot have a process of its own
Order = tuple[str, dict[str, Any]]


def is_there(backend: str) -> bool:
    try:
        outside.find(backend)
    except SandboxError:
        return False
    return True


def backends() -> list[Any]:
    missing = "is not installed, so cells made by it are NOT TESTED here: apt-get install"
    return [
        pytest.param(name, marks=pytest.mark.skipif(not is_there(name), reason=f"{name} {missing} {package}"))
        for name, package in (("bwrap", "bubblewrap"), ("runsc", "runsc"))
    ]


@pytest.fixture(params=backends())
def backend(request: pytest.FixtureRequest, host: Any) -> str:
    if request.param == "runsc" and host.uid != 0:
        told = host.call("tell_state", spec={"backend": "runsc", "single_process": True})
        assert "only root can have it" in told["refused"]["detail"], "what a user cannot have is refused and said"
        pytest.skip("gVisor is for root alone here; its refusal was seen")
    return str(request.param)


def spec_for(backend: str, **more: object) -> dict[str, object]:
    return {"backend": backend, "single_process": backend == "runsc", "limits": {"timeout_s": SECONDS}, **more}


def attempts(host: Any, backend: str, orders: list[Order]) -> list[Mapping[str, Any]]:
    """Give how each deed went; one that ends the process of others is done once more, alone."""
    together = backend == "bwrap"
    found: list[Mapping[str, Any]] = []
    for start in range(0, len(orders), len(orders) if together else TOGETHER):
        some = orders if together else orders[start : start + TOGETHER]
        found += _in_one_cell(host, "attempt_each" if together else "attempt_all_here", backend, some)
    return found


def _in_one_cell(host: Any, function: str, backend: str, orders: list[Order]) -> list[Mapping[str, Any]]:
    told = host.call(function, spec=spec_for(backend), patience_s=SECONDS, orders=orders, seconds=SECONDS_EACH)
    frame = told.get("frame")
    if frame is not None and frame["t"] == "result":
        return list(frame["value"])
    assert "refused" not in told, told
    if len(orders) == 1:
        return [{"done": False, "by": f"its process ended: {told['ending']}"}]
    half = len(orders) // 2
    return [each for some in (orders[:half], orders[half:]) for each in _in_one_cell(host, function, backend, some)]


def test_every_attack_is_held(host: Any, world: Any, attacks: list[dict[str, Any]], backend: str) -> None:
    cases = [each for each in attacks if os.uname().machine == "x86_64" or "only_x86" not in each.get("flags", [])]
    orders = [(each["deed"], world.given(each, host, in_cell=True)) for each in cases]
    told = attempts(host, backend, orders)
    wrong = [
        (order, one) for case, order, one in zip(cases, orders, told, strict=True) if not _held(case, one, backend)
    ]
    assert not wrong, "\n".join(f"{order}: {one}" for order, one in wrong)
    world.revive()


def _held(case: Mapping[str, Any], told: Mapping[str, Any], backend: str) -> bool:
    if backend == "bwrap":
        return not told["done"] and bool(re.search(case["held_by"], told["by"]))
    return not told["done"] or "gvisor" in case


SEEING = """
import os, socket

def see(ctx, path):
    with open(path) as file:
        return file.read()

def write(ctx, path, size):
    try:
        with open(path, "wb") as file:
            written = 0
            while written < size:
                written += file.write(b"x" * 65536)
                file.flush()
    except OSError as error:
        return [written // 65536 * 65536, error.errno]
    return [written, None]

def modules(ctx):
    import asyncio, bz2, ctypes, decimal, hashlib, lzma, sqlite3, ssl, zlib
    return [hashlib.sha256(b"x").hexdigest()[:8], sqlite3.connect(":memory:").execute("select 1").fetchone()[0]]

def environment(ctx):
    with open("/proc/self/environ", "rb") as file:
        return [dict(os.environ), file.read().strip(bytes(1)).decode()]

def kernel(ctx):
    return os.uname().release

def speak(ctx, word):
    with socket.create_connection(("127.0.0.1", 3128), 5) as connection:
        connection.sendall(word.encode())
        return connection.recv(100).decode()
"""


def value(told: Mapping[str, Any]) -> Any:
    assert "refused" not in told, told
    assert told["frame"] is not None, told
    assert told["frame"]["t"] == "result", told
    return told["frame"]["value"]


def test_the_standard_library_works_there(host: Any, backend: str) -> None:
    told = host.call("modules", code=host.snapshot(SEEING), spec=spec_for(backend))
    assert value(told) == ["2d711642", 1]


def test_the_environment_is_empty_there_too(host: Any, backend: str) -> None:
    told = host.call("environment", code=host.snapshot(SEEING), spec=spec_for(backend))
    assert value(told) == [{}, ""]


def test_only_gvisor_has_a_kernel_of_its_own(host: Any, backend: str) -> None:
    told = host.call("kernel", code=host.snapshot(SEEING), spec=spec_for(backend))
    assert (value(told) == os.uname().release) == (backend == "bwrap")


def test_limits_hold_there_too(host: Any, backend: str) -> None:
    limits = {"timeout_s": 15, "memory_bytes": 64 * MB, "processes": 12, "open_files": 40, "scratch_bytes": 4 * MB}
    spec = spec_for(backend, limits=limits)
    told = host.call("fill_memory", spec=spec, size=240 * MB)
    assert told["ending"]["oom"] or told["frame"]["type"] == "MemoryError", told
    assert value(host.call("fill_memory", spec=spec, size=16 * MB)) == 16 * MB
    told = value(host.call("fork_until_refused", spec=spec, most=200))
    assert told["count"] < 12
    assert told["errno"] in {errno.EAGAIN, errno.EPERM}
    told = value(host.call("fill_disk", spec=spec, scratch="/scratch", size=64 * MB))
    assert told["errno"] in {errno.EFBIG, errno.ENOSPC}
    assert told["written"] <= 4 * MB
    told = value(host.call("open_until_refused", spec=spec, most=200))
    assert told["errno"] == errno.EMFILE
    assert len(host.call("print_much", spec=spec, megabytes=4)["output"]) == 64 << 10
    for resisting in ("spin", "resist"):
        if resisting == "resist" and backend == "runsc":
            continue  # it makes children first
        ending = host.call(resisting, spec=spec_for(backend, limits={**limits, "timeout_s": 0.3}))["ending"]
        assert ending["timed_out"], resisting


def test_what_was_granted_is_seen_and_what_is_written_stays_in_the_cell(host: Any, backend: str) -> None:
    code, shown, kept = host.snapshot(SEEING), host.scratch(), host.scratch()
    for folder in (shown, kept):
        Path(folder).chmod(0o755)
        Path(folder, "note").write_text("granted")
    mounts = [
        {"source": shown, "target": "/srv/shown"},
        {"source": kept, "target": "/srv/kept", "writable": True},
    ]
    limits = {"timeout_s": 15, "scratch_bytes": 4 * MB}
    spec = spec_for(backend, mounts=mounts, limits=limits)
    assert value(host.call("see", code=code, spec=spec, path="/srv/shown/note")) == "granted"
    assert value(host.call("see", code=code, spec=spec, path="/srv/kept/note")) == "granted"
    assert value(host.call("write", code=code, spec=spec, path="/srv/kept/more", size=MB)) == [MB, None]
    written, number = value(host.call("write", code=code, spec=spec, path="/srv/kept/more", size=16 * MB))
    assert written <= 4 * MB
    assert number in {errno.EFBIG, errno.ENOSPC}
    assert [each.name for each in Path(kept).iterdir()] == ["note"], (
        "what a cell writes reaches no folder of the host by itself"
    )
    told = host.call("write", code=code, spec=spec, path="/srv/shown/more", size=1)
    assert told["frame"]["t"] == "error"


def test_no_process_mount_or_group_is_left(host: Any, backend: str) -> None:
    value(host.call("fill_memory", spec=spec_for(backend), size=MB))
    before = Path("/proc/self/mountinfo").read_text()
    assert "hearthgate-test" not in before
    # One cell that nobody ordered may be there.
    assert (
        len({each.name for each in Path("/sys/fs/cgroup").glob(f"**/hearthgate-{host.started['zygote']}/cell-*")}) <= 1
    )
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
        except (FileNotFoundError, ProcessLookupError):
            continue
        assert not (parent == str(host.started["zygote"]) and words[0].endswith((b"bwrap", b"runsc"))), words


def test_the_way_out_is_there_with_bubblewrap(launcher: Launcher, spec_of: Callable[..., Spec]) -> None:
    if not is_there("bwrap"):
        pytest.skip("bwrap is not installed, so its relay is NOT TESTED here: apt-get install bubblewrap")
    with launcher.spawn(spec_of(SEEING, backend="bwrap", relay=True)) as cell:
        assert cell.door is not None
        cell.door.settimeout(SECONDS_EACH)
        frames.write_frame(cell.channel, {"t": "call", "function": "speak", "kwargs": {"word": "hello"}})
        connection, _ = cell.door.accept()
        with connection:
            connection.sendall(connection.recv(100) + b" back")
        cell.channel.settimeout(SECONDS_EACH)
        told = frames.read_said(cell.channel)
        assert told is not None
        assert told[0]["value"] == "hello back"


@pytest.mark.parametrize(
    ("more", "what"),
    [({"relay": True, "single_process": True}, "no relay"), ({"single_process": False}, "one process")],
    ids=("relay", "children"),
)
def test_what_gvisor_cannot_keep_is_refused_and_said(host: Any, more: Any, what: str) -> None:
    if not is_there("runsc"):
        pytest.skip("runsc is not installed, so its refusals are NOT TESTED here: apt-get install runsc")
    told = host.call("tell_state", spec={"backend": "runsc", **more})["refused"]
    assert told["barrier"] == "runsc"
    assert (what in told["detail"]) == (host.uid == 0)
    assert told["fix"]


@pytest.mark.parametrize("mode", [None, 0o777, 0o775], ids=("missing", "all may write", "its group may write"))
def test_a_program_that_is_missing_or_anybodys_is_no_backend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int | None
) -> None:
    program = tmp_path / "bwrap"
    if mode is not None:
        program.write_text("#!/bin/sh\n")
        program.chmod(mode)
    monkeypatch.setitem(outside._PROGRAMS, "bwrap", (str(program),))
    with pytest.raises(SandboxError, match=r"bwrap: .*(apt-get install bubblewrap|chmod go-w)"):
        outside.find("bwrap")
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert outside.find("bwrap") == str(program)
