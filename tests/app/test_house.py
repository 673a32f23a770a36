"""A home is made whole, opened by one process at a time, and left as it was when it cannot be opened."""

import asyncio
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gateway.app import init_home, open_house
from gateway.errors import ConfigError, ConflictError, HearthgateError, HomeInUseError, NoHomeError

if TYPE_CHECKING:
    from tests.conftest import Home


def opening(folder: Path) -> HearthgateError | None:
    """Open a home and close it; give the error if there is one."""

    async def run() -> None:
        async with open_house(folder):
            pass

    try:
        asyncio.run(run())
    except HearthgateError as error:
        return error
    return None


def test_a_new_home_is_private_where_it_must_be_and_ready(tmp_path: Path) -> None:
    made = init_home(tmp_path / "home", plugins=True)
    assert (tmp_path / "home" / "plugins" / "notes" / "manifest.json") in made
    for name in ("data", "run"):
        assert stat.S_IMODE((tmp_path / "home" / name).stat().st_mode) == 0o700
    assert not [path for path in made if path.stat().st_mode & 0o022]
    assert opening(tmp_path / "home") is None
    for path in (tmp_path / "home" / "data").rglob("*"):
        assert path.is_dir() or not path.stat().st_mode & 0o077 or path.name == "log.pub", path


@pytest.mark.parametrize("there", ["a file", "a folder with a file"])
def test_a_home_is_made_over_nothing(tmp_path: Path, there: str) -> None:
    target = tmp_path / "home"
    if there == "a file":
        target.write_text("mine")
    else:
        target.mkdir()
        (target / "mine").write_text("mine")
    with pytest.raises(ConflictError):
        init_home(target)
    assert [path.read_text() for path in (target, target / "mine") if path.is_file()] == ["mine"]


def test_what_is_no_home_is_not_opened_and_not_changed(tmp_path: Path) -> None:
    assert isinstance(opening(tmp_path), NoHomeError)
    assert isinstance(opening(tmp_path / "nowhere"), NoHomeError)
    assert list(tmp_path.iterdir()) == []


def test_a_home_is_opened_by_one_at_a_time(home: "Home") -> None:
    assert isinstance(opening(home.folder), HomeInUseError)
    assert home.owner.get("/v1/plugins").status_code == 200
    home.close()
    assert opening(home.folder) is None


def test_settings_that_cannot_be_open_nothing(tmp_path: Path) -> None:
    init_home(tmp_path / "home")
    (tmp_path / "home" / "hearthgate.toml").write_text("[nothing]\n")
    assert isinstance(opening(tmp_path / "home"), ConfigError)
    assert not (tmp_path / "home" / "data" / "audit.db").exists()
