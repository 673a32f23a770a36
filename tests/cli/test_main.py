"""The program as it is installed."""

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

HEAVY = ("litestar", "casbin", "httpx", "sqlite3", "uvicorn", "cryptography", "gateway.app", "gateway.client")
NOUNS = ("", "key", "policy", "plugin", "permission", "consent", "audit", "lockdown")


Run = Callable[..., subprocess.CompletedProcess[str]]


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


def test_no_home_is_a_usage_error_of_one_sentence(hearthgate: Run) -> None:
    left = hearthgate("plugin", "list")
    assert left.returncode == 2
    assert left.stdout == ""
    assert left.stderr.startswith("hearthgate: no home is named")
    assert "hearthgate init DIR" in left.stderr
    assert len(left.stderr.splitlines()) == 1


def test_with_json_an_error_is_one_document_on_stdout(hearthgate: Run) -> None:
    for arguments in (("--json", "plugin", "list"), ("plugin", "list", "--json")):
        left = hearthgate(*arguments)
        assert left.returncode == 2
        assert json.loads(left.stdout)["type"] == "urn:hearthgate:problem:no_home"


@pytest.mark.parametrize("arguments", [["plugin", "frobnicate"], ["plugin", "run", "notes"], ["--nonsense"]])
def test_wrong_usage_exits_2_without_a_traceback(arguments: list[str], hearthgate: Run) -> None:
    left = hearthgate(*arguments)
    assert left.returncode == 2
    assert "Traceback" not in left.stderr


def test_the_home_may_be_named_before_the_noun_or_after_the_verb(hearthgate: Run) -> None:
    for arguments in (("--home", "/absent", "plugin", "list"), ("plugin", "list", "--home", "/absent")):
        left = hearthgate(*arguments)
        assert left.returncode == 2
        assert "`/absent` is not a home" in left.stderr


@pytest.mark.parametrize("debug", [False, True])
def test_what_nobody_foresaw_is_one_sentence_and_a_traceback_only_when_asked_for(*, debug: bool) -> None:
    code = (
        "import sys, gateway.cli, gateway.registry.manifest_schema as manifest\n"
        "manifest.manifest_schema = lambda: 1 / 0\n"
        "sys.argv = ['hearthgate', 'schema', 'manifest']\n"
        "gateway.cli.main()"
    )
    left = subprocess.run(
        [sys.executable, "-c", code],
        env={"HEARTHGATE_DEBUG": "1"} if debug else {},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert left.returncode == 1
    assert ("Traceback" in left.stderr) is debug
    assert debug or left.stderr.startswith("hearthgate: something unforeseen went wrong (ZeroDivisionError)")


def test_completion_knows_the_nouns(hearthgate: Run) -> None:
    told = hearthgate(_HEARTHGATE_COMPLETE="complete_bash", COMP_WORDS="hearthgate po", COMP_CWORD="1")
    assert told.stdout.split() == ["policy"]
