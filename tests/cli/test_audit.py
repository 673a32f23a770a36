"""The log on a terminal: what plugins chose as text stays text."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gateway.cli.audit import row_of
from gateway.cli.output import cell_text

if TYPE_CHECKING:
    from tests.cli.conftest import Run

HEARTHGATE = str(Path(sys.executable).with_name("hearthgate"))
HOSTILE = [
    "\x1b[2J\x1b[31mred",
    "\x07\x9b31m",
    "a\u202egnp.exe",
    "\u2066x\u2069\u200b",
    "\u2028y",
    "<script>",
    "=cmd|' /C x'!A0",
]
_RAW = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]")


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_no_text_of_a_record_reaches_a_terminal_raw(text: str) -> None:
    decision: dict[str, Any] = {
        "effect": "allow", "permission": text, "scope": text, "reason": text, "dry_run": False,
        "rule": {"id": text}, "near_misses": [],
    }  # fmt: skip
    for decided in (None, decision):
        row = row_of({"decision": decided, "details": {"reason": text}, "event_type": text, "plugin_id": text})
        for member in ("what", "plugin_id"):
            assert not _RAW.search(cell_text(row, member))
    assert not _RAW.search(json.dumps(decision))


def test_tail_goes_on_with_what_is_recorded(hearthgate: "Run", tmp_path: Path) -> None:
    home = tmp_path / "house"
    hearthgate("init", home)
    gateway = subprocess.Popen(
        [HEARTHGATE, "serve", "--home", home, "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True
    )
    assert gateway.stdout is not None
    for line in gateway.stdout:
        if "hearthgate.sock" in line:
            break
    tail = subprocess.Popen(
        [HEARTHGATE, "--home", home, "audit", "tail", "-f", "-n", "1"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert tail.stdout is not None
        assert tail.stdout.readline()
        hearthgate("--home", home, "policy", "explain", "--subject", "plugin:notes", "--permission", "vault_read",
                   "--scope", "diary")  # fmt: skip
        seen = ""
        deadline = time.monotonic() + 30
        while "decisions/plugin:notes" not in seen:
            assert time.monotonic() < deadline
            seen = tail.stdout.readline()
        began = time.monotonic()
        gateway.terminate()
        gateway.wait(30)
        assert time.monotonic() - began < 8
    finally:
        for process in (tail, gateway):
            process.kill()
            process.wait(30)
            assert process.stdout is not None
            process.stdout.close()


def test_a_search_that_finds_more_names_the_cursor_and_reindex_ends(hearthgate: "Run", tmp_path: Path) -> None:
    home = tmp_path / "house"
    hearthgate("init", home)
    found = hearthgate("--home", home, "audit", "search", "--limit", "1")
    assert found.returncode == 0
    cursor = re.search(r"--cursor (s\d+)", found.stderr)
    assert cursor is not None
    assert hearthgate("--home", home, "audit", "search", "--cursor", cursor[1]).stdout
    made = hearthgate("--home", home, "--json", "audit", "reindex")
    state = json.loads(made.stdout)
    assert state["indexed"] <= state["records"]
    assert hearthgate("--home", home, "audit", "search", 'an "open').returncode == 1
