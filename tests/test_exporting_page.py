"""The page on exporting: its commands work one after the other, its settings are settings."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from gateway.app.sinks import sinks_of
from gateway.audit.formats.known import FORMATS
from gateway.config import Settings

PAGE = (Path(__file__).parents[1] / "docs" / "exporting.md").read_text("utf-8")


def blocks(language: str) -> str:
    return "\n".join(re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))


def test_its_commands_work_as_they_stand(tmp_path: Path) -> None:
    script = f'hearthgate init house\nexport HEARTHGATE_HOME="$PWD/house"\n{blocks("sh")}'
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HEARTHGATE_")}
    typed = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env={**clean, "PATH": f"{Path(sys.executable).parent}:{clean['PATH']}"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert typed.returncode == 0, typed.stdout + typed.stderr
    assert typed.stdout.count("whole and unchanged") == 3
    assert "lack personal values" in typed.stderr


def test_its_settings_are_settings(tmp_path: Path) -> None:
    settings = Settings.model_validate(tomllib.loads(blocks("toml")))
    shown = [sink.as_json() for sink in sinks_of(settings, tmp_path)]
    assert [(each["kind"], each["target"]) for each in shown] == [
        ("webhook", "https://siem.example"),
        ("syslog", "tls://logs.example:6514"),
        ("file", "/var/log/hearthgate/audit.jsonl"),
    ]


def test_it_tells_of_every_format() -> None:
    assert set(re.findall(r"^\| `([a-z]+)` \|", PAGE, re.MULTILINE)) == set(FORMATS)
