"""`policy check` and `policy test` need nothing but a folder."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

STARTER = Path(__file__).parents[2] / "policies"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    folder = tmp_path / "policies"
    shutil.copytree(STARTER, folder)
    return folder


def test_the_starter_policy_has_no_errors_and_passes_its_own_cases(hearthgate: Run, policies: Path) -> None:
    for word in ("check", "test"):
        left = hearthgate("policy", word, policies)
        assert left.returncode == 0, left.stdout + left.stderr
        assert left.stdout == ""
    assert "0 failed" in left.stderr


def test_the_home_is_checked_when_no_folder_is_named(hearthgate: Run, policies: Path) -> None:
    assert hearthgate("policy", "check", "--home", policies.parent).returncode == 0


def test_every_problem_is_named_with_its_place_and_exit_1(hearthgate: Run, policies: Path) -> None:
    (policies / "rules" / "90-mine.csv").write_text("p, a, plugin:stranger, vault, raed, n/*, -, allow, w\np, b\n")
    left = hearthgate("policy", "check", policies)
    assert left.returncode == 1
    places = [line.rsplit(": ")[0] for line in left.stdout.splitlines()]
    assert any(place.startswith("rules/90-mine.csv:1") for place in places), left.stdout
    assert any(place.startswith("rules/90-mine.csv:2") for place in places), left.stdout
    told = json.loads(hearthgate("policy", "check", policies, "--json").stdout)
    assert not told["ok"]
    assert {problem["line"] for problem in told["problems"]} == {1, 2}


def test_a_failing_case_exits_4_and_is_named(hearthgate: Run, policies: Path) -> None:
    (policies / "tests").mkdir(exist_ok=True)
    (policies / "tests" / "mine.toml").write_text(
        '[[case]]\nname = "strangers may do anything"\n'
        'ask = { subject = "plugin:stranger", kind = "vault", level = "read", scope = "a" }\nwant = "allow"\n'
    )
    left = hearthgate("policy", "test", policies)
    assert left.returncode == 4
    assert "tests/mine.toml:1: strangers may do anything: wanted allow, got deny" in left.stdout
    told = json.loads(hearthgate("--json", "policy", "test", policies).stdout)
    assert [case["passed"] for case in told["cases"] if case["file"] == "tests/mine.toml"] == [False]


def test_rules_that_no_case_exercises_are_named_and_a_report_is_written(
    hearthgate: Run, policies: Path, tmp_path: Path
) -> None:
    (policies / "rules" / "90-mine.csv").write_text("p, idle, plugin:notes, vault, read, a, -, allow, why\n")
    (policies / "tests" / "mine.toml").write_text(
        '[[case]]\nname = "<odd> & \\u0007"\n'
        'ask = { subject = "plugin:stranger", kind = "vault", level = "read", scope = "a" }\nwant = "allow"\n'
    )
    left = hearthgate("policy", "test", policies, "--junit", tmp_path / "report.xml")
    assert left.returncode == 4
    assert "rules/90-mine.csv:1: no case exercises `idle`" in left.stderr
    told = json.loads(hearthgate("policy", "test", policies, "--json").stdout)
    assert {"id": "idle", "file": "rules/90-mine.csv", "line": 1} in told["unexercised"]
    report = ET.fromstring((tmp_path / "report.xml").read_text())  # noqa: S314 (written a moment ago)
    assert report.get("failures") == "1"
    (failed,) = [case for case in report.iter("testcase") if case.find("failure") is not None]
    assert (failed.get("name"), failed.get("file")) == ("<odd> & \\x07", "tests/mine.toml")


def test_cases_are_not_judged_by_files_with_errors(hearthgate: Run, policies: Path) -> None:
    (policies / "rules" / "90-mine.csv").write_text("p, b\n")
    left = hearthgate("policy", "test", policies)
    assert left.returncode == 1
    assert "rules/90-mine.csv:1" in left.stderr


def test_a_folder_that_is_not_there_is_an_error(hearthgate: Run, tmp_path: Path) -> None:
    left = hearthgate("policy", "check", tmp_path / "absent")
    assert left.returncode == 1
    assert "Traceback" not in left.stderr
    assert left.stderr.startswith("hearthgate: ")


WRONG = {  # what is given: how it exits, and what it says
    "check {home}": (2, "is a home, and no policies folder: name "),
    "diff {home}": (2, "is a home, and no policies folder: name "),
    "impact {file}": (1, "Not a directory"),
    "diff {absent}": (1, "no such folder"),
    "fmt {absent}": (1, "no such folder"),
    "test {policies} --junit {absent}/report.xml": (2, "cannot be written: No such file or directory"),
    "test {policies} --junit {home}": (1, "could not be written: Is a directory"),
    "explain nonsense": (1, "there is no decision `nonsense`: `hearthgate audit search` finds them"),
    "explain a/b": (1, "there is no decision `a/b`"),
    "explain 019a0000-0000-7000-8000-000000000000": (1, "there is no decision `019a0000"),
    "suggest audit-019a0000-0000-7000-8000-000000000000": (1, "there is no decision `019a0000"),
    "explain --subject plugin:notes": (2, "nothing to explain: name a decision, or --subject"),
    "rollback 99999999999999999999": (1, "there was no generation 99999999999999999999"),
    "selfcheck --requests 99999999999": (2, "less than or equal to"),
    "add nonsense": (1, "nothing was written"),
}


@pytest.mark.parametrize("given", WRONG)
def test_what_cannot_be_done_says_what_and_how(hearthgate: Run, policies: Path, given: str) -> None:
    file = policies / "model.conf"
    places = {"home": policies.parent, "policies": policies, "file": file, "absent": policies / "absent"}
    left = hearthgate("policy", *given.format(**places).split(" "), "--home", policies.parent)
    status, words = WRONG[given]
    assert (left.returncode, left.stdout) == (status, "")
    assert words in left.stderr
    assert "unforeseen" not in left.stderr
