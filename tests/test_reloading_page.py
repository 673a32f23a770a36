"""The page on reloading: its commands work one after the other, its manifest is one, its words are the gateway's."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from gateway.domain.reloading import DEFAULT_RELOAD_TIMEOUT_S, Flag, Trigger, reload_wish
from gateway.registry.manifest import parse_manifest

PAGE = (Path(__file__).parents[1] / "docs" / "reloading.md").read_text("utf-8")


def block(kind: str) -> str:
    found = re.search(rf"^```{re.escape(kind)}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def test_its_commands_work_as_they_stand(tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HEARTHGATE_")}
    typed = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block("sh")],
        cwd=tmp_path,
        env={**clean, "PATH": f"{Path(sys.executable).parent}:{clean['PATH']}"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert typed.returncode == 0, typed.stdout + typed.stderr
    assert typed.stdout.index('"old"') < typed.stdout.index('"new"')
    assert "teller is reloaded: 1.0.0 -> 1.0.0, generation 2" in typed.stdout
    assert "SyntaxError" in typed.stdout
    assert "generation 2 stays in force" in typed.stderr


def test_its_manifest_is_one_that_wishes_what_it_says() -> None:
    wish = reload_wish(parse_manifest(json.loads(block("json manifest.json"))))
    assert (wish.live, wish.watch_paths, wish.timeout_s) == (True, ("src/", "config/"), DEFAULT_RELOAD_TIMEOUT_S)
    assert wish.self_test == "proves"


def test_its_words_are_the_gateways() -> None:
    assert f"`trigger` ({', '.join(Trigger)})" in PAGE
    assert all(f"`{flag}`" in PAGE for flag in (Flag.SAME_VERSION, Flag.DOWNGRADE))
    assert f"(1 to 300; {DEFAULT_RELOAD_TIMEOUT_S:g})" in PAGE
