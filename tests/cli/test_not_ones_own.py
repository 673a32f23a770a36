"""A command run by somebody for whom not every folder is there, as one who acts as another user is."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox import kernel

_DROP_FROM_BOUNDS = 24  # PR_CAPBSET_DROP
_PASS_BY_MODES = (1, 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH

Run = Callable[..., subprocess.CompletedProcess[str]]


def without_a_way_past_modes() -> None:
    if os.getuid() == 0:
        for capability in _PASS_BY_MODES:
            kernel.prctl(_DROP_FROM_BOUNDS, capability)


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "closed"
    folder.mkdir()
    yield folder
    folder.chmod(0o700)


@pytest.fixture
def run(closed: Path, tmp_path: Path) -> Run:
    """Give a function that runs `hearthgate` in a folder that is not for who runs it."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        def into_the_closed() -> None:
            os.chdir(closed)
            closed.chmod(0)
            without_a_way_past_modes()

        clean = {name: value for name, value in os.environ.items() if not name.startswith("HEARTHGATE_")}
        return subprocess.run(
            [str(Path(sys.executable).with_name("hearthgate")), *map(str, arguments)],
            cwd=tmp_path,
            env={**clean, "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            preexec_fn=into_the_closed,
        )

    return run


def test_a_folder_that_cannot_be_looked_at_is_no_home(run: Run) -> None:
    left = run("plugin", "list")
    assert (left.returncode, left.stderr.partition(",")[0]) == (2, "hearthgate: no home is named")


def test_a_plugin_is_found_in_the_home_from_wherever_one_stands(run: Run, tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert run("init", home).returncode == 0
    assert run("--home", home, "plugin", "new", "notes").returncode == 0
    left = run("--home", home, "plugin", "register", "notes", "--reason", "it is mine")
    assert (left.returncode, left.stderr.partition(":")[0]) == (0, "next")


def test_what_is_named_and_not_for_this_user_is_told(run: Run, closed: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert run("init", home).returncode == 0
    for arguments in (
        ("--home", home, "plugin", "register", closed / "notes"),
        ("--home", closed / "h", "plugin", "list"),
    ):
        left = run(*arguments)
        assert left.returncode == 1
        assert f"hearthgate: `{closed}/" in left.stderr
        assert "is not for this user: run it as one who may use that" in left.stderr
