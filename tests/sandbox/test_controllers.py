"""Where cells may have control groups, told from trees of files as the kernel shows them."""

import errno
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandbox import controllers, service_manager
from sandbox.controllers import Controllers, find_controllers
from sandbox.errors import SandboxError
from sandbox.spec import Limits

OWN = f"hearthgate-{os.getpid()}"
OTHERS = "4194999"


@dataclass(frozen=True, slots=True)
class Host:
    """A tree of v2 as the kernel shows it, with this process in one of its groups."""

    top: Path
    own: Path

    def folder(self, path: str, *, offers: str = "memory pids cpu io", handed: str = "") -> Path:
        folder = self.top / path.lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup.controllers").write_text(offers)
        (folder / "cgroup.subtree_control").write_text(handed)
        (folder / "cgroup.procs").write_text("")
        if path != "/":
            (folder / "cgroup.type").write_text("domain\n")
        return folder

    def delegate(self, path: str) -> None:
        os.setxattr(self.top / path.lstrip("/"), "user.delegate", b"1")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host(top=tmp_path, own=tmp_path / "own")
    host.own.mkdir()
    monkeypatch.setattr(controllers, "_mounted", lambda: {"": (str(tmp_path), "/")})
    monkeypatch.setattr(service_manager, "is_running", lambda: True)
    monkeypatch.setattr(service_manager, "enter_scope", lambda _name: False)
    made = os.makedirs

    def as_the_kernel(path: str, mode: int = 0o777, *, exist_ok: bool = False) -> None:
        made(path, mode, exist_ok=exist_ok)
        for file in ("cgroup.procs", "cgroup.subtree_control", "cgroup.controllers"):
            (Path(path) / file).touch()

    monkeypatch.setattr(os, "makedirs", as_the_kernel)
    return host


def stand(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controllers, "_own_paths", lambda: {"": path})


@pytest.mark.parametrize(
    ("groups", "delegated", "own", "expected"),
    [
        pytest.param(["/", "/unit"], ["/unit"], "/unit", "/unit", id="a unit that is ours"),
        pytest.param(["/", "/unit", "/unit/sub"], ["/unit"], "/unit/sub", "/unit", id="a part of a unit that is ours"),
        pytest.param(
            ["/", "/unit", "/unit/hearthgate-main"], ["/unit"], "/unit/hearthgate-main", "/unit", id="moved before"
        ),
        pytest.param(["/", "/login"], [], "/login", None, id="a login, whose processes are not ours to move"),
        pytest.param(["/"], [], "/", None, id="the root, which the service manager keeps"),
        pytest.param(
            ["/", "/hearthgate-7.scope"], [], "/hearthgate-7.scope", "/hearthgate-7.scope", id="what was asked for"
        ),
        pytest.param(["/", "/elsewhere.scope"], [], "/elsewhere.scope", None, id="somebody else's scope"),
    ],
)
def test_only_a_group_that_was_given_is_divided(
    host: Host,
    monkeypatch: pytest.MonkeyPatch,
    groups: list[str],
    delegated: list[str],
    own: str,
    expected: str | None,
) -> None:
    for group in groups:
        host.folder(group)
    for group in delegated:
        host.delegate(group)
    stand(own, monkeypatch)
    before = {path: path.read_text() for path in host.top.rglob("cgroup.*")}
    found = find_controllers()
    if expected is None:
        assert found == Controllers(folders={}, unified=True)
        assert {path: path.read_text() for path in host.top.rglob("cgroup.*")} == before
        return
    place = str(host.top / expected.lstrip("/") / OWN)
    assert found == Controllers(folders=dict.fromkeys(("memory", "pids", "cpu"), place), unified=True)
    assert (Path(place).parent / "cgroup.subtree_control").read_text() == "+memory +pids +cpu"
    assert (Path(place) / "cgroup.subtree_control").read_text() == "+memory +pids +cpu"


def test_every_process_of_the_group_steps_into_one_leaf_before_it_is_divided(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = host.folder("/unit")
    host.delegate("/unit")
    stand("/unit", monkeypatch)
    inside = ["11", "12", "13"]
    (unit / "cgroup.procs").write_text("\n".join(inside))
    moved: list[str] = []
    really = controllers.write

    def as_the_kernel(path: str, text: str) -> None:
        if path.endswith("hearthgate-main/cgroup.procs"):
            moved.append(text)
            inside.remove(text)
            (unit / "cgroup.procs").write_text("\n".join(inside))
        elif path == str(unit / "cgroup.subtree_control") and inside:
            raise OSError(errno.EBUSY, "Device or resource busy", path)
        else:
            really(path, text)

    monkeypatch.setattr(controllers, "write", as_the_kernel)
    assert sorted(find_controllers().folders) == ["cpu", "memory", "pids"]
    assert moved == ["11", "12", "13"]


def test_where_nothing_was_given_the_service_manager_is_asked_for_a_scope(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.folder("/login")
    stand("/login", monkeypatch)

    def enter(name: str) -> bool:
        host.folder(f"/app/{name}.scope")
        stand(f"/app/{name}.scope", monkeypatch)
        return True

    monkeypatch.setattr(service_manager, "enter_scope", enter)
    place = str(host.top / "app" / f"{OWN}.scope" / OWN)
    assert find_controllers().folders == dict.fromkeys(("memory", "pids", "cpu"), place)


@pytest.mark.parametrize(("uid", "expected"), [(0, ""), (1000, "user")])
def test_with_no_service_manager_root_divides_the_root_and_a_user_what_is_his(
    host: Host, monkeypatch: pytest.MonkeyPatch, uid: int, expected: str
) -> None:
    monkeypatch.setattr(service_manager, "is_running", lambda: False)
    monkeypatch.setattr(os, "getuid", lambda: uid)
    (host.folder("/") / "cgroup.procs").write_text(OTHERS)
    host.folder("/user")
    stand("/user", monkeypatch)
    assert set(find_controllers().folders.values()) == {str(host.top / expected / OWN)}
    assert not (host.top / "hearthgate-main").exists()


@pytest.mark.parametrize("missing", ["cpu", "memory", "pids"])
def test_a_controller_that_is_not_offered_is_named_with_the_way_out(
    host: Host, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    host.folder("/unit", offers=" ".join({"cpu", "memory", "pids"} - {missing}))
    host.delegate("/unit")
    stand("/unit", monkeypatch)
    limits = Limits(timeout_s=1.0, memory_bytes=1 << 26, processes=4, cpu_percent=50)
    with pytest.raises(SandboxError, match=f"{missing} cgroup") as refused:
        find_controllers().check(limits)
    assert "Delegate=yes" in str(refused.value.fix)


def test_groups_of_zygotes_that_are_gone_are_removed(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = host.folder("/unit")
    host.delegate("/unit")
    stand("/unit", monkeypatch)
    old = unit / f"hearthgate-{sys.maxsize}"
    (old / "cell-1").mkdir(parents=True)
    find_controllers()
    assert not old.exists()
