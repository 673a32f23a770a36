"""Edits of real files take effect while the gateway runs, however they are made; bad ones never do."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from gateway.domain.decision import Decision
from gateway.domain.names import Subject
from gateway.domain.request import AccessRequest
from gateway.flows.decide import decide
from gateway.flows.reload_policy import reload_policy
from gateway.policy_files import finish_edit, read_policy_folder

Home = Any  # what conftest.py gives
MakeHome = Any
EDITS = 50
RATE = 2_000  # questions a second
LEAST_ASKED = 2_000


def line(name: str, scope: str = "a") -> str:
    return f"p, {name}, user:zoe, vault, read, {scope}, -, allow, {name}\n"


def rule_now(home: Home, scope: str = "a") -> str | None:
    request = AccessRequest(subject=Subject("user:zoe"), user=None, kind="vault", level="read", scope=scope)
    rule = decide(home.parts, request).verdict.rule
    return None if rule is None else rule.id


def comes(home: Home, rule: str | None) -> None:
    home.until(lambda: rule_now(home) == rule)


def policies(home: Home) -> Path:
    folder: Path = home.folder / "policies"
    return folder


def rename_over(path: Path, text: str) -> None:
    fresh = path.with_name(f"{path.name}.tmp")
    fresh.write_text(text)
    fresh.replace(path)


def test_adds_edits_renames_and_deletions_take_effect(home: Home) -> None:
    file = policies(home) / "rules" / "95-here.csv"
    file.write_text(line("added"))
    comes(home, "added")
    file.write_text(line("edited"))
    comes(home, "edited")
    rename_over(file, line("renamed-over"))
    comes(home, "renamed-over")
    file.rename(file.with_name("96-there.csv"))
    home.until(lambda: home.parts.policy.get().rules[-1].file == "rules/96-there.csv")
    (policies(home) / "rules" / "96-there.csv").unlink()
    comes(home, None)


def test_a_half_written_file_never_takes_effect(make_home: MakeHome) -> None:
    home = make_home(rules=line("old"))
    file = policies(home) / "rules" / "90-test.csv"
    with file.open("a") as writing:
        writing.write("p, half, user:zoe, vault, re")
        writing.flush()
        home.until(lambda: home.parts.policy.problems)
        assert rule_now(home) == "old"
        writing.write("ad, b, -, allow, the rest\n")
    home.until(lambda: rule_now(home, "b") == "half")
    assert home.parts.policy.problems == ()


def test_lost_rules_keep_the_last_good_set(make_home: MakeHome) -> None:
    home = make_home(rules=line("old"))
    rules = policies(home) / "rules"
    shutil.move(rules, home.folder / "kept")
    home.until(lambda: home.parts.policy.problems)
    assert rule_now(home) == "old"
    assert home.owner.get("/v1/policy").json()["last_good"] is True
    shutil.move(home.folder / "kept", rules)
    home.until(lambda: not home.parts.policy.problems)
    assert rule_now(home) == "old"


def test_a_folder_that_is_replaced_is_read_anew_and_watched_on(make_home: MakeHome) -> None:
    home = make_home(rules=line("old"))
    other = home.folder / "other"
    shutil.copytree(policies(home), other)
    (other / "rules" / "90-test.csv").write_text(line("new"))
    policies(home).rename(home.folder / "before")
    other.rename(policies(home))
    comes(home, "new")
    (policies(home) / "rules" / "90-test.csv").write_text(line("newer"))
    comes(home, "newer")


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_checkout_takes_effect_as_a_whole(make_home: MakeHome) -> None:
    home = make_home(rules=line("old"))

    def git(*arguments: str) -> None:
        names = ("-c", "user.name=Eve", "-c", "user.email=eve@example.com", "-c", "init.defaultBranch=main")
        subprocess.run(["git", "-C", policies(home), *names, *arguments], check=True, capture_output=True)

    for step in (("init",), ("add", "."), ("commit", "-m", "old"), ("checkout", "-b", "other")):
        git(*step)
    (policies(home) / "rules" / "90-test.csv").unlink()
    (policies(home) / "rules" / "91-other.csv").write_text(line("other"))
    git("add", ".")
    git("commit", "-m", "other")
    comes(home, "other")
    git("checkout", "main")
    comes(home, "old")
    assert [rule.file for rule in home.parts.policy.get().rules if rule.id in {"old", "other"}] == ["rules/90-test.csv"]


def configmap(folder: Path, version: str, rule: str) -> None:
    """Write a version as Kubernetes does: files in `..<version>`, and `..data` swapped to it."""
    inside = folder / f"..{version}"
    shutil.copytree(folder / "..data" / ".", inside, symlinks=False)
    (inside / "rules" / "90-test.csv").write_text(line(rule))
    fresh = folder / "..data_tmp"
    fresh.symlink_to(inside.name)
    old = (folder / "..data").resolve()
    os.replace(fresh, folder / "..data")  # noqa: PTH105 (a symlink is replaced, not followed)
    shutil.rmtree(old)


def as_configmap(folder: Path) -> None:
    """Turn a folder into what Kubernetes mounts: every name a link through `..data`."""
    inside = folder / "..first"
    inside.mkdir()
    for path in [path for path in folder.iterdir() if path != inside]:
        path.rename(inside / path.name)
        path.symlink_to(Path("..data", path.name))
    (folder / "..data").symlink_to(inside.name)


def test_a_symlink_swap_takes_effect(make_home: MakeHome) -> None:
    home = make_home(rules=line("old"), opened=False)
    as_configmap(policies(home))
    home.open()
    assert rule_now(home) == "old"
    for n in range(3):
        configmap(policies(home), f"v{n}", f"new{n}")
        comes(home, f"new{n}")
    assert home.parts.policy.problems == ()


def test_a_folder_that_is_itself_a_link_can_be_swapped(make_home: MakeHome) -> None:
    home = make_home(rules=line("old"), opened=False)
    for name in ("one", "two"):
        shutil.copytree(policies(home), home.folder / name)
    (home.folder / "two" / "rules" / "90-test.csv").write_text(line("new"))
    shutil.rmtree(policies(home))
    policies(home).symlink_to("one")
    home.open()
    assert rule_now(home) == "old"
    fresh = home.folder / "fresh"
    fresh.symlink_to("two")
    os.replace(fresh, policies(home))  # noqa: PTH105 (same)
    comes(home, "new")


def test_a_half_made_edit_of_several_files_never_takes_effect(make_home: MakeHome) -> None:
    home = make_home(rules=line("old"))
    before = read_policy_folder(policies(home))
    after = before.with_file("rules/90-test.csv", line("new").encode()).with_file("rules/91-more.csv", b"# more\n")
    hidden = policies(home) / ".rules-91-more.csv.edit"
    hidden.write_bytes(b"# more\n")
    digests = {name: after.digest(name).hex() for name in ("rules/90-test.csv", "rules/91-more.csv")}
    (policies(home) / ".edit").write_text(json.dumps(digests))
    rename_over(policies(home) / "rules" / "90-test.csv", line("new"))
    home.until(lambda: home.parts.policy.problems)
    assert "broken off half-way" in home.parts.policy.problems[0].message
    assert rule_now(home) == "old"
    home.reopen()
    assert rule_now(home) == "old"
    assert finish_edit(policies(home))
    comes(home, "new")
    home.until(lambda: home.parts.policy.get().version == after.version)


def test_under_load_every_answer_is_one_that_the_old_or_the_new_policy_gives(
    make_home: MakeHome, record_testsuite_property: Callable[[str, object], None]
) -> None:
    home = make_home(rules=line("v0") + line("w0", "b"))
    file = policies(home) / "rules" / "90-test.csv"
    asked = [
        AccessRequest(subject=Subject("user:zoe"), user=None, kind="vault", level="read", scope=scope)
        for scope in ("a", "b", "c")
    ]
    written = in_force = 0
    done = Event()

    def ask() -> list[tuple[int, int, int, int, Decision]]:
        """Ask 2,000 times a second until all edits are done, and what is behind that at once."""
        answers = []
        due = begun = time.monotonic()
        for n in count():
            due += 1 / RATE
            if (early := due - time.monotonic()) > 0:
                time.sleep(early)
            least = in_force
            decision = decide(home.parts, asked[n % 3])
            answers.append((n, n % 3, least, written, decision))
            if done.is_set() and n >= LEAST_ASKED:
                # WHY: told, not asserted: one that falls behind puts fewer questions to each edit.
                rate = len(answers) / (time.monotonic() - begun)
                record_testsuite_property("questions a second, of 2,000 wanted", round(rate))
                return answers
        raise AssertionError

    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(ask)
        try:
            for edit in range(1, EDITS + 1):
                written = edit
                rename_over(file, line(f"v{edit}") + line(f"w{edit}", "b"))
                assert home.do(reload_policy(home.parts, by="test", why="test")).problems == ()
                in_force = edit
        finally:
            done.set()
        answers = asking.result()
    assert [n for n, *_ in answers] == [*range(len(answers))]
    seen: dict[int, set[int]] = {}
    for _, which, least, most, decision in answers:
        rule = decision.verdict.rule
        assert decision.allowed is (which != 2)
        assert (rule is None) is (which == 2)
        if rule is not None:
            assert rule.id[0] == "vw"[which]
            assert least <= int(rule.id[1:]) <= most
            seen.setdefault(decision.generation, set()).add(int(rule.id[1:]))
    generations = [decision.generation for *_, decision in answers]
    assert generations == sorted(generations)
    assert all(len(versions) == 1 for versions in seen.values())
    assert len(seen) > EDITS // 2
