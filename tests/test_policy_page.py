"""The page a person edits from says what is true: its examples are run."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from gateway.app import init_home
from gateway.cli.policy import app
from gateway.policy.cases import run_cases
from gateway.policy.engine import build_policy_set
from gateway.policy.parse import parse_policy
from gateway.policy.reach import check_reach
from gateway.policy.text import PolicyText
from gateway.policy_files import read_policy_folder, starter_folder

PAGE = (Path(__file__).parents[1] / "docs" / "policy-files.md").read_text()
BLOCKS = [(found[1], found[2]) for found in re.finditer(r"```(?:csv|toml|text) ?(\S*)\n(.*?)```", PAGE, re.DOTALL)]
FILES = {name: text for name, text in BLOCKS if "." in name}
HERE = "rules/90-house.csv"


def with_files(files: dict[str, str]) -> PolicyText:
    text = read_policy_folder(starter_folder())
    for name, content in files.items():
        text = text.with_file(name, content.encode())
    return text


def test_the_examples_are_a_good_policy_that_passes_its_cases() -> None:
    assert set(FILES) == {HERE, "conditions.toml", "roles.csv", "tests/house.toml"}
    parsed = parse_policy(with_files(FILES))
    assert [str(problem) for problem in parsed.problems] == []
    results = run_cases(build_policy_set(parsed, memberships={}, generation=1))
    assert [result for result in results if not result.passed] == []


def test_the_own_model_of_the_page_is_one() -> None:
    (own,) = re.findall(r"```ini own-model\n(.*?)```", PAGE, re.DOTALL)
    shipped = read_policy_folder(starter_folder()).files["model.conf"].decode()
    model = shipped[: shipped.index("[policy_effect]")] + own
    parsed = parse_policy(with_files({"model.conf": model}), model=None)
    assert (parsed.errors, parsed.model.is_shipped) == ((), False)


def test_every_term_of_the_table_is_one() -> None:
    table = PAGE[PAGE.index("| term |") : PAGE.index("What cannot be told")]
    terms = [term for row in table.splitlines()[2:] for term in re.findall(r"`([^`]+)`", row.split(" | ")[0])]
    assert len(terms) == 9
    lines = [f"p, t{n}, plugin:notes, vault, read, t{n}, {term}, allow, why" for n, term in enumerate(terms)]
    assert parse_policy(with_files({HERE: "\n".join(lines)})).problems == ()


def test_the_errors_are_told_as_the_page_shows_them() -> None:
    wrong = next(text for name, text in BLOCKS if name == "wrong")
    shown = next(text for name, text in BLOCKS if name == "").splitlines()
    problems = parse_policy(with_files({HERE: wrong})).problems
    assert [str(problem) for problem in problems] == shown


def test_the_warnings_are_told_as_the_page_shows_them() -> None:
    rules, shown = (text for name, text in BLOCKS if name == "vain")
    parsed = parse_policy(with_files({HERE: rules}))
    assert [str(problem) for problem in (*parsed.problems, *check_reach(parsed))] == shown.splitlines()


def test_every_command_of_the_page_does_what_it_says(tmp_path: Path) -> None:
    home = tmp_path / "home"
    init_home(home)
    for name, text in FILES.items():
        (home / "policies" / name).write_text(text)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HEARTHGATE_")}
    clean["PATH"] = f"{Path(sys.executable).parent}:{clean['PATH']}"
    blocks = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    commands = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    assert len(commands) == 10
    for command in commands:
        done = subprocess.run(
            shlex.split(command), cwd=home, env=clean, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    assert not (home / "policies" / "rules" / "90-added.csv").exists()


def test_every_verb_of_the_page_is_one() -> None:
    table = PAGE[PAGE.index("| `hearthgate policy` |") : PAGE.index("The gateway keeps every set")]
    verbs = {words.split()[0] for row in table.splitlines()[2:] for words in re.findall(r"^\| `([^`]+)`", row)}
    known = {command.name for command in app.registered_commands}
    assert verbs == known
