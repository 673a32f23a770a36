"""What a plugin writes into a granted folder is bounded, kept when the call returns, and never without a right."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Home

WRITER = """\
import os
import shutil
import time


def execute(ctx, payload):
    os.chdir(payload["folder"])
    found = []
    for line in payload["do"]:
        try:
            found.append(eval(line, {"os": os, "shutil": shutil, "put": put, "time": time, "ctx": ctx}))
        except OSError as error:
            found.append(error.errno)
    return found


def put(path, data):
    with open(path, "w") as file:
        return file.write(data)
"""


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    folder = tmp_path / "shared, with: marks"
    (folder / "inner").mkdir(parents=True)
    (folder / "old").mkdir()
    (folder / "old" / "one").write_text("1")
    (folder / "note").write_text("before")
    (folder / "note").chmod(0o640)
    (folder / "gone").write_text("x")
    return folder


def install(home: "Home", shared: Path, **limits: object) -> None:
    home.install(
        "writer", WRITER, wants=(f"file_write {shared}",), sandbox_config={"file_access": [str(shared)], **limits}
    )


def call(home: "Home", shared: Path, *lines: str, **more: object) -> dict[str, Any]:
    alice = home.person("alice", "execute")
    payload = {"folder": str(shared), "do": lines}
    answer = alice.post("/v1/plugins/writer/execute", {"payload": payload, **more})
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def tree(folder: Path) -> dict[str, str | None]:
    return {str(each.relative_to(folder)): each.read_text() if each.is_file() else None for each in folder.rglob("*")}


def test_what_a_call_wrote_is_there_when_it_has_returned(home: "Home", shared: Path) -> None:
    install(home, shared)
    told = call(
        home,
        shared,
        "put('note', 'after')",
        "put('inner/new', 'new')",
        "os.mkdir('made')",
        "put('made/deep', 'deep')",
        "os.unlink('gone')",
        "shutil.rmtree('old')",
        "os.mkdir('old')",
        "put('old/two', '2')",
        "open('note').read()",
    )
    assert told["output"] == [5, 3, None, 4, None, None, None, 1, "after"]
    expected = {"inner": None, "inner/new": "new", "made": None, "made/deep": "deep", "note": "after"}
    assert tree(shared) == {**expected, "old": None, "old/two": "2"}
    assert (shared / "note").stat().st_mode & 0o777 == 0o640
    assert (shared / "inner" / "new").stat().st_uid == shared.stat().st_uid
    (written,) = told["sandbox_result"]["files"]["written"]
    assert (written["files"], written["folders"], written["bytes"]) == (4, 1, 13)
    decision = home.decision(written["decision_id"])
    assert (decision["permission"], decision["scope"], decision["effect"]) == ("file_write", str(shared), "allow")
    (shown,) = told["sandbox_result"]["files"]["shown"]
    assert shown["decision_id"] != written["decision_id"]
    ended = home.records(event_type="execution_completed")[-1]
    assert ended["details"]["files"]["written"] == [written]


@pytest.mark.parametrize("ending", ["1/0", "time.sleep(60)", "os.kill(os.getpid(), 9)"])
def test_nothing_is_kept_of_a_call_that_did_not_return(home: "Home", shared: Path, ending: str) -> None:
    before = tree(shared)
    install(home, shared)
    told = call(home, shared, "put('note', 'after')", "put('new', 'x')", ending, timeout_s=2)
    assert not told["success"]
    assert tree(shared) == before


def test_nothing_is_kept_when_the_right_has_ended(home: "Home", shared: Path) -> None:
    before = tree(shared)
    home.rules(f"p, yes, plugin:writer, file, write, {str(shared).replace(',', '%2C')}/*, -, allow, x\n")
    home.install("writer", WRITER, sandbox_config={"file_access": [str(shared)]})
    alice = home.person("alice", "execute")
    payload = {"folder": str(shared), "do": ["put('note', 'after')", "time.sleep(30)"]}
    running = alice.start("POST", "/v1/plugins/writer/execute", {"payload": payload})
    home.until(lambda: home.running("writer"))
    home.rules("")
    assert running.result(20).json()["outcome"] == "killed"
    assert tree(shared) == before


def test_the_disk_limit_holds_for_what_is_written_there_and_in_the_scratch_folder_together(
    home: "Home", shared: Path
) -> None:
    install(home, shared, max_disk_mb=2)
    fill = "[put(f'{folder}/{n}', 'x' * (1 << 19)) for folder in ('/scratch', '.') for n in range(3)]"
    told = call(home, shared, fill)
    assert told["output"] == [28]
    assert told["sandbox_result"]["usage"]["disk_bytes"] > 1 << 20
    assert sum(each.stat().st_size for each in shared.rglob("*") if each.is_file()) < 2 << 20
    (shared / "twin").write_text("x" * (3 << 20))
    assert (shared / "twin").stat().st_size == 3 << 20


def test_files_with_holes_do_not_grow_past_the_limit_either(home: "Home", shared: Path) -> None:
    install(home, shared, max_disk_mb=2)
    told = call(home, shared, "[(put(f'{n}', ''), os.truncate(f'{n}', 1 << 20)) for n in range(5)]")
    assert told["success"], told
    (written,) = told["sandbox_result"]["files"]["written"]
    assert (written["files"], written["bytes"]) == (2, 2 << 20)
    assert "max_disk_mb" in str(written["left_out"])
    assert len([each for each in shared.iterdir() if each.name.isdigit()]) == 2


@pytest.mark.parametrize(
    ("deed", "why"),
    [
        ("os.symlink('/etc/passwd', 'note2')", "neither a folder nor a plain file"),
        ("put(b'odd\\xff', 'x')", "no rule could speak of"),
        ("put('a\\nb', 'x')", "no rule could speak of"),
        ("put('\u0041\u030a', 'x')", "no rule could speak of"),
        ("put('star*', 'x')", "no rule could speak of"),
    ],
)
def test_what_is_no_plain_file_with_a_plain_name_is_left_out(home: "Home", shared: Path, deed: str, why: str) -> None:
    install(home, shared)
    before = tree(shared)
    told = call(home, shared, deed, "put('kept', 'x')")
    (written,) = told["sandbox_result"]["files"]["written"]
    assert why in str(written["left_out"])
    assert tree(shared) == {**before, "kept": "x"}


def test_a_link_in_the_folder_leads_nowhere_out_of_it(home: "Home", shared: Path) -> None:
    outside = shared.parent / "outside"
    outside.mkdir()
    (outside / "file").write_text("mine")
    (shared / "link").symlink_to(outside)
    (shared / "filelink").symlink_to(outside / "file")
    install(home, shared)
    told = call(
        home,
        shared,
        "put('link/file', 'x')",
        "put('filelink', 'x')",
        "os.unlink('link')",
        "os.mkdir('link')",
        "put('link/file', 'y')",
    )
    assert told["output"][:2] == [2, 2]
    assert (outside / "file").read_text() == "mine"
    assert (shared / "link" / "file").read_text() == "y"


def test_a_file_with_other_names_is_not_replaced(home: "Home", shared: Path) -> None:
    os.link(shared / "note", shared.parent / "elsewhere")
    install(home, shared)
    told = call(home, shared, "put('note', 'after')")
    assert "hard links" in str(told["sandbox_result"]["files"]["written"])
    assert (shared / "note").read_text() == "before"


def test_no_program_and_no_special_bit_comes_out(home: "Home", shared: Path) -> None:
    install(home, shared)
    call(home, shared, "put('tool', '#!')", "os.chmod('tool', 0o6755)")
    assert (shared / "tool").stat().st_mode & 0o7777 == 0o644
