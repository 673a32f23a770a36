"""The ledger of consents: who may, since when, last used; one use is one use; withdrawing waits for nothing."""

import time
from typing import TYPE_CHECKING, Any

import pytest

from gateway.domain.decision import Effect
from gateway.domain.record import Record
from gateway.errors import LogUnavailableError
from gateway.policy.parse import parse_policy
from gateway.policy_files import read_policy_folder

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Home, MakeHome

RULES = "p, asked, plugin:puppet, vault, read, notes/*, consent, allow, with consent\n"
ASK = {"subject": "plugin:puppet", "permission": "vault_read", "scope": "notes/a", "user": "alice"}


@pytest.fixture
def home(make_home: "MakeHome") -> "Home":
    home = make_home(rules=RULES)
    home.install("puppet")
    return home


def consent(home: "Home", *, by_owner: bool = False, **members: object) -> dict[str, Any]:
    wish = {"user_id": "alice", "plugin_id": "puppet", "permission": "vault_read", "scope": "notes/*", **members}
    given = (home.owner if by_owner else home.person("alice", "consent")).post("/v1/consents", wish)
    assert given.status_code == 201, given.text
    found: dict[str, Any] = given.json()
    return found


def ledger(home: "Home") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = home.owner.get("/v1/consents", user_id="alice").json()["consents"]
    return found


def needless(home: "Home", user: str = "alice") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = home.owner.get("/v1/consents", user_id=user).json()["without_consent"]
    return found


def test_it_tells_who_may_since_when_and_when_it_was_last_done(home: "Home") -> None:
    given = consent(home, purpose="summaries")
    assert ledger(home)[0]["last_used_at"] is None
    home.owner.post("/v1/decisions", {**ASK, "dry_run": True})
    assert ledger(home)[0]["last_used_at"] is None
    used = home.owner.post("/v1/decisions", ASK).json()
    (told,) = ledger(home)
    assert (told["plugin_id"], told["purpose"], told["given_at"]) == ("puppet", "summaries", given["given_at"])
    assert told["last_used_at"] == used["at"]
    home.reopen()
    assert ledger(home)[0]["last_used_at"] == used["at"]


def test_it_tells_what_needs_no_consent_and_when_that_was_last_done_for_this_user(home: "Home") -> None:
    home.write_rules(
        RULES
        + "p, free, plugin:puppet, vault, read, free/*, -, allow, x\n"
        + "p, free-file, plugin:puppet, file, read, /srv/*, -, allow, x\n"
        + "p, never, plugin:puppet, vault, read, secret/*, -, deny, x\n"
        + "p, everybody, tier:low, user, read, name, hours(00:00-24:00 Mon-Sun UTC), allow, x\n"
    )
    home.reload()  # it warns of `everybody`
    home.install("reader", wants=("vault_read memories",))
    assert {each["last_used_at"] for each in needless(home)} == {None}
    used = home.owner.post("/v1/decisions", {**ASK, "scope": "free/a"}).json()
    assert used["effect"] == "allow"
    told = {each["rule"]: each for each in needless(home)}
    (granted,) = [each for each in told.values() if each["plugin_id"] == "reader"]
    assert set(told) == {"free", "everybody", granted["rule"]}
    assert (granted["permission"], granted["scope"]) == ("vault_read", "memories/*")
    assert granted["since"] is not None
    assert (told["free"]["plugin_id"], told["free"]["last_used_at"]) == ("puppet", used["at"])
    assert (told["everybody"]["plugin_id"], told["everybody"]["subject"]) == (None, "tier:low")
    assert {each["last_used_at"] for each in needless(home, "bob")} == {None}
    home.owner.post("/v1/plugins/reader/permissions/revoke", {"permission": "vault_read", "reason": "x"})
    assert {each["rule"] for each in needless(home)} == {"free", "everybody"}
    assert "without_consent" not in home.owner.get("/v1/consents").json()
    assert home.person("bob", "consent").get("/v1/consents", user_id="alice").status_code == 403


def test_who_may_not_see_those_of_all_is_shown_their_own(home: "Home") -> None:
    consent(home)
    alice, bob = (home.person(user, "consent").get("/v1/consents") for user in ("alice", "bob"))
    assert [each["user_id"] for each in alice.json()["consents"]] == ["alice"]
    assert (bob.status_code, bob.json()["consents"]) == (200, [])
    assert home.person("carol", "evaluate").get("/v1/consents", user_id="alice").status_code == 403


def test_the_last_use_of_one_that_was_used_up_is_told_too(home: "Home") -> None:
    consent(home, once=True)
    used = home.owner.post("/v1/decisions", ASK).json()
    home.reopen()
    (told,) = ledger(home)
    assert (told["end_reason"], told["last_used_at"]) == ("used once", used["at"])


@pytest.mark.parametrize("by_owner", [False, True])
def test_each_use_of_what_another_gave_on_behalf_says_so(home: "Home", by_owner: bool) -> None:  # noqa: FBT001 (a column of a table)
    given = consent(home, by_owner=by_owner)
    home.owner.post("/v1/decisions", ASK)
    row = home.records(event_type="access_granted", plugin="puppet")[-1]
    assert row["decision"]["consent_id"] == given["id"]
    assert row["details"].get("consent_on_behalf", False) is by_owner


def test_two_executions_share_no_consent_for_one_use_however_long_they_look_at_files(
    make_home: "MakeHome", tmp_path: "Path"
) -> None:
    home = make_home()
    # Between judging such a call and recording it the host's files are looked at, in a thread.
    home.install("puppet", sandbox_config={"file_access": [str(tmp_path)]})
    home.owner.post("/v1/plugins/puppet/permissions/revoke", {"permission": "plugin_execute", "reason": ""})
    home.rules("p, asked, plugin:puppet, plugin, execute, puppet, consent, allow, with consent\n")
    consent(home, permission="plugin_execute", scope="puppet", once=True)
    both = [home.person("alice", "execute").begin("puppet") for _ in range(3)]
    assert sorted(each.result(20).status_code for each in both) == [200, 403, 403]
    assert len(home.records(event_type="execution_started")) == 1


def test_what_is_revoked_while_its_use_fails_is_not_given_back(home: "Home", monkeypatch: pytest.MonkeyPatch) -> None:
    consent(home, once=True)
    append = home.parts.log.append

    async def full(*records: Record, **how: bool) -> tuple[int, ...]:
        if any(each.decision is not None and each.decision.consent_id for each in records):
            plugin = home.parts.registry.plugins.get("puppet")
            assert plugin is not None
            home.parts.registry.consents.end_all(plugin.id, at=home.parts.now(), reason="the plugin was revoked")
            raise LogUnavailableError("the disk is full")
        return await append(*records, **how)

    monkeypatch.setattr(home.parts.log, "append", full)
    assert home.owner.post("/v1/decisions", ASK).status_code == 503
    monkeypatch.undo()
    assert home.owner.post("/v1/decisions", ASK).json()["reason"] == "consent_required"


def test_a_withdrawal_denies_before_it_is_answered_and_ends_who_reads(home: "Home") -> None:
    given = consent(home)
    reading = home.person("alice", "execute").begin("puppet", ["sleep", 30], timeout_s=30)
    home.until(lambda: home.parts.pool._conversations)
    append = home.parts.log.append
    reasons: list[str] = []

    async def looking(*records: Record, **how: bool) -> tuple[int, ...]:
        if any(each.event_type == "consent_withdrawn" for each in records):
            live = home.parts.registry.consents.get(given["id"])
            reasons.append("withdrawn" if live is None else "still there")
        return await append(*records, **how)

    home.parts.log.append = looking  # type: ignore[method-assign] # to look while it is recorded
    began = time.process_time()
    assert home.person("alice", "consent").delete(f"/v1/consents/{given['id']}").status_code == 200
    assert time.process_time() - began < 0.1
    assert reasons == ["withdrawn"]
    assert reading.result(20).json()["outcome"] == "killed"
    assert home.owner.post("/v1/decisions", ASK).json()["reason"] == "consent_required"


def test_no_rule_of_the_starter_policy_gives_what_is_a_users_own_without_consent(home: "Home") -> None:
    parsed = parse_policy(read_policy_folder(home.folder / "policies"))
    assert parsed.problems == ()
    for rule in parsed.rules:
        if rule.effect is Effect.ALLOW and rule.kind in {"user", "*"}:
            assert "consent" in [text for text, _ in rule.condition.terms], rule.id
    for entry in parsed.approval.autos:
        assert entry.permission.kind.value != "user"
