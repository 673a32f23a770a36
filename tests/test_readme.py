"""The README's commands work when typed one after the other in an empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def shell_commands() -> str:
    """Give every `sh` block of the README as one script."""
    return "\n".join(re.findall(r"^```sh\n(.*?)^```$", README.read_text("utf-8"), re.MULTILINE | re.DOTALL))


def test_a_newcomer_can_type_what_the_readme_says(tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HEARTHGATE_")}
    typed = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", shell_commands()],
        cwd=tmp_path,
        env=clean,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert typed.returncode == 0, typed.stdout + typed.stderr
    assert "buy bread" in typed.stdout
    assert (tmp_path / "log.jsonl").stat().st_size > 0


def test_every_file_that_the_readme_names_is_there() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README.read_text("utf-8")):
        assert (README.parent / target).exists(), target


def test_the_readme_is_one_screen() -> None:
    assert len(README.read_text("utf-8").splitlines()) <= 75
