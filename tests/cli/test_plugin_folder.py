"""A plugin's folder finds its way into the home."""

import json
from pathlib import Path

import pytest

from gateway.cli.plugin_folder import bring_home
from gateway.errors import ConflictError, HearthgateError, MalformedError, NotFoundError


def plugin(folder: Path, plugin_id: str = "notes") -> Path:
    (folder / "__pycache__").mkdir(parents=True)
    (folder / "__pycache__" / "main.pyc").write_text("stale")
    (folder / "manifest.json").write_text(json.dumps({"plugin_id": plugin_id}))
    (folder / "main.py").write_text("pass\n")
    (folder / "main.py").chmod(0o777)
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home" / "plugins").mkdir(parents=True)
    return tmp_path / "home"


def test_a_folder_in_the_home_is_used_where_it_lies(home: Path) -> None:
    folder = plugin(home / "plugins" / "notes")
    assert bring_home(str(folder), home) == ("notes", False)
    assert bring_home("notes", home) == ("notes", False)


def test_a_folder_elsewhere_is_copied_without_leftovers_and_loose_modes(home: Path, tmp_path: Path) -> None:
    assert bring_home(str(plugin(tmp_path / "mine")), home) == ("notes", True)
    copy = home / "plugins" / "notes"
    assert sorted(path.name for path in copy.iterdir()) == ["main.py", "manifest.json"]
    assert (copy / "main.py").stat().st_mode & 0o022 == 0
    assert [path.name for path in (home / "plugins").iterdir()] == ["notes"]


def test_a_folder_of_the_home_is_never_overwritten(home: Path, tmp_path: Path) -> None:
    plugin(home / "plugins" / "notes")
    with pytest.raises(ConflictError, match="is there already"):
        bring_home(str(plugin(tmp_path / "mine")), home)


def test_a_symbolic_link_is_not_followed(home: Path, tmp_path: Path) -> None:
    folder = plugin(tmp_path / "mine")
    (folder / "secret").symlink_to("/etc/shadow")
    with pytest.raises(MalformedError, match="symbolic link"):
        bring_home(str(folder), home)
    assert not list((home / "plugins").iterdir())


def test_what_has_no_manifest_is_no_plugin(home: Path) -> None:
    with pytest.raises(NotFoundError, match="`absent` is no plugin"):
        bring_home("absent", home)


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"plugin_id": 7}', '{"plugin_id": "../notes"}', '{"plugin_id": "."}']
)
def test_a_manifest_that_names_no_plugin_is_malformed(text: str, home: Path, tmp_path: Path) -> None:
    folder = plugin(tmp_path / "mine")
    (folder / "manifest.json").write_text(text)
    with pytest.raises(HearthgateError):
        bring_home(str(folder), home)
    assert not list((home / "plugins").iterdir())


def test_a_folder_of_the_home_bears_its_plugins_name(home: Path) -> None:
    plugin(home / "plugins" / "other")
    with pytest.raises(MalformedError, match="rename the folder to `notes`"):
        bring_home("other", home)
