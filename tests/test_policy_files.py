import os
import shutil
import stat
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.errors import ConflictError, PolicyUnreadableError
from gateway.policy.parse import parse_policy
from gateway.policy_files import KeptFiles, read, read_policy_folder, starter_folder, write, write_grants, write_text
from gateway.policy_files.kept import STEP_S, Mark


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    target = tmp_path / "policies"
    shutil.copytree(starter_folder(), target)
    for path in [target, *target.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return target


def refused(folder: Path) -> str:
    with pytest.raises(PolicyUnreadableError) as caught:
        read_policy_folder(folder)
    assert caught.value.problems
    return str(caught.value)


def test_the_starter_folder_is_read_whole_and_is_a_good_policy(folder: Path) -> None:
    text = read_policy_folder(folder)
    assert parse_policy(text).problems == ()
    assert text.version == read_policy_folder(starter_folder()).version
    assert {"model.conf", "grants.csv", "rules/10-guardrails.csv", "tests/guardrails.toml"} <= set(text.files)


@pytest.mark.parametrize(
    "name", [".#10.csv", "10.csv~", ".10.csv.swp", "10.csv.swp", "#10.csv#", ".git", "4913.tmp", ".grants.csv.7.new"]
)
def test_what_editors_leave_is_not_policy(folder: Path, name: str) -> None:
    before = read_policy_folder(folder).version
    (folder / name).write_text("nonsense")
    (folder / "rules" / name).write_text("nonsense")
    assert read_policy_folder(folder).version == before


def test_a_dangling_lock_of_an_editor_is_not_read(folder: Path) -> None:
    (folder / "rules" / ".#10-guardrails.csv").symlink_to("somebody@somewhere.1234")
    assert parse_policy(read_policy_folder(folder)).ok


@pytest.mark.parametrize("name", ["rules/90-mine.cvs", "rules/90-mine.csv.off", "role.csv"])
def test_a_file_of_a_strange_name_reaches_the_parser_who_refuses_it(folder: Path, name: str) -> None:
    (folder / name).write_text("p, a, plugin:notes, vault, read, x, -, deny, why\n")
    assert [problem.place.file for problem in parse_policy(read_policy_folder(folder)).errors] == [name]


@pytest.mark.parametrize("name", ["rules/10-guardrails.csv", "rules", ".", "roles.csv"])
def test_what_anybody_may_write_is_refused_with_the_way_out(folder: Path, name: str) -> None:
    path = folder / name
    path.chmod(path.stat().st_mode | stat.S_IWOTH)
    assert f"chmod o-w {path}" in refused(folder)


def test_a_folder_above_that_anybody_may_write_is_refused_unless_sticky(tmp_path: Path, folder: Path) -> None:
    tmp_path.chmod(0o777)
    assert f"chmod o-w {tmp_path}" in refused(folder)
    tmp_path.chmod(0o1777)
    assert read_policy_folder(folder).files


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path, folder: Path) -> None:
    outside = tmp_path / "outside.csv"
    outside.write_text("p, a, plugin:notes, vault, admin, *, -, allow, why\n")
    (folder / "rules" / "90-here.csv").symlink_to(outside)
    assert "rules/90-here.csv: a link that leads out of the policies folder" in refused(folder)


def test_a_folder_of_rules_that_leads_outside_is_refused(tmp_path: Path, folder: Path) -> None:
    (folder / "rules").rename(tmp_path / "rules")
    (folder / "rules").symlink_to(tmp_path / "rules")
    assert "a link that leads out of the policies folder" in refused(folder)


def test_links_inside_the_folder_are_followed_as_config_maps_need(tmp_path: Path, folder: Path) -> None:
    before = read_policy_folder(folder).version
    data = folder / "..2026_11_22"
    data.mkdir()
    for path in [path for path in folder.iterdir() if path.is_file()]:
        path.rename(data / path.name)
        path.symlink_to(Path("..data") / path.name)
    (folder / "..data").symlink_to(data.name)
    assert read_policy_folder(folder).version == before
    linked = tmp_path / "linked"
    linked.symlink_to(folder)
    assert read_policy_folder(linked).version == before


def test_a_pipe_does_not_make_the_reader_wait(folder: Path) -> None:
    os.mkfifo(folder / "rules" / "90-here.csv")
    assert "rules/90-here.csv: no regular file" in refused(folder)


def test_a_folder_inside_rules_is_refused(folder: Path) -> None:
    (folder / "rules" / "more").mkdir()
    assert "rules/more: no regular file" in refused(folder)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "no such folder" in refused(tmp_path / "nowhere")


def test_files_too_large_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "MAX_FILE_BYTES", 1000)
    assert "rules/10-guardrails.csv:" in refused(folder)
    monkeypatch.undo()
    monkeypatch.setattr(read, "MAX_FILES", 3)
    assert "files: at most 3" in refused(folder)


def test_a_snapshot_is_never_half_of_one_edit_and_half_of_another(folder: Path) -> None:
    paths = [folder / "rules" / f"9{number}-here.csv" for number in range(8)]
    stop = threading.Event()
    for path in paths:
        path.write_text("# 0\n")

    def edit() -> None:
        number = 0
        while not stop.wait(0.03):
            number += 1
            for path in paths:
                write_text(path, f"# {number}\n")

    editor = threading.Thread(target=edit)
    editor.start()
    try:
        for _ in range(30):
            text = read_policy_folder(folder)
            numbers = [int(text.files[f"rules/{path.name}"][2:]) for path in paths]
            # Files are written one after the other, so a true state falls by at most one, once.
            assert numbers == sorted(numbers, reverse=True)
            assert numbers[0] - numbers[-1] <= 1
    finally:
        stop.set()
        editor.join()


def test_grants_are_replaced_only_if_nobody_edited_them(folder: Path) -> None:
    path = folder / "grants.csv"
    path.chmod(0o640)
    before = path.read_bytes()
    write_grants(folder, expected=before, new=before + b"# more\n")
    assert path.read_bytes() == before + b"# more\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    with pytest.raises(ConflictError, match="edited meanwhile"):
        write_grants(folder, expected=before, new=b"")
    assert path.read_bytes() == before + b"# more\n"
    assert [entry.name for entry in folder.iterdir() if entry.name.startswith(".")] == []


def test_grants_that_are_not_there_yet_are_made(folder: Path) -> None:
    (folder / "grants.csv").unlink()
    write_grants(folder, expected=b"", new=b"# new\n")
    assert (folder / "grants.csv").read_bytes() == b"# new\n"


def test_a_link_in_place_of_grants_is_not_followed(tmp_path: Path, folder: Path) -> None:
    target = tmp_path / "precious"
    target.write_bytes(b"")
    (folder / "grants.csv").unlink()
    (folder / "grants.csv").symlink_to(target)
    with pytest.raises(ConflictError, match="is a link"):
        write_grants(folder, expected=b"", new=b"new")
    assert target.read_bytes() == b""


def test_of_many_writers_each_line_survives(folder: Path) -> None:
    path = folder / "grants.csv"
    path.write_bytes(b"")

    def add(line: bytes) -> None:
        while True:
            there = path.read_bytes()
            try:
                write_grants(folder, expected=there, new=there + line)
            except ConflictError:
                continue
            return

    writers = [threading.Thread(target=add, args=(b"# %d\n" % number,)) for number in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(path.read_bytes().splitlines()) == [b"# %d" % number for number in range(8)]


@pytest.mark.parametrize("make", [Path.exists, lambda path: path.write_text("old")])
def test_a_file_is_written_whole_or_not_at_all(
    tmp_path: Path, make: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new.toml"
    make(path)
    before = path.read_text() if path.exists() else None

    def fail(_descriptor: int) -> None:
        raise OSError(28, "no space left")

    with monkeypatch.context() as patched:
        patched.setattr(write.os, "fsync", fail)
        with pytest.raises(OSError, match="no space"):
            write_text(path, "new")
    assert (path.read_text() if path.exists() else None) == before
    write_text(path, "new")
    assert path.read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["new.toml"]


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.at_s = 0.0

    def __call__(self) -> float:
        return self.at_s


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note which files are opened to be read."""
    names: list[str] = []
    read_file = read._read_file

    def noting(path: Path, mark: Mark) -> bytes:
        names.append(path.name)
        return read_file(path, mark)

    monkeypatch.setattr(read, "_read_file", noting)
    return names


def test_files_that_rest_are_not_read_again(folder: Path, opened: list[str]) -> None:
    clock = Clock()
    kept = KeptFiles(clock)
    text = read_policy_folder(folder, kept)
    clock.at_s = STEP_S
    read_policy_folder(folder, kept, whole=False)
    opened.clear()
    (folder / "rules" / "90-more.csv").write_bytes(b"# more\n")
    again = read_policy_folder(folder, kept, whole=False)
    assert opened == ["90-more.csv"]
    assert again.files == {**text.files, "rules/90-more.csv": b"# more\n"}
    assert all(again.files[name] is data for name, data in text.files.items())
    assert read_policy_folder(folder, kept).version == again.version
    assert sorted(opened[1:]) == sorted(path.rpartition("/")[2] for path in again.files)


def test_an_edit_that_leaves_every_mark_as_it_was_is_seen_within_a_step_of_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = read.mark_of

    def coarse(state: os.stat_result) -> Mark:
        return replace(marks(state), changed_ns=0, altered_ns=0)

    monkeypatch.setattr(read, "mark_of", coarse)
    clock = Clock()
    kept = KeptFiles(clock)
    file = folder / "rules" / "90-more.csv"
    for at_s, word in ((0.0, b"# one\n"), (STEP_S / 2, b"# two\n"), (STEP_S * 0.99, b"# six\n"), (STEP_S, b"# ten\n")):
        clock.at_s = at_s
        with file.open("r+b" if file.exists() else "wb") as same:
            same.write(word)
        assert read_policy_folder(folder, kept, whole=False).files["rules/90-more.csv"] == word


def test_edits_in_place_one_after_the_other_are_all_seen(folder: Path) -> None:
    kept = KeptFiles()
    file = folder / "rules" / "90-more.csv"
    file.write_bytes(b"# 000\n")
    for number in range(300):
        with file.open("r+b") as same:
            same.write(b"# %03d\n" % number)
        assert read_policy_folder(folder, kept, whole=False).files["rules/90-more.csv"] == b"# %03d\n" % number


@pytest.mark.parametrize("edit", ["in place", "renamed over", "touched back", "gone", "a link to another"])
def test_an_edit_of_a_file_that_rested_is_seen(folder: Path, edit: str) -> None:
    clock = Clock()
    kept = KeptFiles(clock)
    file, other = folder / "rules" / "90-more.csv", folder / "rules" / "91-more.csv"
    file.write_bytes(b"# one\n")
    other.write_bytes(b"# two\n")
    for at_s in (0.0, STEP_S, 2 * STEP_S):
        clock.at_s = at_s
        read_policy_folder(folder, kept, whole=False)
    state = file.stat()
    if edit == "renamed over":
        other.rename(file)
    elif edit == "gone":
        file.unlink()
    elif edit == "a link to another":
        file.unlink()
        file.symlink_to(other)
    else:
        with file.open("r+b") as same:
            same.write(b"# two\n")
        if edit == "touched back":
            os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    expected = None if edit == "gone" else b"# two\n"
    assert read_policy_folder(folder, kept, whole=False).files.get("rules/90-more.csv") == expected
