"""The program as it is installed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("litestar", "casbin", "httpx", "sqlite3", "uvicorn", "cryptography", "gateway.app", "gateway.client")
NOUNS = ("", "key", "policy", "plugin", "permission", "consent", "audit", "lockdown")


def hearthgate(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the installed program."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HEARTHGATE_")}
    return subprocess.run(
        [str(Path(sys.executable).with_name("hearthgate")), *arguments],
        cwd=cwd,
        env={**clean, "NO_COLOR": "1", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("noun", NOUNS)
def test_help_loads_nothing_heavy(noun: str) -> None:
    code = (
        "import sys, gateway.cli\n"
        f"sys.argv = {['hearthgate', *noun.split(), '--help']!r}\n"
        "try:\n    gateway.cli.main()\n"
        "except SystemExit as left:\n    assert left.code == 0, left.code\n"
        f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert told.stdout.splitlines()[-1] == "LOADED []"


def test_no_home_is_a_usage_error_of_one_sentence(tmp_path: Path) -> None:
    left = hearthgate("plugin", "list", cwd=tmp_path)
    assert left.returncode == 2
    assert left.stdout == ""
    assert left.stderr.startswith("hearthgate: no home is named")
    assert "hearthgate init DIR" in left.stderr
    assert len(left.stderr.splitlines()) == 1


def test_with_json_an_error_is_one_document_on_stdout(tmp_path: Path) -> None:
    for arguments in (("--json", "plugin", "list"), ("plugin", "list", "--json")):
        left = hearthgate(*arguments, cwd=tmp_path)
        assert left.returncode == 2
        assert json.loads(left.stdout)["type"] == "urn:hearthgate:problem:no_home"


@pytest.mark.parametrize("arguments", [["plugin", "frobnicate"], ["plugin", "run", "notes"], ["--nonsense"]])
def test_wrong_usage_exits_2_without_a_traceback(arguments: list[str], tmp_path: Path) -> None:
    left = hearthgate(*arguments, cwd=tmp_path)
    assert left.returncode == 2
    assert "Traceback" not in left.stderr


def test_the_home_may_be_named_before_the_noun_or_after_the_verb(tmp_path: Path) -> None:
    for arguments in (("--home", "/absent", "plugin", "list"), ("plugin", "list", "--home", "/absent")):
        left = hearthgate(*arguments, cwd=tmp_path)
        assert left.returncode == 2
        assert "`/absent` is not a home" in left.stderr


def test_completion_knows_the_nouns(tmp_path: Path) -> None:
    told = hearthgate(cwd=tmp_path, _HEARTHGATE_COMPLETE="complete_bash", COMP_WORDS="hearthgate po", COMP_CWORD="1")
    assert told.stdout.split() == ["policy"]
