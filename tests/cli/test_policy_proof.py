"""`policy selfcheck` and `policy bench` speak of the user's own policy."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

STARTER = Path(__file__).parents[2] / "policies"

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_the_starter_policy_answers_as_stock_casbin_does(hearthgate: Run) -> None:
    left = hearthgate("policy", "selfcheck", STARTER, "--requests", "100")
    assert (left.returncode, left.stdout) == (0, ""), left.stderr
    assert "100 random and 0 recorded requests: 0 differences" in left.stderr
    told = json.loads(hearthgate("policy", "selfcheck", STARTER, "--requests", "50", "--json").stdout)
    assert (told["ok"], told["random"], told["differences"], told["fallback_reason"]) == (True, 50, [], None)


def test_a_home_is_checked_with_what_it_recorded(hearthgate: Run, tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert hearthgate("init", home).returncode == 0
    asked = ("--subject", "plugin:notes", "--permission", "vault_read", "--scope", "a")
    assert hearthgate("policy", "explain", *asked, "--home", home).returncode == 0
    left = hearthgate("policy", "selfcheck", "--requests", "20", "--home", home, "--json")
    assert left.returncode == 0, left.stderr
    told = json.loads(left.stdout)
    assert (told["ok"], told["random"]) == (True, 20)


def test_a_policy_is_measured_beside_stock_casbin(hearthgate: Run, tmp_path: Path) -> None:
    folder = tmp_path / "policies"
    shutil.copytree(STARTER, folder)
    told = json.loads(hearthgate("policy", "bench", folder, "--requests", "50", "--json").stdout)
    assert [row["what"] for row in told["figures"]] == [
        "decisions, first asked", "decisions, asked again", "stock casbin",
    ]  # fmt: skip
    assert all(row["decisions"] == 50 and row["median_us"] > 0 for row in told["figures"])
    assert "stock casbin" in hearthgate("policy", "bench", folder, "--requests", "5").stdout


def test_a_broken_policy_is_neither_checked_nor_measured(hearthgate: Run, tmp_path: Path) -> None:
    folder = tmp_path / "policies"
    shutil.copytree(STARTER, folder)
    (folder / "rules" / "90-mine.csv").write_text("nonsense\n")
    for word in ("selfcheck", "bench"):
        left = hearthgate("policy", word, folder)
        assert left.returncode == 1
        assert "rules/90-mine.csv:1" in left.stderr
