"""The page on writing plugins: a new reader's commands work as they stand, and its tables are the gateway's."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from gateway.config import LogSettings
from gateway.domain.behaviour import DAYS, Behaviour
from gateway.domain.lifecycle import LIFECYCLE_EVENTS
from gateway.domain.version import parse_range
from gateway.flows.deeds import DEEDS, MAX_CHAIN
from gateway.flows.hooks import HOOK_S
from gateway.flows.plan import MAX_BATCH
from gateway.registry.manifest_file import ManifestFile
from gateway.registry.scaffold import scaffold
from sandbox.context import Context

PAGE = (Path(__file__).parents[1] / "docs" / "writing-plugins.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_its_commands_work_as_they_stand(tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HEARTHGATE_")}
    typed = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(blocks("sh"))],
        cwd=tmp_path,
        env={**clean, "PATH": f"{Path(sys.executable).parent}:{clean['PATH']}"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert typed.returncode == 0, typed.stdout + typed.stderr
    assert "Hello, Ada!" in typed.stdout
    assert "activated" in typed.stdout


def test_its_code_is_the_new_plugins_code() -> None:
    first, hook = blocks("python")
    written = scaffold("greeter")["main.py"]  # type: ignore[arg-type] # a plugin id
    assert [line for line in first.splitlines() if line not in written] == []
    (hooks,) = blocks("json")
    assert set(json.loads(f"{{{hooks}}}")["lifecycle_hooks"]) <= set(LIFECYCLE_EVENTS)
    assert "def on_activated(ctx):" in hook


def test_its_table_names_all_that_a_plugin_can_ask_for() -> None:
    table = PAGE[PAGE.index("| `ctx.` | needs |") : PAGE.index("## The manifest")]
    for deed in DEEDS:
        family, _, verb = deed.partition(".")
        row = next(line for line in table.splitlines() if f"`{family}." in line)
        assert f"{verb}(" in row
    assert {name for name in ("log", "progress") if not hasattr(Context, name)} == set()


def test_its_figures_are_the_gateways() -> None:
    assert f"It has {HOOK_S:g} seconds" in PAGE
    assert f"up to {MAX_BATCH} sets" in PAGE
    assert f"at most {MAX_CHAIN} plugins" in PAGE
    assert f"in the last {DAYS} days" in PAGE
    points = {each.name: each.points for each in Behaviour(violations=99, denials=99, kills=99).parts}
    assert points == {"behaviour.violations": 30, "behaviour.denials": 10, "behaviour.kills": 10}
    assert all(f"`{event}`" in PAGE for event in LIFECYCLE_EVENTS)


def test_its_members_ranges_and_sink_are_taken() -> None:
    for name in ("code_review_required", "security_scan", "depends_on", "auto_approve", "lifecycle_hooks", "sandbox"):
        assert name in ManifestFile.model_fields
    for text in ("^1.2.0", "~1.2.0", ">=1.0.0 <2.0.0", "1.2", "*"):
        assert f"`{text}`" in PAGE
        parse_range(text)
    (sink,) = blocks("toml")
    (told,) = LogSettings.model_validate(tomllib.loads(sink)["log"]).sink
    assert told.categories == ("lifecycle",)
