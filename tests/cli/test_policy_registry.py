"""What the registry of a home knows is part of checking and comparing its policy, with or without a gateway."""

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Home = Any  # what conftest.py gives
Run = Callable[..., subprocess.CompletedProcess[str]]
GRANT = "p, grant-{}, plugin:notes, vault, read, album, -, allow, why\n"
RULES = "p, risky, tier:high, vault, read, album, -, deny, not for a plugin of high risk\n"


@pytest.fixture
def granted(make_home: Home) -> Home:
    home = make_home(rules=RULES)
    home.install("notes", wants=("vault_read album",))
    return home


def copied(home: Home, folder: Path, **files: str) -> Path:
    shutil.copytree(home.folder / "policies", folder)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


@pytest.mark.parametrize("verb", ["check", "test", "diff", "impact"])
def test_a_grant_that_no_approval_made_is_an_error(granted: Home, hearthgate: Run, tmp_path: Path, verb: str) -> None:
    named = copied(granted, tmp_path / "same")
    assert hearthgate("policy", verb, named, "--home", granted.folder).returncode == 0
    made_up = copied(granted, tmp_path / "made-up", grants_csv=GRANT.format(7))
    for closed in (False, True):
        left = hearthgate("policy", verb, made_up, "--home", granted.folder)
        assert left.returncode == 1, closed
        assert "grants.csv:1: id 'grant-7': no approval made this grant" in left.stdout + left.stderr
        granted.close()


def test_a_grant_that_was_revoked_is_an_error(granted: Home, hearthgate: Run, tmp_path: Path) -> None:
    folder = copied(granted, tmp_path / "before")
    assert hearthgate("policy", "check", folder, "--home", granted.folder).returncode == 0
    revoked = granted.owner.post("/v1/plugins/notes/permissions/revoke", {"reason": "test"})
    assert revoked.status_code == 200, revoked.text
    left = hearthgate("policy", "check", folder, "--home", granted.folder)
    assert left.returncode == 1
    assert "this grant was revoked or has expired: delete the line" in left.stdout


def test_the_registry_is_that_of_the_home_in_which_the_folder_lies(
    granted: Home, make_home: Home, hearthgate: Run
) -> None:
    other = make_home()
    folder = granted.folder / "policies"
    assert hearthgate("policy", "check", folder, "--home", other.folder).returncode == 0
    assert hearthgate("policy", "check", folder).returncode == 0


def test_without_a_registry_grants_are_read_as_they_stand(granted: Home, hearthgate: Run, tmp_path: Path) -> None:
    assert hearthgate("policy", "check", copied(granted, tmp_path / "alone")).returncode == 0


def test_a_registry_that_cannot_be_read_is_an_error(granted: Home, hearthgate: Run, tmp_path: Path) -> None:
    folder = copied(granted, tmp_path / "home" / "policies")
    (tmp_path / "home" / "data").mkdir()
    (tmp_path / "home" / "data" / "registry.db").write_text("no database")
    left = hearthgate("policy", "check", folder)
    assert left.returncode == 1
    assert "the registry" in left.stderr
    assert "cannot be read" in left.stderr


def test_a_changed_risk_table_moves_plugins_and_what_follows_is_told(
    granted: Home, hearthgate: Run, tmp_path: Path
) -> None:
    asked = {"subject": "plugin:notes", "permission": "vault_read", "scope": "album"}
    assert granted.owner.post("/v1/decisions", asked).json()["effect"] == "allow"
    risk = (granted.folder / "policies" / "risk.toml").read_text().replace("high = 50", "high = 11", 1)
    folder = copied(granted, tmp_path / "edited", risk_toml=risk.replace("moderate = 25", "moderate = 10", 1))
    moved = [{"subject": "plugin:notes", "from": "low", "to": "high"}]
    for verb in ("diff", "impact"):
        left = hearthgate("policy", verb, folder, "--home", granted.folder)
        assert left.returncode == 4
        assert "plugin:notes: tier low -> high" in left.stdout
        told = json.loads(hearthgate("policy", verb, folder, "--home", granted.folder, "--json").stdout)
        assert told["tiers"] == moved
        if verb == "diff":
            (album,) = [each for each in told["differences"] if each["scope"] == "album"]
            assert album["subjects"] == ["plugin:notes (tier low -> high)"]
            assert (album["from"], album["to"]) == ("allow", "deny")
        else:
            assert [(flip["from"], flip["to"], flip["rule"]["id"]) for flip in told["flips"]] == [
                ("allow", "deny", "risky")
            ]


def test_a_rollback_tells_which_plugins_it_moves(granted: Home, hearthgate: Run) -> None:
    before = granted.owner.get("/v1/policy").json()["generation"]
    path = granted.folder / "policies" / "risk.toml"
    path.write_text(path.read_text().replace("moderate = 25", "moderate = 10", 1))
    granted.put_in_force()
    granted.close()
    left = hearthgate("policy", "rollback", before, "--dry-run", "--home", granted.folder)
    assert "plugin:notes: tier moderate -> low" in left.stdout, left.stderr


def test_a_bar_shows_how_far_a_replay_is_on_a_terminal_alone(granted: Home, hearthgate: Run, tmp_path: Path) -> None:
    granted.owner.post("/v1/decisions", {"subject": "plugin:notes", "permission": "vault_read", "scope": "album"})
    folder = copied(granted, tmp_path / "same")
    assert "replaying" not in hearthgate("policy", "impact", folder, "--home", granted.folder).stderr
    ours, theirs = pty.openpty()
    try:
        command = [Path(sys.executable).with_name("hearthgate"), "policy", "impact", folder, "--home", granted.folder]
        done = subprocess.run(
            [*map(str, command), "--json"],
            stdout=subprocess.PIPE,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm"},
            timeout=60,
            check=True,
        )
        shown = os.read(ours, 65536).decode()
    finally:
        os.close(theirs)
        os.close(ours)
    assert json.loads(done.stdout)["flips"] == []
    assert re.search(r"replaying .* of \d+ records", shown)
