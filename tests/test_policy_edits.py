"""An edit of several files is read whole or not at all, wherever the one who writes it is killed."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.errors import ConflictError, PolicyUnreadableError
from gateway.policy.text import PolicyText
from gateway.policy_files import finish_edit, read_policy_folder, starter_folder, write_policy_files

NEW = {
    "roles.csv": b"g, user:alice, role:owner\n",
    "rules/90-a.csv": b"p, a, plugin:notes, vault, read, a, -, allow, a\n",
    "rules/91-b.csv": b"p, b, plugin:notes, vault, read, b, -, allow, b\n",
    "tests/guardrails.toml": None,
}
# Writes the edit, and is killed at its `last`th change of a name.
WRITER = """
import os, pathlib, signal, sys
from gateway.policy.text import PolicyText
from gateway.policy_files import read_policy_folder, write_policy_files

left = int(sys.argv[2])

def counted(change):
    def changing(*args, **kwargs):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return change(*args, **kwargs)
    return changing

folder = pathlib.Path(sys.argv[1])
before = read_policy_folder(folder)
after = before
for name, data in eval(sys.argv[3]).items():
    after = after.with_file(name, data)
pathlib.Path.rename, pathlib.Path.unlink = counted(pathlib.Path.rename), counted(pathlib.Path.unlink)
write_policy_files(folder, before, after)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    target = tmp_path / "policies"
    shutil.copytree(starter_folder(), target)
    for path in [target, *target.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return target


def edited(text: PolicyText) -> PolicyText:
    for name, data in NEW.items():
        text = text.with_file(name, data)
    return text


def visible(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def state(folder: Path, names: Mapping[str, str]) -> str:
    try:
        return names[read_policy_folder(folder).version]
    except PolicyUnreadableError as error:
        return "half" if "`hearthgate policy fmt` finishes it" in str(error) else str(error)


def test_an_edit_of_several_files_is_written_and_leaves_nothing_behind(folder: Path) -> None:
    before = read_policy_folder(folder)
    write_policy_files(folder, before, edited(before))
    assert read_policy_folder(folder).version == edited(before).version
    assert visible(folder) == sorted(edited(before).files)
    assert finish_edit(folder) is False


def test_an_edit_of_a_file_that_was_edited_meanwhile_writes_none_of_them(folder: Path) -> None:
    before = read_policy_folder(folder)
    (folder / "roles.csv").write_text("# another's words\n")
    now = read_policy_folder(folder)
    with pytest.raises(ConflictError, match=r"roles\.csv was edited meanwhile"):
        write_policy_files(folder, before, edited(before))
    assert read_policy_folder(folder).version == now.version


def test_wherever_the_writer_is_killed_the_folder_is_old_or_new_or_says_how_to_finish(folder: Path) -> None:
    old = read_policy_folder(folder)
    new = edited(old)
    seen: list[str] = []
    for last in range(60):
        shutil.rmtree(folder)
        shutil.copytree(starter_folder(), folder)
        command = [sys.executable, "-c", WRITER, str(folder), str(last), repr(NEW)]
        code = subprocess.run(command, check=False, capture_output=True).returncode
        assert code in {0, -signal.SIGKILL}
        seen.append(state(folder, {old.version: "old", new.version: "new"}))
        if seen[-1] == "half":
            assert finish_edit(folder) is True
            assert read_policy_folder(folder).version == new.version
        if code == 0:
            break
    assert seen[-1] == "new"
    assert [*dict.fromkeys(seen)] == ["old", "half", "new"]


@pytest.mark.parametrize("told", [b"", b"[]", b'{"../outside": null}', b'{"roles.csv": "00"}', b'{"roles.csv": 1}'])
def test_an_edit_that_cannot_be_finished_changes_nothing_and_says_so(folder: Path, told: bytes) -> None:
    (folder.parent / "outside").write_text("here")
    before = visible(folder)
    (folder / ".edit").write_bytes(told)
    with pytest.raises(ConflictError, match=r"cannot be finished.*remove"):
        finish_edit(folder)
    assert visible(folder) == sorted([*before, ".edit"])
    assert (folder.parent / "outside").read_text() == "here"
