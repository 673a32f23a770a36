"""`plugin new` and `plugin lint`: from nothing to a running plugin, without touching a file."""

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cli.conftest import Run


def test_a_new_plugin_passes_its_test_registers_and_runs_as_it_is(hearthgate: "Run", tmp_path: Path) -> None:
    assert hearthgate("init", "house").returncode == 0
    made = hearthgate("--home", "house", "plugin", "new", "my-greeter", "--json")
    assert made.returncode == 0, made.stderr
    folder = tmp_path / json.loads(made.stdout)["folder"]
    assert folder == tmp_path / "house" / "plugins" / "my-greeter"
    tested = subprocess.run([sys.executable, "-m", "unittest"], cwd=folder, capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stderr
    assert json.loads(hearthgate("plugin", "lint", folder, "--json").stdout)["problems"] == []
    for step in (("register", "my-greeter"), ("approve", "my-greeter", "--reason", "tried")):
        left = hearthgate("--home", "house", "plugin", *step)
        assert left.returncode == 0, left.stderr
    payload = json.dumps({"action": "greet", "name": "Ada"})
    for times in (1, 2):
        ran = hearthgate("--home", "house", "plugin", "run", "my-greeter", payload)
        assert ran.returncode == 0, ran.stderr
        assert json.loads(ran.stdout) == {"text": "Hello, Ada!", "times": times}


def test_without_a_home_it_goes_into_the_current_folder(hearthgate: "Run", tmp_path: Path) -> None:
    assert hearthgate("plugin", "new", "greeter").returncode == 0
    assert (tmp_path / "greeter" / "manifest.json").is_file()
    again = hearthgate("plugin", "new", "greeter")
    assert (again.returncode, "is there already" in again.stderr) == (1, True)
    assert hearthgate("plugin", "new", "Greeter").returncode == 1
    assert hearthgate("plugin", "new", "gateway").returncode == 1


def test_lint_exits_1_for_errors_and_0_for_warnings(hearthgate: "Run", tmp_path: Path) -> None:
    hearthgate("plugin", "new", "greeter")
    manifest = tmp_path / "greeter" / "manifest.json"
    told = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**told, "auto_approve": True}))
    warned = hearthgate("plugin", "lint", "greeter")
    assert (warned.returncode, "warning: auto_approve" in warned.stdout) == (0, True), warned
    manifest.write_text(json.dumps({**told, "version": "1"}, indent=1))
    wrong = hearthgate("plugin", "lint", "greeter", "--json")
    assert wrong.returncode == 1
    (problem,) = json.loads(wrong.stdout)["problems"]
    assert (problem["file"], problem["line"], problem["severity"]) == ("manifest.json", 5, "error")
