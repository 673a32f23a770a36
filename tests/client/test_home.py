"""Which home is meant."""

from pathlib import Path

import pytest

from gateway.client import find_home
from gateway.errors import NoHomeError


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "house"
    (folder / "policies").mkdir(parents=True)
    (folder / "policies" / "model.conf").write_text("[matchers]\n")
    return folder


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEARTHGATE_HOME", raising=False)
    (tmp_path / "nowhere").mkdir()
    monkeypatch.chdir(tmp_path / "nowhere")


def test_the_option_comes_first(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEARTHGATE_HOME", "/does/not/matter")
    assert find_home(home) == home


def test_then_the_variable(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEARTHGATE_HOME", str(home))
    assert find_home() == home


def test_then_the_current_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    assert find_home() == home


def test_a_relative_home_is_made_absolute(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home.parent)
    assert find_home(Path("house")) == home


def test_nothing_named_is_an_error_that_says_how_to_make_a_home() -> None:
    with pytest.raises(NoHomeError, match="hearthgate init DIR") as caught:
        find_home()
    assert caught.value.exit_status == 2


def test_a_folder_that_is_no_home_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoHomeError, match=r"/absent/home.*policies/model\.conf"):
        find_home(Path("/absent/home"))
    monkeypatch.setenv("HEARTHGATE_HOME", "/absent")
    with pytest.raises(NoHomeError, match=r"named by \$HEARTHGATE_HOME"):
        find_home()
