"""The installed program, run as people run it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def hearthgate(tmp_path: Path) -> Run:
    """Give a function that runs `hearthgate` in an empty folder, without the variables of this machine."""

    def run(*arguments: object, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("HEARTHGATE_")}
        return subprocess.run(
            [str(Path(sys.executable).with_name("hearthgate")), *map(str, arguments)],
            cwd=tmp_path,
            env={**clean, "NO_COLOR": "1", **environment},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run
