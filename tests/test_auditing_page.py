"""The auditor's page says what is true: its commands are run, in order."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.app import init_home

PAGE = (Path(__file__).parents[1] / "docs" / "auditing.md").read_text()
COMMANDS = [
    shlex.split(line, comments=True)
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
]
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page") / "house"
    init_home(folder, plugins=True)
    return folder


def test_every_command_of_the_page_runs(house: Path) -> None:
    assert len(COMMANDS) >= 12
    for command in COMMANDS:
        program = str(Path(sys.executable).with_name(command[0]))
        ran = subprocess.run(
            [program, *command[1:]], cwd=house, capture_output=True, text=True, timeout=60, check=False
        )
        assert ran.returncode == 0, f"{command}: {ran.stdout}{ran.stderr}"
    assert "<h1>" in (house / "report.html").read_text()


def test_the_program_of_the_page_runs(house: Path) -> None:
    (program,) = PYTHON
    command = [sys.executable, "-W", "error", "-c", program]
    ran = subprocess.run(command, cwd=house.parent, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    assert " True " in ran.stdout
