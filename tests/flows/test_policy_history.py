"""Generations of the policy: who made them, what they changed, and the way back."""

import os
import pwd
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gateway.policy_files import read_policy_folder

Home = Any  # what conftest.py gives
MakeHome = Any
ME = pwd.getpwuid(os.getuid()).pw_name
ONE = "p, one, plugin:notes, vault, read, notes/*, -, allow, one\n"
TWO = "p, two, plugin:notes, vault, write, notes/*, -, allow, two\n"


def generations(home: Home) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = home.owner.get("/v1/policy/log").json()["generations"]
    return found


def test_a_file_edit_is_its_owners_and_a_verb_is_its_users(home: Home) -> None:
    home.write_rules(ONE)
    home.until(lambda: generations(home)[0]["why"] == "files were edited")
    latest = generations(home)[0]
    assert (latest["by"], latest["known_by"]) == (ME, "file owner")
    assert "+p, one, plugin:notes" in latest["difference"]
    home.write_rules(ONE + TWO)
    answer = home.owner.post("/v1/policy/reload", {"reason": "by hand"})
    assert answer.json()["activated"] is True
    assert [generations(home)[0][name] for name in ("by", "known_by", "why")] == [ME, "verb", "by hand"]


def test_an_announced_edit_is_its_announcers_whoever_notices_it(home: Home) -> None:
    text = read_policy_folder(home.folder / "policies").with_file("rules/90-test.csv", ONE.encode())
    home.owner.post("/v1/policy/reload", {"reason": "to come", "announce": text.version})
    home.write_rules(ONE)
    home.until(lambda: generations(home)[0]["why"] == "to come")
    assert generations(home)[0]["known_by"] == "verb"


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_checkout_is_the_authors_of_the_commit_while_the_files_are_just_that(make_home: MakeHome) -> None:
    home = make_home(rules=ONE, opened=False)
    folder = home.folder / "policies"

    def git(*arguments: str) -> None:
        names = ("-c", "user.name=Eve Example", "-c", "user.email=eve@example.com", "-c", "init.defaultBranch=main")
        subprocess.run(["git", "-C", folder, *names, *arguments], check=True, capture_output=True)

    (folder / ".gitignore").write_text("grants.csv\n")
    for step in (("init",), ("add", "."), ("commit", "-m", "one"), ("checkout", "-b", "other")):
        git(*step)
    home.write_rules(ONE + TWO)
    git("commit", "-am", "two")
    git("checkout", "main")
    home.open()
    git("checkout", "other")
    home.until(lambda: "+p, two" in (generations(home)[0]["difference"] or ""))
    assert [generations(home)[0][name] for name in ("by", "known_by")] == ["Eve Example <eve@example.com>", "git"]
    home.write_rules(TWO)
    home.until(lambda: "-p, one" in (generations(home)[0]["difference"] or ""))
    assert [generations(home)[0][name] for name in ("by", "known_by")] == [ME, "file owner"]


def test_an_earlier_generation_is_checked_with_todays_grants_and_cases(home: Home) -> None:
    home.rules(ONE)
    first = generations(home)[0]["generation"]
    home.install("notes", wants=("vault_read diary",))
    home.rules(TWO)
    found = home.owner.get(f"/v1/policy/generations/{first}").json()
    assert found["files"]["rules/90-test.csv"] == ONE
    assert found["files"]["grants.csv"] == home.grants
    assert "-p, two" in found["difference"]
    assert found["newly_allows"] == []
    assert home.owner.get("/v1/policy/generations/999").status_code == 404
    ask = 'ask = { subject = "plugin:notes", kind = "vault", level = "write", scope = "notes/a" }'
    case = f'[[case]]\nname = "two"\n{ask}\nwant = "allow"\n'
    (home.folder / "policies" / "tests" / "two.toml").write_text(case)
    home.put_in_force()
    refused = home.owner.get(f"/v1/policy/generations/{first}")
    assert refused.status_code == 409
    assert "case `two`" in refused.text


def test_what_going_back_would_newly_allow_is_told(home: Home) -> None:
    home.rules(ONE + TWO)
    wide = generations(home)[0]["generation"]
    home.rules(ONE)
    told = home.owner.get(f"/v1/policy/generations/{wide}").json()["newly_allows"]
    assert {(each["kind"], each["level"], each["scope"], each["to"]) for each in told} == {
        ("vault", "write", "notes", "allow"),
        ("vault", "write", "notes/…", "allow"),
    }


def test_there_is_no_way_back_over_an_edit_that_is_not_in_force(home: Home) -> None:
    home.rules(ONE)
    home.write_rules("broken")
    answer = home.owner.get("/v1/policy/generations/1")
    assert (answer.status_code, "changed since" in answer.text) == (409, True)


def test_a_restart_with_broken_files_keeps_the_last_good_set(make_home: MakeHome) -> None:
    home = make_home(rules=ONE)
    before = home.owner.get("/v1/policy").json()
    home.close()
    for breaking in ("nonsense", None):
        if breaking is None:
            shutil.rmtree(home.folder / "policies" / "rules")
        else:
            home.write_rules(breaking)
        home.open()
        status = home.owner.get("/v1/policy").json()
        assert (status["in_force"], status["version"], status["generation"]) == (
            True, before["version"], before["generation"],
        )  # fmt: skip
        assert status["last_good"] is True
        assert status["problems"] != []
        home.close()


def test_a_kept_set_that_was_tampered_with_never_comes_into_force(make_home: MakeHome) -> None:
    home = make_home(rules=ONE)
    home.close()
    for file in (home.folder / "data" / "policy" / "files").iterdir():
        if b"p, one" in file.read_bytes():
            file.write_bytes(file.read_bytes().replace(b"vault, read", b"vault, admi"))
    home.write_rules("nonsense")
    home.open()
    assert home.owner.get("/v1/policy").json()["in_force"] is False


def test_a_revoked_grant_does_not_come_back_with_the_last_good_set(home: Home) -> None:
    home.install("notes", wants=("vault_read diary",))
    assert "grant-" in home.grants
    home.owner.post("/v1/plugins/notes/permissions/revoke", {"reason": "enough"})
    home.write_rules("nonsense")
    home.reopen()
    asked = {"subject": "plugin:notes", "permission": "vault_read", "scope": "diary", "dry_run": True}
    assert home.owner.post("/v1/decisions", asked).json()["effect"] == "deny"


def test_sets_are_kept_once_under_the_name_of_their_content(home: Home) -> None:
    home.rules(ONE)
    home.rules(TWO)
    home.rules(ONE)
    kept = home.folder / "data" / "policy"
    assert oct(kept.stat().st_mode & 0o777) == "0o700"
    assert len(list((kept / "sets").iterdir())) == 3
    assert all(Path(file).stat().st_mode & 0o077 == 0 for file in (kept / "files").iterdir())
