import os
import socket
import stat
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import ConflictError, DeniedError, HearthgateError, MalformedError, NotFoundError, TooLargeError
from gateway.resources import files as files_module
from gateway.resources.files import Files

SECRET = b"the key of the house"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    (home / "data").mkdir(parents=True)
    (home / "data" / "log.key").write_bytes(SECRET)
    return home


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    shared = tmp_path / "shared"
    shared.mkdir()
    return shared


@pytest.fixture
def files(home: Path) -> Files:
    return Files([home])


def test_what_was_written_is_read_and_listed(files: Files, shared: Path) -> None:
    path = files.resolve(f"{shared}/note")
    files.write(path, b"one")
    files.write(path, b"two")
    (shared / "folder").mkdir()
    assert files.read(path) == b"two"
    assert files.list(shared) == ["folder", "note"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "path", ["", "a", "./a", "/a/../b", "/..", "/a/./b", "//a", "/a//b", "/a/", "/a\0b", "~/a", "/a/..", "../../a"]
)
def test_a_path_with_tricks_is_malformed(files: Files, path: str) -> None:
    with pytest.raises(MalformedError):
        files.resolve(path)


@pytest.mark.parametrize("path", ["/" + "x" * 300, "/" + "x/" * 3000 + "x", "/\ud800", "/nowhere/at/all"])
def test_a_path_that_cannot_exist_is_answered_clearly(files: Files, path: str) -> None:
    with pytest.raises((NotFoundError, MalformedError)):
        files.read(files.resolve(path))


@pytest.mark.parametrize(
    "path",
    ["/", "/proc/self/environ", "/sys/kernel", "/dev/null", "/dev", "/run/x", "/var/run/x"],
)
def test_no_one_gets_the_kernels_folders(files: Files, path: str) -> None:
    resolved = files.resolve(path)
    assert files.is_forbidden(resolved)
    for deed in (files.read, files.list, lambda each: files.write(each, b"x")):
        with pytest.raises(DeniedError):
            deed(resolved)


def test_a_magic_link_is_decided_on_as_what_it_leads_to(files: Files, home: Path) -> None:
    assert files.resolve("/proc/self/root/etc/passwd") == Path("/etc/passwd")
    assert files.is_forbidden(files.resolve(f"/proc/self/root{home}/data/log.key"))


def test_no_one_gets_what_is_contains_or_lies_in_the_home(files: Files, home: Path) -> None:
    for path in (home, home.parent, home / "data", home / "data" / "log.key", home / "new"):
        assert files.is_forbidden(path)
        for deed in (files.read, files.list, lambda each: files.write(each, b"x")):
            with pytest.raises(DeniedError):
                deed(path)
    assert not files.is_forbidden(home.parent / "home-of-another")
    assert not (home / "new").exists()


def test_a_home_reached_by_a_link_is_a_home(tmp_path: Path, home: Path) -> None:
    (tmp_path / "alias").symlink_to(home)
    files = Files([tmp_path / "alias"])
    assert files.is_forbidden(home / "data")
    assert files.is_forbidden(tmp_path / "alias" / "data")


def test_resolving_shows_where_a_link_leads_so_that_it_can_be_decided_on(
    files: Files, shared: Path, home: Path
) -> None:
    (shared / "link").symlink_to(home / "data")
    assert files.resolve(f"{shared}/link/log.key") == home / "data" / "log.key"
    (shared / "a").symlink_to(shared / "b")
    (shared / "b").symlink_to(shared / "a")
    with pytest.raises(HearthgateError):
        files.read(files.resolve(f"{shared}/a"))


@pytest.mark.parametrize("deed", ["read", "list", "write", "read below", "write below"])
def test_a_link_that_appears_after_the_decision_is_not_followed(
    files: Files, shared: Path, home: Path, deed: str
) -> None:
    decided = files.resolve(f"{shared}/x" + ("/log.key" if "below" in deed else ""))
    (shared / "x").symlink_to(home / "data" if "below" in deed or deed == "list" else home / "data" / "log.key")
    verb = deed.partition(" ")[0]
    deeds = {"read": files.read, "list": files.list, "write": lambda path: files.write(path, b"overwritten")}
    with pytest.raises(ConflictError):
        deeds[verb](decided)
    assert (home / "data" / "log.key").read_bytes() == SECRET


# Swaps, as fast as it can, a folder with a link to the home; says so, and ends when its standard input does.
SWAPPER = """
import os, select, sys
folder, home = sys.argv[1:]
print("swapping", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    os.rename(f"{folder}/work", f"{folder}/real")
    os.symlink(home, f"{folder}/work")
    os.unlink(f"{folder}/work")
    os.rename(f"{folder}/real", f"{folder}/work")
"""


def test_a_race_of_swapped_links_never_leads_into_the_home(files: Files, shared: Path, home: Path) -> None:
    (shared / "work").mkdir()
    (shared / "work" / "log.key").write_bytes(b"mine")
    decided = shared / "work" / "log.key"
    naive_was_fooled = False
    seen = set[bytes]()
    with subprocess.Popen(
        [sys.executable, "-c", SWAPPER, str(shared), str(home / "data")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as swapper:
        assert swapper.stdout is not None
        swapper.stdout.readline()
        deadline = time.monotonic() + 20
        rounds = 0
        while time.monotonic() < deadline and not (naive_was_fooled and rounds > 2000):
            rounds += 1
            try:
                seen.add(files.read(decided))
                files.write(decided, b"mine")
            except HearthgateError:
                pass
            try:
                # The twin: look, then open. It must be fooled, or the race proves nothing.
                if not decided.parent.is_symlink():
                    naive_was_fooled |= decided.read_bytes() == SECRET
            except OSError:
                pass
        swapper.communicate(b"")
    assert naive_was_fooled
    assert seen == {b"mine"}
    assert [path.name for path in (home / "data").iterdir()] == ["log.key"]
    assert (home / "data" / "log.key").read_bytes() == SECRET


def test_a_pipe_is_refused_at_once_and_no_one_waits_for_its_other_end(files: Files, shared: Path) -> None:
    os.mkfifo(shared / "pipe")
    opened = threading.Event()

    def wait_for_a_reader() -> None:
        descriptor = os.open(shared / "pipe", os.O_WRONLY)
        opened.set()
        os.close(descriptor)

    writer = threading.Thread(target=wait_for_a_reader)
    writer.start()
    with pytest.raises(DeniedError, match="not a regular file"):
        files.read(shared / "pipe")
    with pytest.raises(DeniedError, match="not a regular file"):
        files.write(shared / "pipe", b"x")
    assert not opened.is_set()  # it was not even opened for a moment
    os.close(os.open(shared / "pipe", os.O_RDONLY))
    writer.join(10)
    assert files.list(shared) == []


def test_a_socket_is_refused_and_not_listed(files: Files, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shared)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind("door")
        for deed in (files.read, lambda path: files.write(path, b"x")):
            with pytest.raises(DeniedError, match="not a regular file"):
                deed(shared / "door")
    assert files.list(shared) == []


def test_a_device_node_is_refused_wherever_it_lies(files: Files, shared: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("making a device node takes root; the same check is tested with a pipe and a socket")
    os.mknod(shared / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    for deed in (files.read, lambda path: files.write(path, b"x")):
        with pytest.raises(DeniedError, match="not a regular file"):
            deed(shared / "zero")
    assert files.list(shared) == []


def test_a_folder_is_not_read_and_not_replaced(files: Files, shared: Path) -> None:
    (shared / "folder").mkdir()
    with pytest.raises(DeniedError):
        files.read(shared / "folder")
    with pytest.raises(DeniedError):
        files.write(shared / "folder", b"x")
    (shared / "file").write_bytes(b"x")
    with pytest.raises(NotFoundError):
        files.list(shared / "file")
    with pytest.raises(NotFoundError):
        files.read(shared / "file" / "below")
    with pytest.raises(NotFoundError):
        files.write(shared / "nowhere" / "x", b"x")


def test_a_file_with_a_second_name_is_never_written(files: Files, shared: Path, home: Path) -> None:
    os.link(home / "data" / "log.key", shared / "innocent")
    with pytest.raises(DeniedError, match="hard links"):
        files.write(shared / "innocent", b"x")
    assert (home / "data" / "log.key").read_bytes() == SECRET


def test_a_write_keeps_the_mode_but_no_setuid(files: Files, shared: Path) -> None:
    (shared / "program").write_bytes(b"x")
    (shared / "program").chmod(0o6755)
    files.write(shared / "program", b"y")
    assert stat.S_IMODE((shared / "program").stat().st_mode) == 0o755


def test_a_failed_write_leaves_what_was_there_and_nothing_else(
    files: Files, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.write(shared / "a", b"before")

    def full_disk(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files_module.os, "write", full_disk)
    with pytest.raises(HearthgateError, match="no space left"):
        files.write(shared / "a", b"after")
    monkeypatch.undo()
    assert files.read(shared / "a") == b"before"
    assert files.list(shared) == ["a"]


def test_sizes_are_capped(files: Files, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (shared / "a").write_bytes(b"12345")
    assert files.read(shared / "a", 5) == b"12345"
    with pytest.raises(TooLargeError):
        files.read(shared / "a", 4)
    with (shared / "sparse").open("wb") as sparse:
        sparse.truncate(1 << 40)
    with pytest.raises(TooLargeError):
        files.read(shared / "sparse")
    monkeypatch.setattr(files_module, "MAX_FILE_BYTES", 3)
    with pytest.raises(TooLargeError):
        files.write(shared / "b", b"1234")
    monkeypatch.setattr(files_module, "MAX_ENTRIES", 1)
    with pytest.raises(TooLargeError):
        files.list(shared)


def test_links_and_odd_names_are_not_listed(files: Files, shared: Path) -> None:
    (shared / "link").symlink_to("/etc/passwd")
    (shared / "line\nbreak").write_bytes(b"")
    Path(os.fsdecode(os.fsencode(shared) + b"/\xff")).write_bytes(b"")
    (shared / "plain").write_bytes(b"")
    assert files.list(shared) == ["plain"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(parts=st.lists(st.sampled_from(["..", ".", "", "a", "link", "home", "data", "log.key", "up", "\0"]), max_size=7))
def test_no_combination_of_parts_reads_the_key(files: Files, shared: Path, home: Path, parts: list[str]) -> None:
    for name, target in (("link", home), ("up", Path("..")), ("a", shared)):
        if not (shared / name).is_symlink():
            (shared / name).symlink_to(target)
    text = "/".join([str(shared), *parts])
    for deed in (
        lambda: files.read(files.resolve(text)),
        lambda: files.read(Path(text)),
    ):
        with suppress(HearthgateError):
            assert deed() != SECRET


@pytest.mark.parametrize("what", ["home", "proc"])
def test_a_second_mount_of_a_forbidden_folder_is_forbidden_too(shared: Path, home: Path, what: str) -> None:
    (shared / "again").mkdir()
    mount = f"mount --bind {home} {shared}/again" if what == "home" else f"mount -t proc proc {shared}/again"
    inner = "again/data/log.key" if what == "home" else "again/1/environ"
    program = f"""
from pathlib import Path
from gateway.errors import DeniedError
from gateway.resources.files import Files
files = Files([Path({str(home)!r})])
path = Path({str(shared)!r}) / {inner!r}
assert path.read_bytes()  # the twin without the barrier
assert not files.is_forbidden(path)
try:
    files.read(path)
except DeniedError:
    print("denied")
"""
    done = subprocess.run(
        ["unshare", "-rmpf", "sh", "-c", f'{mount} && exec "$0" -c "$1"', sys.executable, program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "denied\n", done.stderr
