"""Consent: the user's own, as far as it goes, once if it was for once, and gone when it is withdrawn."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from gateway.domain.caller import Caller
from gateway.domain.decision import timestamp
from gateway.domain.names import UserId
from gateway.domain.record import Record
from gateway.flows.erase import ErasureWish, erase_user

if TYPE_CHECKING:
    from tests.conftest import Home, MakeHome

RULES = """\
p, notes-asked, plugin:puppet, vault, write, notes/*, consent, allow, with consent
p, user-asked, plugin:puppet, user, read, name, consent, allow, with consent
p, counted, plugin:puppet, vault, read, twice/*, consent; rate(1/60s), allow, once a minute
"""
READ: list[Any] = ["vault.read", "notes/a"]


@pytest.fixture
def home(make_home: "MakeHome") -> "Home":
    home = make_home(rules=RULES)
    home.install("puppet")
    return home


def wish(**members: object) -> dict[str, object]:
    consent = {"user_id": "alice", "plugin_id": "puppet", "permission": "vault_read", "scope": "notes/*"}
    return {**consent, **members}


def ask(home: "Home", permission: str = "vault_read", scope: str = "notes/a", **members: object) -> str:
    body = {"subject": "plugin:puppet", "permission": permission, "scope": scope, "user": "alice", **members}
    reason: str = home.owner.post("/v1/decisions", body).json()["reason"]
    return reason


def test_without_consent_the_rule_is_a_near_miss(home: "Home") -> None:
    (told,) = home.person("alice", "execute").run("puppet", READ)
    assert told["denied"] == "consent_required"
    assert told["near_misses"] == [{"id": "notes-asked", "unmet": ["consent"]}]
    decision = home.decision(told["decision_id"])
    assert decision["near_misses"][0]["unmet"] == ["consent"]


def test_a_look_at_names_uses_up_no_consent_for_one_use(home: "Home") -> None:
    home.parts.resources.vault.write(UserId("alice"), "notes/a", 1)
    alice = home.person("alice", "execute", "consent")
    look = ["vault.list", "notes"]
    assert alice.run("puppet", look)[0]["denied"] == "consent_required"
    assert alice.post("/v1/consents", wish(once=True)).status_code == 201
    told = alice.run("puppet", look, look, READ, READ, look)
    assert told[:3] == [["notes/a"], ["notes/a"], 1]
    assert [each["denied"] for each in told[3:]] == ["consent_required"] * 2


def test_a_consent_is_given_named_in_each_use_and_withdrawn(home: "Home") -> None:
    alice = home.person("alice", "execute", "consent")
    given = alice.post("/v1/consents", wish(purpose="finding notes"))
    assert given.status_code == 201
    consent = given.json()
    assert (consent["user_id"], consent["on_behalf"], consent["given_by"]) == ("alice", False, "alice")
    assert "denied" not in alice.run("puppet", READ)[0]
    used = home.decided(permission="vault_read", effect="allow")[-1]
    assert used["consent_id"] == consent["id"]
    assert alice.get("/v1/consents", user_id="alice").json()["consents"][0]["id"] == consent["id"]
    ended = alice.delete(f"/v1/consents/{consent['id']}").json()
    assert ended["end_reason"] == "withdrawn"
    assert alice.run("puppet", READ)[0]["denied"] == "consent_required"
    assert [row["event_type"] for row in home.records(category="permission", user="alice")] == [
        "consent_given",
        "consent_withdrawn",
    ]
    assert alice.delete(f"/v1/consents/{consent['id']}").status_code == 404


@pytest.mark.parametrize(
    ("members", "permission", "scope", "reason"),
    [
        ({"permission": "vault_write"}, "vault_read", "notes/a", "rule"),
        ({"permission": "vault_read"}, "vault_write", "notes/a", "consent_required"),
        ({"permission": "vault_admin"}, "vault_write", "notes/a", "rule"),
        ({"scope": "notes/a"}, "vault_read", "notes/a", "rule"),
        ({"scope": "notes/a"}, "vault_read", "notes/ab", "consent_required"),
        ({"scope": "notes/a/*"}, "vault_read", "notes/a", "rule"),
        ({"scope": "notes"}, "vault_read", "notes/a", "consent_required"),
        ({"scope": "*"}, "vault_read", "notes/a", "rule"),
        ({"permission": "user_read"}, "vault_read", "notes/a", "consent_required"),
        ({"user_id": "bob"}, "vault_read", "notes/a", "consent_required"),
    ],
)
def test_a_consent_reaches_its_level_or_lower_and_its_scope(
    home: "Home", members: dict[str, object], permission: str, scope: str, reason: str
) -> None:
    given = home.person(str(members.get("user_id", "alice")), "consent").post("/v1/consents", wish(**members))
    assert given.status_code == 201, given.text
    assert ask(home, permission, scope) == reason


def test_a_consent_for_one_plugin_is_none_for_another(home: "Home") -> None:
    home.install("other")
    home.rules(RULES + "p, other-asked, plugin:other, vault, read, notes/*, consent, allow, x\n")
    home.person("alice", "consent").post("/v1/consents", wish())
    assert ask(home, subject="plugin:other") == "consent_required"


def test_a_consent_ends_at_its_moment_and_with_its_session(home: "Home") -> None:
    alice = home.person("alice", "execute", "consent")
    end = datetime.now(UTC) + timedelta(hours=1)
    assert alice.post("/v1/consents", wish(until=timestamp(end))).status_code == 201
    home.at(end - timedelta(microseconds=1))
    assert ask(home) == "rule"
    home.at(end)
    assert ask(home) == "consent_required"
    assert alice.post("/v1/consents", wish(session_id="s1")).status_code == 201
    assert "denied" in alice.run("puppet", READ, session_id="s2")[0]
    assert "denied" not in alice.run("puppet", READ, session_id="s1")[0]
    assert "denied" in alice.run("puppet", READ)[0]


def test_two_calls_at_once_share_no_consent_for_once(home: "Home") -> None:
    alice = home.person("alice", "execute", "consent")
    alice.post("/v1/consents", wish(once=True))
    body = {"subject": "plugin:puppet", "permission": "vault_read", "scope": "notes/a", "user": "alice"}
    asked = [home.owner.start("POST", "/v1/decisions", body) for _ in range(10)]
    reasons = [each.result(20).json()["reason"] for each in asked]
    assert sorted(reasons) == ["consent_required"] * 9 + ["rule"]
    home.reopen()
    assert ask(home) == "consent_required"
    assert home.owner.get("/v1/consents", user_id="alice").json()["consents"][0]["end_reason"] == "used once"


def test_a_question_uses_nothing_up(home: "Home") -> None:
    home.person("alice", "consent").post("/v1/consents", wish(once=True))
    home.person("alice", "consent").post("/v1/consents", wish(scope="twice/*"))
    for _ in range(3):
        assert ask(home, dry_run=True) == "rule"
        assert ask(home, scope="twice/a", dry_run=True) == "rule"
        explained = {"subject": "plugin:puppet", "permission": "vault_read", "scope": "notes/a", "user": "alice"}
        assert home.owner.post("/v1/policy/explain", explained).json()["decision"]["effect"] == "allow"
    assert [ask(home), ask(home)] == ["rule", "consent_required"]
    assert [ask(home, scope="twice/a"), ask(home, scope="twice/a")] == ["rule", "rate_limited"]


def test_a_consent_that_could_not_be_recorded_is_not_used_up(home: "Home") -> None:
    home.person("alice", "consent").post("/v1/consents", wish(once=True))
    database = home.folder / "data" / "audit.db"
    database.rename(database.with_name("away.db"))
    body = {"subject": "plugin:puppet", "permission": "vault_read", "scope": "notes/a", "user": "alice"}
    from gateway.domain.names import Subject, UserId
    from gateway.domain.request import AccessRequest
    from gateway.errors import LogUnavailableError
    from gateway.flows.decide import NO_CONTEXT, decide
    from gateway.flows.record import record_together

    request = AccessRequest(
        subject=Subject("plugin:puppet"), user=UserId("alice"), kind="vault", level="read", scope="notes/a"
    )

    async def ask_unrecorded() -> None:
        await record_together(home.parts, [(decide(home.parts, request), NO_CONTEXT)])

    for _ in range(2):
        with pytest.raises(LogUnavailableError):
            home.do(ask_unrecorded())
    database.with_name("away.db").rename(database)
    home.until(lambda: home.owner.get("/v1/policy").status_code == 200)
    assert home.owner.post("/v1/decisions", body).json()["reason"] == "rule"
    assert home.owner.post("/v1/decisions", body).json()["reason"] == "consent_required"


def test_withdrawing_kills_what_runs_for_that_user_alone(home: "Home") -> None:
    alice, bob = home.person("alice", "execute", "consent"), home.person("bob", "execute", "consent")
    consent = alice.post("/v1/consents", wish()).json()
    running = [each.begin("puppet", ["sleep", 3], timeout_s=20) for each in (alice, bob)]
    home.until(lambda: len(home.parts.pool._conversations) == 2)
    alice.delete(f"/v1/consents/{consent['id']}")
    assert [each.result(20).json()["outcome"] for each in running] == ["killed", "returned"]


@pytest.mark.parametrize(
    ("who", "scopes", "members", "status"),
    [
        ("alice", ("consent",), {}, 201),
        ("alice", ("evaluate", "execute"), {}, 403),
        ("bob", ("consent",), {}, 403),
        ("carol", ("consent", "admin"), {}, 403),
        ("alice", ("consent",), {"permission": "user_read", "scope": "name"}, 201),
        ("owner", (), {}, 201),
        ("owner", (), {"permission": "user_read", "scope": "name"}, 403),
        ("owner", (), {"permission": "user_admin", "scope": "name"}, 403),
        ("alice", ("consent",), {"plugin_id": "absent"}, 404),
        ("alice", ("consent",), {"permission": "vault_execute"}, 400),
        ("alice", ("consent",), {"scope": "../x"}, 400),
        ("alice", ("consent",), {"until": "soon"}, 400),
        ("alice", ("consent",), {"once": "yes"}, 400),
        ("alice", ("consent",), {"on_behalf": False}, 400),
    ],
)
def test_only_the_user_consents_or_the_owner_on_their_behalf(
    home: "Home", who: str, scopes: tuple[str, ...], members: dict[str, object], status: int
) -> None:
    person = home.owner if who == "owner" else home.person(who, *scopes)
    answer = person.post("/v1/consents", wish(**members))
    assert answer.status_code == status, answer.text
    if status == 201:
        assert answer.json()["on_behalf"] is (who == "owner")
    else:
        assert home.owner.get("/v1/consents", user_id="alice").json()["consents"] == []


def test_nobody_withdraws_anothers_consent(home: "Home") -> None:
    consent = home.person("alice", "consent").post("/v1/consents", wish()).json()
    assert home.person("bob", "consent").delete(f"/v1/consents/{consent['id']}").status_code == 403
    assert home.person("alice", "execute").delete(f"/v1/consents/{consent['id']}").status_code == 403
    assert home.person("bob", "consent").get("/v1/consents", user_id="alice").status_code == 403
    assert home.person("bob", "consent").get("/v1/consents").json()["consents"] == []
    assert ask(home) == "rule"
    assert home.owner.delete(f"/v1/consents/{consent['id']}").status_code == 200


def test_nobody_learns_whether_another_consented(home: "Home") -> None:
    consent = home.person("alice", "consent").post("/v1/consents", wish()).json()
    told = [home.person("bob", "consent").delete(f"/v1/consents/{each}").json() for each in (consent["id"], "0" * 36)]
    assert [{**each, "decision_id": None} for each in told] == [{**told[0], "decision_id": None}] * 2
    assert "alice" not in str(told)
    assert home.owner.delete(f"/v1/consents/{'0' * 36}").status_code == 404


def test_an_agents_key_of_the_same_user_cannot_consent(home: "Home") -> None:
    agent = home.person("alice", "evaluate", "execute", "admin", "approve", "audit")
    refused = agent.post("/v1/consents", wish())
    assert (refused.status_code, refused.json()["reason"]) == (403, "credential")


def test_a_consent_on_its_way_does_not_come_back_for_who_was_erased_meanwhile(
    home: "Home", monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = home.person("alice", "consent")
    append = home.parts.log.append

    async def erasing(*records: Record, sign: bool = False) -> tuple[int, ...]:
        done = await append(*records, sign=sign)
        if records[0].event_type == "consent_given":
            caller = Caller(user_id=home.parts.owner, owner=True)
            told = await erase_user(home.parts, caller, ErasureWish(user_id=UserId("alice"), reason="asked by letter"))
            assert told["status"] == "erased"
        return done

    with monkeypatch.context() as patch:
        patch.setattr(home.parts.log, "append", erasing)
        answer = alice.post("/v1/consents", wish())
    assert answer.status_code == 409, answer.text
    assert home.parts.registry.consents.find(user_id=UserId("alice")) == ()
    assert b"alice" not in (home.folder / "data" / "registry.db").read_bytes()
    assert home.owner.behalf("bob").post("/v1/consents", wish(user_id="bob")).status_code == 201
