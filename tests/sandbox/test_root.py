"""What a cell sees of files: what it was given, nothing missing in silence, nothing more."""
# ruff: noqa: ANN401, S108  # paths as a cell names them; the fixture's class lies in conftest, which tests do not import

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sandbox.errors import SandboxError
from sandbox.launcher import Launcher
from sandbox.spec import Mount, Spec

LOOK = """
import os
from pathlib import Path

def seen(ctx, paths):
    return [path for path in paths if os.path.lexists(path)]

def mounted(ctx):
    return [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]

def tried(ctx, path, text):
    out = []
    for deed in (lambda: Path(path).read_text(), lambda: Path(path).write_text(text)):
        try:
            out.append(deed())
        except OSError as error:
            out.append(error.strerror)
    return out

def environment(ctx):
    return [dict(os.environ), Path("/proc/self/environ").read_text(), os.getcwd(), os.listdir("/scratch")]

def processes(ctx):
    return [name for name in os.listdir("/proc") if name.isdigit()], os.getpid()

def packages(ctx):
    import sys
    folders = [path for path in sys.path if os.path.isdir(path)]
    inner = [os.path.join(path, name) for path in folders for name in os.listdir(path) if "-packages" in name]
    return sys.path, [path for path in inner if os.listdir(path)]
"""
FILL = """
def f(ctx):
    found = []
    for path in [f"{folder}/{n}" for n in range(40) for folder in ("/scratch", "/data")]:
        try:
            with open(path, "wb") as file:
                file.write(bytes(1 << 16))
            found.append(0)
        except OSError as error:
            found.append(error.errno)
    return found
"""
HOST_PATHS = [
    "/etc",
    "/bin",
    "/home",
    "/var",
    "/sys",
    "/run",
    "/work",
    "/usr/bin",
    "/proc/sys",
    "/proc/kcore",
    "/dev/shm",
    "/proc/1",
]


@pytest.fixture(scope="session")
def looking(host: Any) -> str:
    return str(host.snapshot(LOOK))


def value(told: dict[str, Any]) -> Any:
    assert told["frame"]["t"] == "result", told
    return told["frame"]["value"]


def test_nothing_of_the_host_is_there(host: Any, looking: str) -> None:
    assert value(host.call("seen", code=looking, paths=[*HOST_PATHS, host.folder.as_posix()])) == []
    assert "/etc" in HOST_PATHS
    assert os.path.lexists("/etc")


def test_only_what_was_put_there_is_mounted(host: Any, looking: str) -> None:
    mounted = value(host.call("mounted", code=looking))
    roots = {"/" + path.split("/")[1] for path in mounted}
    own = {"/", "/plugin", "/scratch", "/proc", "/dev"}
    assert own <= roots
    assert len(roots - own) == 1, "besides, the folder that holds the standard library"


def test_the_environment_is_empty_and_the_scratch_folder_fresh(host: Any, looking: str) -> None:
    for _ in range(2):
        assert value(host.call("environment", code=looking)) == [{}, "", "/scratch", []]


def test_only_ones_own_processes_are_seen(host: Any, looking: str) -> None:
    assert value(host.call("processes", code=looking)) == [["2"], 2]


def test_installed_packages_are_hidden(host: Any, looking: str) -> None:
    paths, packages = value(host.call("packages", code=looking))
    assert paths[0] == "/plugin"
    assert not any("site-packages" in path for path in paths)
    assert packages == []


def test_a_mount_shows_what_it_should_and_is_written_only_where_it_may(host: Any, looking: str) -> None:
    shared = Path(host.scratch())
    shared.chmod(0o777)
    for name in ("r", "w"):
        (shared / name).mkdir()
        (shared / name).chmod(0o777)
        (shared / name / "file").write_text("before")
        (shared / name / "file").chmod(0o600)
        for path in (shared / name, shared / name / "file"):
            os.chown(path, host.uid, host.uid)
    mounts = [
        {"source": str(shared / "r"), "target": "/data/r", "writable": False},
        {"source": str(shared / "w"), "target": "/data/w", "writable": True},
    ]
    spec = {"mounts": mounts}
    assert value(host.call("tried", code=looking, spec=spec, path="/data/w/file", text="after")) == ["before", 5]
    assert (shared / "w" / "file").read_text() == "before", "it was written to the cell's own disk"
    read, written = value(host.call("tried", code=looking, spec=spec, path="/data/r/file", text="after"))
    assert read == "before"
    assert written in {"Read-only file system", "Permission denied"}
    assert (shared / "r" / "file").read_text() == "before"


def test_a_mount_below_the_private_tmp_folder_is_seen(host: Any, looking: str) -> None:
    shared = Path(host.scratch())
    shared.chmod(0o755)
    (shared / "file").write_text("text")
    spec = {"mounts": [{"source": str(shared), "target": "/tmp/given", "writable": False}]}
    assert value(host.call("tried", code=looking, spec=spec, path="/tmp/given/file", text="x"))[0] == "text"


def test_code_that_all_may_write_is_still_not_written(host: Any) -> None:
    code = Path(host.snapshot(LOOK))
    (code / "main.py").chmod(0o666)
    read, written = value(host.call("tried", code=str(code), path="/plugin/main.py", text="changed"))
    assert read == LOOK
    assert written in {"Read-only file system", "Permission denied"}


@pytest.mark.parametrize(
    ("changed", "barrier"),
    [
        ({"code": "/nonexistent/code"}, "mount"),
        ({"mounts": [{"source": "/nonexistent", "target": "/data", "writable": False}]}, "mount"),
        ({"mounts": [{"source": "/dev/null", "target": "/data", "writable": False}]}, "mount"),
        ({"entry_point": "other.py"}, "code"),
    ],
)
def test_what_is_missing_is_an_error_and_never_left_out(host: Any, looking: str, changed: Any, barrier: str) -> None:
    given = dict(changed)
    told = host.call("seen", code=given.pop("code", looking), spec=given, paths=[])
    assert told["refused"]["barrier"] == barrier, told


def test_a_symbolic_link_is_no_source(host: Any, looking: str) -> None:
    link = Path(host.scratch(), "link")
    link.symlink_to("/etc")
    spec = {"mounts": [{"source": str(link), "target": "/data", "writable": False}]}
    assert host.call("seen", code=looking, spec=spec, paths=["/data/passwd"])["refused"]["barrier"] == "mount"


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives a plugin a user of its own")
def test_code_its_user_cannot_read_is_an_error(launcher: Launcher, spec_of: Callable[..., Spec]) -> None:
    spec = spec_of("def f(ctx): pass")
    Path(spec.code, "main.py").chmod(0o600)
    with pytest.raises(SandboxError, match="not readable by uid"):
        launcher.spawn(spec)


def test_limits_that_no_controller_keeps_are_an_error_unless_the_caller_does_without(host: Any, looking: str) -> None:
    told = host.call("seen", code=looking, spec={"require_cgroup": True}, paths=[])
    if {"memory", "pids"} <= set(host.started["controllers"]):
        assert value(told) == []
    else:
        assert told["refused"]["barrier"] == "memory cgroup"
        assert "Delegate=yes" in told["refused"]["fix"]


def test_a_mount_over_the_standard_library_is_an_error(
    launcher: Launcher, spec_of: Callable[..., Spec], tmp_path: Path
) -> None:
    inside = f"{Path(os.__file__).parent}/json"
    with pytest.raises(SandboxError):
        launcher.spawn(spec_of("def f(ctx): pass", mounts=(Mount(source=str(tmp_path), target=inside + "/x"),)))


def test_a_mount_that_is_not_what_was_judged_is_refused(host: Any, looking: str) -> None:
    shared = Path(host.scratch())
    status = shared.stat()
    mount = {"source": str(shared), "target": "/data", "identity": [status.st_dev, status.st_ino]}
    assert value(host.call("tried", code=looking, spec={"mounts": [mount]}, path="/data", text="x"))
    other = {**mount, "identity": [status.st_dev, status.st_ino + 1]}
    told = host.call("tried", code=looking, spec={"mounts": [other]}, path="/data", text="x")
    assert "not what it was when it was judged" in told["refused"]["detail"]
    link = shared / "link"
    link.symlink_to(shared)
    told = host.call("tried", code=looking, spec={"mounts": [{**mount, "source": str(link)}]}, path="/data", text="x")
    assert told["refused"]["barrier"] == "mount"


def test_the_scratch_folder_and_writable_mounts_share_one_bounded_disk(host: Any) -> None:
    shared = Path(host.scratch())
    mounts = [{"source": str(shared), "target": "/data", "writable": True}]
    spec = {"mounts": mounts, "limits": {"scratch_bytes": 1 << 20}}
    code = host.snapshot(FILL)
    found = value(host.call("f", code=code, spec=spec))
    assert found.count(0) <= 16
    assert 28 in found
    assert list(shared.iterdir()) == [], "the host's folder is not touched"
    (shared / "twin").write_bytes(bytes(2 << 20))
