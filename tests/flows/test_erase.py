"""A person is erased from a whole home: by whom, with whose consent, and so that no byte of them is left."""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gateway.audit.decisions import read_decisions
from gateway.audit.verify import verify_file

if TYPE_CHECKING:
    from tests.conftest import Home, MakeHome

USER = "rosalind-k"
SECRET = "the-blue-teapot-of-1871"  # noqa: S105 (what she keeps, no password)
ADMINS = "p, erasers, role:approver, gateway, admin, audit/erase, -, allow, approvers erase\n"


def spellings(text: str) -> set[bytes]:
    raw = text.encode()
    return {raw, text.encode("utf-16-le"), raw.hex().encode(), raw.hex().upper().encode(), base64.b64encode(raw)[:-4]}


def holders(home: "Home", *texts: str) -> list[str]:
    """Name every file of a home that holds one of the texts."""
    wanted = set().union(*map(spellings, texts))
    held = home.contents().items()
    return sorted({str(each.relative_to(home.folder)) for each, data in held for found in wanted if found in data})


def act(home: "Home") -> None:
    """Have the person use the vault through a plugin."""
    person = home.person(USER, "execute", "consent", "evaluate")
    written = person.begin("puppet", ["vault.write", f"notes/{USER}", SECRET], idempotency_key=USER).result(20)
    assert written.status_code == 200, written.text
    assert SECRET in json.dumps(person.run("puppet", ["vault.read", f"notes/{USER}"]))


@pytest.fixture
def lived(make_home: "MakeHome") -> "Home":
    """Give a home with traces of a person everywhere that a person can leave some."""
    home = make_home(rules=ADMINS + "p, members, group:users, gateway, execute, plugins/*, -, allow, people run\n")
    home.install("puppet", wants=("vault_write notes", "vault_read notes", "user_write profile"))
    act(home)
    given = {"plugin_id": "puppet", "permission": "vault_read", "scope": "notes", "purpose": f"{USER} likes {SECRET}"}
    assert home.owner.behalf(USER).post("/v1/consents", {"user_id": USER, **given}).status_code == 201
    asked = {"subject": f"user:{USER}", "permission": "vault_read", "scope": f"of/{USER}/{SECRET}", "dry_run": True}
    assert home.owner.post("/v1/decisions", asked).status_code == 200
    locked = home.owner.post("/v1/lockdown", {"scope": "plugin:other", "reason": f"{USER} said {SECRET}"})
    assert locked.status_code == 201, locked.text
    home.owner.get("/v1/audit", user=USER, q=SECRET)
    home.owner.get("/v1/audit/export", user=USER)
    assert home.owner.post("/v1/audit/rotate", {"reason": f"for {USER}"}).status_code == 200
    act(home)
    return home


def erase(home: "Home", **more: object) -> Any:  # noqa: ANN401 (httpx's answer)
    return home.owner.post("/v1/audit/erase", {"user": USER, "reason": "asked by letter", **more})


def test_nothing_of_the_person_is_left_in_any_file_and_the_acts_stay(lived: "Home") -> None:
    kept = {Path(each).name.split(".")[0] for each in holders(lived, USER, SECRET)}
    assert kept >= {"audit", "audit-000000000001", "registry"}
    assert lived.parts.resources.vault.list(USER)  # sealed, so no file shows it
    before = lived.records(user=USER)
    pseudonyms = {row["person"] for row in before if row["user_id"] == USER}
    done = erase(lived)
    assert done.status_code == 200, done.text
    body = done.json()
    assert set(body["pseudonyms"]) == pseudonyms
    assert body["records"] >= len([row for row in before if row["user_id"] == USER])
    assert (body["keys"], body["consents"], body["exports_count"]) == (1, 1, 1)
    assert holders(lived, USER, SECRET) == []
    assert lived.parts.resources.vault.list(USER) == []
    begun, ended = lived.records(event_type="redaction")
    assert (begun["resolution"], ended["resolution"], ended["ref"]) == ("pending", "completed", begun["event_id"])
    assert (ended["user_id"], ended["details"]["reason"]) == (lived.parts.owner, "asked by letter")
    assert ended["details"]["records"] == body["records"]
    kept = [row for row in lived.records() if row["person"] in pseudonyms]
    assert len(kept) >= len(pseudonyms)
    assert all(row["user_id"] is None and row["event_type"] and row["timestamp"] for row in kept)
    assert any(row["decision"] and row["decision"]["kind"] == "vault" and row["decision"]["effect"] for row in kept)
    lived.close()
    assert holders(lived, USER, SECRET) == []
    lived.open()
    assert holders(lived, USER, SECRET) == []


def test_the_log_still_verifies_and_replays_what_it_can(lived: "Home", tmp_path: Path) -> None:
    assert erase(lived).status_code == 200
    file = tmp_path / "all.jsonl"
    file.write_bytes(lived.owner.get("/v1/audit/export").content)
    result = verify_file(file, key=(lived.folder / "data" / "keys" / "log.pub").read_text())
    assert result.ok, result.findings
    assert any("lack personal values" in note for note in result.notes)
    cannot = [lost for _, _, lost in read_decisions(lived.folder / "data")]
    assert sum(cannot) >= 3


def test_the_persons_key_consents_answers_and_values_are_gone_at_once(lived: "Home") -> None:
    person = lived.person(USER, "execute", "consent", "evaluate")
    assert person.get("/v1/consents", user_id=USER).status_code == 200
    assert erase(lived).status_code == 200
    assert person.get("/v1/consents", user_id=USER).status_code == 401
    assert lived.owner.get("/v1/consents", user_id=USER).json()["consents"] == []
    assert lived.parts.resources.vault.list(USER) == []
    assert USER not in json.dumps(lived.owner.get("/v1/keys").json())


def test_who_comes_again_under_the_name_is_somebody_new(lived: "Home") -> None:
    old = {row["person"] for row in lived.records(user=USER)}
    assert erase(lived).status_code == 200
    lived._people.clear()
    lived.person(USER, "evaluate").get("/v1/consents", user_id=USER)
    new = {row["person"] for row in lived.records(user=USER) if row["user_id"] == USER}
    assert new
    assert not new & old


def test_what_runs_for_the_person_is_killed_first_and_its_end_is_nameless_too(lived: "Home") -> None:
    person = lived.person(USER, "execute", "consent", "evaluate")
    began = person.begin("puppet", ["sleep", 60], timeout_s=60)
    lived.until(lambda: lived.running("puppet"))
    assert erase(lived).status_code == 200
    assert began.result(20).json()["outcome"] == "killed"
    assert holders(lived, USER, SECRET) == []


def test_where_policy_names_the_person_it_stops_with_file_and_line_and_goes_on_if_told(make_home: "MakeHome") -> None:
    home = make_home(rules=f"p, hers, user:{USER}, gateway, read, audit, -, allow, she audits\n")
    home.person(USER, "audit")
    refused = erase(home)
    assert refused.status_code == 409
    places = [(each["file"], each["line"]) for each in refused.json()["problems"]]
    assert places[0][1] == 1
    assert places[0][0].startswith("data/policy/files/") or places[0][0] == "policies/rules/90-test.csv"
    assert ("policies/rules/90-test.csv", 1) in places
    assert home.records(event_type="redaction") == []
    done = erase(home, keep_policy=True)
    assert done.status_code == 200, done.text
    assert done.json()["keep_policy"] is True


def test_a_lockdown_of_the_person_is_not_lifted_by_erasing(lived: "Home") -> None:
    locked = lived.owner.post("/v1/lockdown", {"scope": f"user:{USER}", "reason": "misuse"}).json()
    assert f"lockdown {locked['id']}" in erase(lived).text
    assert erase(lived, keep_policy=True).status_code == 200
    lived.reopen()
    assert [each["scope"] for each in lived.owner.get("/v1/lockdown").json()["lockdowns"]][-1] == f"user:{USER}"


def test_nobody_without_the_right_erases_and_nobody_themselves(lived: "Home") -> None:
    wish = {"user": USER, "reason": "asked by letter"}
    refused = [
        lived.stranger.post("/v1/audit/erase", wish),
        lived.person(USER, "admin").post("/v1/audit/erase", wish),
        lived.person("carol", "admin").post("/v1/audit/erase", wish),
        lived.person("dave", "admin", "audit").post("/v1/audit/erase", wish),
        lived.person("bob", "audit").post("/v1/audit/erase", wish),
        lived.person("bob", "admin").post("/v1/audit/erase", {"user": "bob", "reason": "mine"}),
        lived.owner.post("/v1/audit/erase", {"user": lived.parts.owner, "reason": "mine"}),
        lived.owner.behalf(USER).post("/v1/audit/erase", wish),
    ]
    assert [each.status_code for each in refused] == [401, *[403] * 7]
    assert lived.records(event_type="redaction") == []
    assert lived.person("bob", "admin").post("/v1/audit/erase", wish).status_code == 200


def test_a_word_that_is_nobodys_name_takes_nothing_out_of_other_peoples_records(lived: "Home") -> None:
    wish = {"user": "letters-from-abroad", "reason": "tidy", "keep_policy": True}
    lived.owner.post("/v1/lockdown", {"scope": "plugin:other", "reason": "he hid letters-from-abroad"})
    assert lived.owner.post("/v1/audit/erase", wish).status_code == 404
    assert lived.person("bob", "admin").post("/v1/audit/erase", wish).status_code == 404
    (told,) = [row for row in lived.records(event_type="lockdown_on") if "letters" in str(row["details"])]
    lived.person("letters-from-abroad", "evaluate")
    done = lived.owner.post("/v1/audit/erase", wish).json()
    assert told["seq"] in done["others"], "whose record lost a value is told"
    assert told["seq"] in lived.records(event_type="redaction")[0]["details"]["others"]
    left = next(row for row in lived.records(event_type="lockdown_on") if row["seq"] == told["seq"])
    assert left["user_id"] == lived.parts.owner


@pytest.mark.parametrize(
    "wish",
    [
        {"user": "role:owner", "reason": "r"},
        {"user": "plugin:puppet", "reason": "r"},
        {"user": "", "reason": "r"},
        {"user": "a/b", "reason": "r"},
        {"user": USER, "reason": "  "},
        {"user": USER, "reason": f"because {USER} asked"},
        {"user": USER, "reason": "r", "keep_policy": "yes"},
        {"user": USER},
    ],
)
def test_what_is_no_person_or_gives_no_reason_is_refused(quiet_home: "Home", wish: dict[str, object]) -> None:
    assert quiet_home.owner.post("/v1/audit/erase", wish).status_code == 400


def test_a_second_person_confirms_where_approval_toml_says_so(lived: "Home") -> None:
    approval = lived.folder / "policies" / "approval.toml"
    approval.write_text(approval.read_text().replace("erasure = false", "erasure = true"))
    assert lived.reload().problems == ()
    wish = {"user": USER, "reason": "asked by letter"}
    bob = lived.person("bob", "admin")
    asked = bob.post("/v1/audit/erase", wish)
    assert (asked.status_code, asked.json()["status"]) == (202, "pending")
    assert bob.post("/v1/audit/erase", wish).json()["reason"] == "four_eyes"
    assert lived.records(user=USER)
    listed = lived.owner.get("/v1/audit/erase").json()["erasures"]
    assert [(each["user"], each["status"], each["requested_by"]) for each in listed] == [(USER, "pending", "bob")]
    lived.reopen()
    assert erase(lived).status_code == 200
    assert holders(lived, USER, SECRET) == []
    ended = lived.records(event_type="redaction")[-1]
    assert (ended["user_id"], ended["details"]["requested_by"]) == (lived.parts.owner, "bob")


def test_who_erases_others_to_hide_what_they_did_stays_named(lived: "Home") -> None:
    bob = lived.person("bob", "admin", "evaluate")
    asked = {"subject": f"user:{USER}", "permission": "vault_read", "scope": "notes/x", "dry_run": True}
    bob.post("/v1/decisions", asked)
    before = len(lived.records(user="bob"))
    assert bob.post("/v1/audit/erase", {"user": USER, "reason": "tidy"}).status_code == 200
    rows = lived.records(user="bob")
    assert len(rows) > before
    redactions = [row for row in rows if row["event_type"] == "redaction"]
    assert [row["resolution"] for row in redactions] == ["pending", "completed"]
    assert all(row["details"]["pseudonyms"] and row["details"]["records"] for row in redactions)


def test_who_is_spelt_with_percent_signs_in_what_others_did_is_found_there_too(lived: "Home") -> None:
    spelt = USER.replace("-", "%2D").replace("k", "%6b")
    bob = lived.person("bob", "evaluate", "execute")
    asked = {"subject": "user:bob", "permission": "vault_read", "scope": f"of/{spelt}/{SECRET}", "dry_run": True}
    assert bob.post("/v1/decisions", asked).status_code == 200
    assert lived.owner.post("/v1/audit/rotate", {"reason": "to have it in a closed file"}).status_code == 200
    assert bob.post("/v1/decisions", asked).status_code == 200
    done = erase(lived)
    assert done.status_code == 200, done.text
    assert done.json()["records_of_others"] >= 2
    assert holders(lived, spelt, SECRET) == []
    assert len(lived.records(user="bob")) >= 2


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
import gateway.flows.erase as erase
from gateway.app import open_house
from gateway.audit.forgetting import Forgetting
from gateway.domain.caller import Caller
from gateway.registry.erasures import Erasures

def dying(step, after):
    def run(*given, **more):
        if after:
            step(*given, **more)
        os.kill(os.getpid(), signal.SIGKILL)
    return run

async def main(home, place, name, after):
    target = {"erase": erase, "Erasures": Erasures, "Forgetting": Forgetting}[place]
    async with open_house(home) as house:
        setattr(target, name, dying(getattr(target, name), after))
        caller = Caller(user_id=house.parts.owner, owner=True)
        await erase.erase_user(house.parts, caller, erase.ErasureWish(user_id="rosalind-k", reason="asked by letter"))

asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4] == "after"))
"""


@pytest.mark.parametrize(
    ("place", "name", "when"),
    [
        ("Erasures", "begin", "after"),
        ("Erasures", "forget_user", "before"),
        ("Erasures", "forget_user", "after"),
        ("erase", "_forget_kept", "after"),
        ("Forgetting", "_forget_in_closed", "after"),
        ("erase", "_forget_elsewhere", "after"),
        ("Erasures", "end", "before"),
    ],
)
def test_killed_in_the_midst_it_is_finished_at_the_next_start(lived: "Home", place: str, name: str, when: str) -> None:
    lived.close()
    ended = subprocess.run([sys.executable, "-c", KILLED, str(lived.folder), place, name, when], check=False)
    assert ended.returncode == -signal.SIGKILL
    lived.open()
    assert holders(lived, USER, SECRET) == []
    resolutions = [row["resolution"] for row in lived.records(event_type="redaction")]
    assert resolutions[0] == "pending"
    assert resolutions[-1] == "completed"
    assert lived.owner.get("/v1/audit/erase").json() == {"erasures": []}
    assert not list((lived.folder / "data" / "segments").glob("erasing*"))


LIVES = """
import asyncio, json, os, shutil, sys
from pathlib import Path
import gateway.flows.erase as erase
from gateway.app import open_house
from gateway.domain.caller import Caller
from tests.dying import die_everywhere

base, every = Path(sys.argv[1]), int(sys.argv[2])

async def life(home, death):
    async with open_house(home) as house:
        death.near()
        caller = Caller(user_id=house.parts.owner, owner=True)
        await erase.erase_user(house.parts, caller, erase.ErasureWish(user_id="rosalind-k", reason="asked by letter"))

async def after(home):
    async with open_house(home) as house:
        left = [each.event_id for each in house.parts.registry.erasures.all()]
        (home / "left").write_text(json.dumps(left))

def forked(home):
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(after(home))
            os._exit(0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0

def live(at, death):
    home = base.with_name(f"{base.name}-{at}")
    shutil.copytree(base, home)
    asyncio.run(life(home, death))

for at, died in die_everywhere(live, every):
    forked(base.with_name(f"{base.name}-{at}"))
    print(json.dumps([at, died]), flush=True)
"""
EVERY = int(os.environ.get("HEARTHGATE_STEPS", "19"))  # 1: each step


def test_killed_before_any_step_it_is_not_begun_or_finished_at_the_next_start(lived: "Home") -> None:
    lived.close()
    base = lived.folder
    ran = subprocess.run([sys.executable, "-c", LIVES, str(base), f"{EVERY}"], check=True, stdout=subprocess.PIPE)
    told = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [died for _, died in told] == [True] * (len(told) - 1) + [False]
    whole = held_in(base)
    ended = []
    for at, _ in told:
        home = base.with_name(f"{base.name}-{at}")
        left, begun = held_in(home), json.loads((home / "left").read_text())
        begun_not = begun in ([], [None]) and whole <= left
        assert begun_not or (not left and begun == []), (at, left, begun)
        ended.append(not left)
        shutil.rmtree(home)
    assert ended == sorted(ended)  # there is one step before which nothing, and behind which everything is erased
    assert ended[-1]
    assert not ended[0]


def held_in(folder: Path) -> set[str]:
    """Name the files below a folder that nobody has open and that hold something of the person."""
    wanted = set().union(*map(spellings, (USER, SECRET)))
    files = (each for each in folder.rglob("*") if each.is_file())
    return {
        str(each.relative_to(folder))
        for each in files
        for data in [each.read_bytes()]
        if any(one in data for one in wanted)
    } - INDEX


INDEX = {"data/audit-index.db", "data/audit-index.db-wal"}  # made anew, so that it may not be there yet


def test_who_asked_for_anothers_erasure_leaves_no_name_in_it_when_erased(make_home: "MakeHome") -> None:
    home = make_home(rules=ADMINS.replace("role:approver", f"user:{USER}").replace("erasers", "hers"))
    approval = home.folder / "policies" / "approval.toml"
    approval.write_text(approval.read_text().replace("erasure = false", "erasure = true"))
    assert home.reload().problems == ()
    home.person("letitia", "evaluate")
    wish = {"user": "letitia", "reason": "asked by letter"}
    assert home.person(USER, "admin").post("/v1/audit/erase", wish).status_code == 202
    approval.write_text(approval.read_text().replace("erasure = true", "erasure = false"))
    assert home.reload().problems == ()
    assert erase(home, keep_policy=True).status_code == 200
    assert [each for each in holders(home, USER) if "registry" in each] == []
    (waiting,) = home.owner.get("/v1/audit/erase").json()["erasures"]
    assert (waiting["user"], waiting["status"]) == ("letitia", "pending")
    assert waiting["requested_by"].startswith("erased-")
    assert home.owner.post("/v1/audit/erase", wish).status_code == 200


def test_it_is_not_finished_while_the_file_of_memberships_may_name_the_person(lived: "Home") -> None:
    file = lived.folder / "data" / "memberships.csv"
    assert USER in file.read_text()
    file.rename(file.with_name("kept"))
    file.mkdir()
    assert erase(lived).status_code == 503
    file.rmdir()
    file.with_name("kept").rename(file)
    done = erase(lived)
    assert (done.status_code, done.json()["resumed"]) == (200, True)
    assert holders(lived, USER) == []
