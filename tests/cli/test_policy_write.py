"""The verbs that write policy files, as people run them."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]
RULE = "mine, plugin:notes, vault, read, notes/*, -, allow, my notes"


@pytest.fixture
def home(hearthgate: Run, tmp_path: Path) -> Path:
    assert hearthgate("init", "house").returncode == 0
    return tmp_path / "house"


def test_a_rule_is_checked_shown_written_and_in_force(hearthgate: Run, home: Path) -> None:
    file = home / "policies" / "rules" / "90-added.csv"
    shown = hearthgate("policy", "add", RULE, "--dry-run", "--home", home)
    assert (shown.returncode, file.exists()) == (0, False), shown.stderr
    assert f"+p, {RULE}" in shown.stdout
    done = hearthgate("policy", "add", RULE, "--home", home, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["written"] is True
    assert file.read_text() == f"p, {RULE}\n"
    wrong = hearthgate("policy", "add", RULE.replace("read", "raed").replace("mine", "b"), "--home", home)
    assert wrong.returncode == 1
    assert "rules/90-added.csv:2: level 'raed': did you mean `read`?" in wrong.stderr
    failing = hearthgate("policy", "add", "x, group:plugins, file, read, /etc/*, -, allow, all", "--home", home)
    assert failing.returncode in {0, 4}
    assert file.read_text().count("\n") in {1, 2}


def test_a_case_that_fails_keeps_a_rule_out(hearthgate: Run, home: Path) -> None:
    left = hearthgate("policy", "add", "x, role:member, gateway, admin, *, -, allow, all", "--home", home)
    assert left.returncode == 4, left.stderr
    assert not (home / "policies" / "rules" / "90-added.csv").exists()
    assert "nothing was written" in left.stderr


def test_going_back_restores_what_people_wrote_and_never_grants(hearthgate: Run, home: Path) -> None:
    assert hearthgate("policy", "add", RULE, "--home", home).returncode == 0
    log = json.loads(hearthgate("policy", "log", "--home", home, "--json").stdout)["generations"]
    first = log[-1]["generation"]
    assert "+p, mine" in log[0]["difference"]
    grants = (home / "policies" / "grants.csv").read_bytes()
    left = hearthgate("policy", "rollback", first, "--home", home, "--reason", "never mind")
    assert left.returncode == 0, left.stderr
    assert "-p, mine" in left.stdout
    assert not (home / "policies" / "rules" / "90-added.csv").exists()
    assert (home / "policies" / "grants.csv").read_bytes() == grants
    again = json.loads(hearthgate("policy", "log", "--home", home, "--json").stdout)["generations"]
    assert (again[0]["version"], again[0]["why"]) == (log[-1]["version"], f"rollback to generation {first}: never mind")
    assert again[0]["generation"] > log[0]["generation"]


def test_fmt_aligns_and_shows_what_it_did(hearthgate: Run, home: Path) -> None:
    file = home / "policies" / "rules" / "90-mine.csv"
    file.write_text(
        "# mine\np,a,plugin:notes,vault,read,x,-,allow,why\np, bcd, user:alice, vault, read, x, -, allow, why\n"
    )
    assert hearthgate("policy", "fmt", "--check", "--home", home).returncode == 1
    left = hearthgate("policy", "fmt", home / "policies")
    assert left.returncode == 0, left.stderr
    assert "+p, a,   plugin:notes, vault, read, x, -, allow, why" in left.stdout
    assert file.read_text().startswith("# mine\np, a,   plugin:notes,")
    assert hearthgate("policy", "fmt", "--check", "--home", home).returncode == 0


def test_diff_is_empty_for_the_same_and_exits_4_for_another(hearthgate: Run, home: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert hearthgate("init", other).returncode == 0
    same = hearthgate("policy", "diff", other / "policies", "--home", home, "--json")
    assert (same.returncode, json.loads(same.stdout)["differences"]) == (0, []), same.stderr
    (other / "policies" / "rules" / "90-x.csv").write_text(f"p, {RULE}\n")
    left = hearthgate("policy", "diff", other / "policies", "--home", home, "--json")
    assert left.returncode == 4
    assert {each["scope"] for each in json.loads(left.stdout)["differences"]} == {"notes", "notes/…"}


def test_diff_says_that_it_does_not_go_by_a_model_of_ones_own(hearthgate: Run, home: Path, tmp_path: Path) -> None:
    (home / "hearthgate.toml").write_text("[policy]\ncustom_model = true\n")
    other = tmp_path / "other"
    shutil.copytree(home / "policies", other)
    model = (other / "model.conf").read_text()
    (other / "model.conf").write_text(model.replace("m = ", 'm = r.kind != "core" && '))
    left = hearthgate("policy", "diff", other, "--home", home)
    assert left.returncode == 4
    assert "model.conf says something else" in left.stderr
    assert "by what rules mean under the shipped one" in left.stderr


def test_explain_takes_a_decision_or_a_question(hearthgate: Run, home: Path) -> None:
    question = ("--subject", "plugin:notes", "--permission", "vault_read", "--scope", "a")
    asked = hearthgate("policy", "explain", *question, "--home", home, "--json")
    assert asked.returncode == 0, asked.stderr
    assert json.loads(asked.stdout)["decision"]["reason"] == "no_rule"
    assert hearthgate("policy", "explain", "--home", home).returncode == 2
