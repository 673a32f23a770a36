"""Policy files: an edit takes effect by itself, a bad one never does, and a start finds what was in force."""

import asyncio
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gateway.registry.memory import Memory

if TYPE_CHECKING:
    from tests.conftest import Home, MakeHome

ALLOW = "p, may, plugin:puppet, vault, read, notes/*, -, allow, x\n"
ASK = {"subject": "plugin:puppet", "permission": "vault_read", "scope": "notes/a", "dry_run": True}


def reason(home: "Home") -> str:
    told: str = home.owner.post("/v1/decisions", ASK).json()["reason"]
    return told


def test_an_edit_takes_effect_by_itself_and_so_does_its_removal(home: "Home") -> None:
    home.install("puppet")
    assert reason(home) == "no_rule"
    home.write_rules(ALLOW)
    home.until(lambda: reason(home) == "rule")
    (home.folder / "policies" / "rules" / "90-test.csv").unlink()
    home.until(lambda: reason(home) == "no_rule")


def test_deleting_a_grants_line_takes_the_right_away(home: "Home") -> None:
    home.install("puppet", wants=("vault_read notes",))
    assert reason(home) == "rule"
    grants = home.folder / "policies" / "grants.csv"
    grants.write_text("".join(line for line in home.grants.splitlines(keepends=True) if "vault" not in line))
    home.until(lambda: reason(home) == "no_rule")


def test_a_broken_file_keeps_the_last_good_and_is_named_once(home: "Home") -> None:
    home.install("puppet")
    home.rules(ALLOW)
    before = home.owner.get("/v1/policy").json()
    home.write_rules(ALLOW + "p, worse, plugin:puppet, vault, raed, notes/*, -, Allow, x\n")
    home.until(lambda: home.owner.get("/v1/policy").json()["problems"])
    for _ in range(3):
        home.reload()
    status = home.owner.get("/v1/policy").json()
    assert (status["version"], status["generation"]) == (before["version"], before["generation"])
    assert {(each["file"], each["line"]) for each in status["problems"]} == {("rules/90-test.csv", 2)}
    assert len(status["problems"]) >= 2
    assert reason(home) == "rule"
    (told,) = home.records(event_type="policy_rejected")
    assert told["details"]["kept_generation"] == before["generation"]
    home.write_rules(ALLOW.replace("notes", "other"))
    home.until(lambda: reason(home) == "no_rule")
    after = home.owner.get("/v1/policy").json()
    assert after["problems"] == []
    assert after["generation"] > before["generation"]


async def _release(lock: asyncio.Lock) -> None:
    lock.release()


@pytest.mark.parametrize("trick", ["a failing case", "open file", "open folder", "link out", "empty", "gone", "binary"])
def test_a_folder_that_cannot_be_believed_changes_nothing(home: "Home", trick: str, tmp_path: Path) -> None:
    home.install("puppet")
    home.rules(ALLOW)
    generation = home.owner.get("/v1/policy").json()["generation"]
    policies = home.folder / "policies"
    # The watch may look at any moment; it must not see the first half of the edit alone.
    home.do(home.parts.editing.acquire())
    home.write_rules("# nothing\n")
    match trick:
        case "a failing case":
            home.write_rules("p, lenient, group:plugins, file, read, /etc/*, -, allow, x\n")
            (policies / "rules" / "10-guardrails.csv").unlink()
        case "open file":
            (policies / "rules" / "90-test.csv").chmod(0o666)
        case "open folder":
            policies.chmod(0o777)
        case "link out":
            (tmp_path / "x.csv").write_text("")
            (policies / "rules" / "99.csv").symlink_to(tmp_path / "x.csv")
        case "empty":
            for path in (policies / "rules").iterdir():
                path.unlink()
        case "gone":
            policies.rename(home.folder / "away")
        case "binary":
            (policies / "roles.csv").write_bytes(b"\xff\x00\x01")
    home.start(_release(home.parts.editing)).result()
    assert home.reload().activated is False
    assert reason(home) == "rule"
    assert home.owner.get("/v1/policy").json()["generation"] == generation
    assert home.owner.get("/v1/policy").json()["problems"]


def test_a_start_with_the_same_files_keeps_the_generation(home: "Home") -> None:
    home.install("puppet")
    home.rules(ALLOW)
    before = home.owner.get("/v1/policy").json()
    activated = len(home.records(event_type="policy_activated"))
    home.reopen()
    after = home.owner.get("/v1/policy").json()
    assert (after["version"], after["generation"]) == (before["version"], before["generation"])
    assert len(home.records(event_type="policy_activated")) == activated
    home.close()
    home.write_rules("# changed while it was down\n")
    home.open()
    assert home.owner.get("/v1/policy").json()["generation"] > before["generation"]
    assert reason(home) == "no_rule"


def test_generations_only_grow(home: "Home") -> None:
    memory: Memory = home.parts.registry.memory
    seen = [memory.next_generation() for _ in range(3)]
    home.reopen()
    seen += [home.parts.registry.memory.next_generation() for _ in range(3)]
    assert seen == sorted(set(seen))


def test_broken_at_the_first_start_denies_everything_and_recovers_by_an_edit(make_home: "MakeHome") -> None:
    home = make_home(rules="p, broken\n")
    status = home.owner.get("/v1/policy")
    assert status.status_code == 200  # the owner can always see why
    assert status.json()["in_force"] is False
    assert status.json()["problems"]
    refused = home.owner.get("/v1/plugins")
    assert (refused.status_code, refused.json()["reason"]) == (403, "no_policy")
    assert home.owner.get("/readyz").status_code == 503
    home.write_rules("# mended\n")
    home.until(lambda: home.owner.get("/v1/plugins").status_code == 200)
    assert home.owner.get("/v1/policy").json()["problems"] == []


def test_broken_at_a_later_start_keeps_the_last_good_set_and_denies_everything_without_one(home: "Home") -> None:
    home.install("puppet")
    home.close()
    home.write_rules("p, broken\n")
    home.open()
    assert home.owner.begin("puppet").result(20).status_code == 200
    home.close()
    shutil.rmtree(home.folder / "data" / "policy")
    home.open()
    refused = home.owner.begin("puppet").result(20)
    assert (refused.status_code, refused.json()["reason"]) == (403, "no_policy")


def test_an_edit_while_an_approval_is_under_way_wins_and_nothing_is_lost(home: "Home") -> None:
    home.register("puppet", requested_permissions=[{"permission": "vault_read", "scope": "notes"}])
    append = home.parts.log.append
    grants = home.folder / "policies" / "grants.csv"
    edited = home.grants + "# a person's own words\n"

    async def editing(*records: object, **how: bool) -> tuple[int, ...]:
        if any(each.event_type == "approved" for each in records):  # type: ignore[attr-defined] # Records
            grants.write_text(edited)
        return await append(*records, **how)  # type: ignore[arg-type] # same

    home.parts.log.append = editing  # type: ignore[method-assign] # the moment that a race would need
    answer = home.owner.post("/v1/plugins/puppet/approve", {"reason": ""})
    assert answer.status_code == 409
    assert home.grants == edited
    assert home.state("puppet") == "registered"
    assert reason(home) == "inactive"
    home.parts.log.append = append  # type: ignore[method-assign] # as it was
    assert len(home.owner.get("/v1/permission-requests", status="pending").json()["requests"]) == 1
    assert home.owner.post("/v1/plugins/puppet/approve", {"reason": ""}).status_code == 200
    assert "a person's own words" in home.grants
    assert reason(home) == "rule"
    numbers = [line.split(",")[1].strip() for line in home.grants.splitlines() if line.startswith("p,")]
    assert len(set(numbers)) == len(numbers)


def test_giving_needs_a_clean_folder(home: "Home") -> None:
    home.register("puppet")
    home.write_rules("p, broken\n")
    answer = home.owner.post("/v1/plugins/puppet/approve", {"reason": ""})
    assert answer.status_code == 409
    assert answer.json()["type"] == "urn:hearthgate:problem:policy_broken"
    assert [(each["file"], each["line"]) for each in answer.json()["problems"]] == [("rules/90-test.csv", 1)]
    assert home.state("puppet") == "registered"


def test_an_approval_that_would_fail_a_case_is_refused(home: "Home") -> None:
    cases = home.folder / "policies" / "tests" / "mine.toml"
    cases.write_text(
        '[[case]]\nname = "puppet never reads the diary"\nwith_grants = true\n'
        'ask = { subject = "plugin:puppet", kind = "vault", level = "read", scope = "diary" }\nwant = "deny"\n'
    )
    assert home.reload().problems == ()
    home.register("puppet", requested_permissions=[{"permission": "vault_read", "scope": "diary"}])
    answer = home.owner.post("/v1/plugins/puppet/approve", {"reason": ""})
    assert answer.status_code == 409
    assert "never reads the diary" in answer.text
    assert "diary" not in home.grants


def test_a_grant_that_raises_a_tier_is_judged_by_the_cases_that_the_tier_decides(home: "Home") -> None:
    home.write_rules(
        "p, all, plugin:puppet, core, read, status, -, allow, x\n"
        + "".join(f"p, not-{tier}, tier:{tier}, core, read, status, -, deny, x\n" for tier in ("high", "critical"))
    )
    cases = home.folder / "policies" / "tests" / "mine.toml"
    cases.write_text(
        '[[case]]\nname = "puppet reads the status"\n'
        'ask = { subject = "plugin:puppet", kind = "core", level = "read", scope = "status" }\nwant = "allow"\n'
    )
    assert home.reload().problems == ()
    home.install("puppet", wants=("vault_read notes",))
    before = home.grants
    wanted = [{"permission": "vault_write", "scope": "notes"}, {"permission": "file_write", "scope": "/srv"}]
    asked = home.owner.post("/v1/permission-requests", {"plugin_id": "puppet", "permissions": wanted}).json()
    request = asked.get("request_id", asked.get("id"))
    answer = home.owner.post(f"/v1/permission-requests/{request}/approve", {"reason": ""})
    assert answer.status_code == 409, answer.text
    assert "puppet reads the status" in answer.text
    assert home.grants == before


def test_an_edit_made_while_the_log_is_away_comes_into_force_when_it_is_back(
    home: "Home", caplog: pytest.LogCaptureFixture
) -> None:
    home.install("puppet")
    home.rules(ALLOW)
    database = home.folder / "data" / "audit.db"
    database.rename(database.with_name("away.db"))
    home.until(lambda: not home.parts.log.healthy)
    home.write_rules("# taken away\n")
    home.until(lambda: "an edit of the policy files" in caplog.text)
    database.with_name("away.db").rename(database)
    home.until(lambda: home.parts.log.healthy)
    home.until(lambda: reason(home) == "no_rule")
