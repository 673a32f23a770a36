"""Approvals of exact calls: for one call, one use, one user; no other byte, rule, code, caller or time."""

import contextlib
import sqlite3
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from gateway.domain.decision import timestamp
from gateway.domain.exact_call import canonical_args
from gateway.errors import LogUnavailableError
from gateway.registry.call_approvals import MOST_PENDING

if TYPE_CHECKING:
    from tests.conftest import Home, MakeHome, Person

RULES = """\
p, write-asked, plugin:puppet, vault, write, notes/*, approval, allow, each write is looked at
p, both-asked, plugin:puppet, user, write, name, consent; approval, allow, the user and a person
p, may-ask, user:alice, gateway, execute, decisions/plugin:puppet, -, allow, alice's agent host asks
p, may-ask-bob, user:bob, gateway, execute, decisions/plugin:puppet, -, allow, so does bob's
"""
SCOPE = "notes/a"


@pytest.fixture
def home(make_home: "MakeHome") -> "Home":
    home = make_home(rules=RULES)
    home.install("puppet")
    return home


def write(value: object = "hello", scope: str = SCOPE) -> list[Any]:
    return ["vault.write", scope, value]


def alice(home: "Home") -> "Person":
    return home.person("alice", "execute", "evaluate", "consent")


def bob(home: "Home") -> "Person":
    return home.person("bob", "approve")


def pending(home: "Home", status: str = "pending") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = home.owner.get("/v1/call-approvals", status=status).json()["approvals"]
    return found


def approve(home: "Home", who: "Person | None" = None, **members: object) -> dict[str, Any]:
    """Let bob approve the only call that waits."""
    (waits,) = pending(home)
    answer = (who or bob(home)).post(f"/v1/call-approvals/{waits['id']}/approve", {"reason": "seen", **members})
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


def asked(home: "Home", *deeds: list[Any]) -> list[Any]:
    """Give what became of alice's deeds: None for done, else the reason of the denial."""
    told = alice(home).run("puppet", *(deeds or (write(),)))
    return [each["denied"] if isinstance(each, dict) and "denied" in each else each for each in told]


def question(args: object, *, user: str = "alice", **members: object) -> dict[str, object]:
    body = {"subject": "plugin:puppet", "permission": "vault_write", "scope": SCOPE, "user": user, "args": args}
    return {**body, **members}


def test_a_denied_call_waits_is_approved_and_is_made_once(home: "Home") -> None:
    assert asked(home) == ["approval_required"]
    (waits,) = pending(home)
    denial = home.decided(reason="approval_required")[-1]
    assert denial["approval_id"] == waits["id"]
    bound = ("subject", "user_id", "asked_by", "op", "permission", "scope", "args", "rule")
    assert [waits[name] for name in bound] == [
        "plugin:puppet", "alice", "alice", "vault.write", "vault_write", SCOPE, {"value": "hello"}, "write-asked",
    ]  # fmt: skip
    approve(home)
    assert asked(home, write(), write()) == [None, "approval_required"]
    used = home.decided(permission="vault_write", effect="allow")[-1]
    assert used["approval_id"] == waits["id"]
    events = [row["event_type"] for row in home.records(category="permission") if "call_" in row["event_type"]]
    assert events == [
        "call_approval_requested", "call_approval_approved", "call_approval_used", "call_approval_requested",
    ]  # fmt: skip
    told = next(row for row in home.records(event_type="call_approval_used"))
    assert told["details"]["approved_by"] == "bob"
    assert told["ref"] == f"audit-{used['decision_id']}"


def test_the_plugin_is_told_no_more_than_of_any_other_denial(home: "Home") -> None:
    (told,) = alice(home).run("puppet", write())
    assert set(told) == {"denied", "decision_id", "near_misses"}
    assert told["near_misses"] == [{"id": "write-asked", "unmet": ["approval"]}]


@pytest.mark.parametrize(
    "other",
    [
        write("hello "),
        write("Hello"),
        write("h\u00e9llo"),
        write(scope="notes/b"),
        write(["hello"]),
        ["vault.delete", SCOPE],
    ],
)
def test_any_changed_byte_is_another_call(home: "Home", other: list[Any]) -> None:
    asked(home)
    approve(home)
    assert asked(home, other, write()) == ["approval_required", None]


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 1}, {"a": 1.0}, False),
        ({"a": 1}, {"a": True}, False),
        ({"a": 1}, {"a": "1"}, False),
        ({"a": 0}, {"a": -0.0}, False),
        ({"a": None}, {}, False),
        ({"a": "\u00e9"}, {"a": "e\u0301"}, False),
        ({"a": "\ufb01"}, {"a": "fi"}, False),
        ({"a": 10**30}, {"a": 10**30 + 1}, False),
        ({"a": 2**53}, {"a": 2**53 + 1}, False),
        ({"a": {"b": []}}, {"a": {"b": {}}}, False),
        ({"a": "\\u0041"}, {"a": "A"}, False),
    ],
)
def test_arguments_are_the_same_only_if_nobody_can_tell_them_apart(
    home: "Home",
    first: object,
    second: object,
    same: bool,  # noqa: FBT001 (a column of a table)
) -> None:
    asker = alice(home)
    made = asker.post("/v1/decisions", question(first)).json()
    assert made["reason"] == "approval_required"
    approve(home)
    answer = asker.post("/v1/decisions", question(second)).json()
    assert answer["effect"] == ("allow" if same else "deny")


def test_deep_long_and_odd_arguments_never_look_alike() -> None:
    deep: Any = 1
    for _ in range(90):
        deep = [deep]
    assert canonical_args({"a": deep}) != canonical_args({"a": [deep]})
    assert canonical_args({"a": float("nan")}) is None
    assert canonical_args({"a": "\ud800"}) is None
    assert canonical_args({"b": 1, "a": "\u00e9"}) == '{"a":"\u00e9","b":1}'.encode()


def test_a_member_given_twice_is_refused_at_the_door(home: "Home") -> None:
    body = '{"subject":"plugin:puppet","permission":"vault_write","scope":"notes/a","args":{"v":1,"v":2}}'
    answer = alice(home).ask("POST", "/v1/decisions", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400


def test_one_users_approval_is_nothing_to_another(home: "Home") -> None:
    asked(home)
    approve(home)
    other = home.person("carol", "execute").run("puppet", write())
    assert other[0]["denied"] == "approval_required"
    assert alice(home).post("/v1/decisions", question({"value": "hello"})).json()["effect"] == "deny"
    assert asked(home) == [None]


def test_what_one_asked_for_alice_another_cannot_use(home: "Home") -> None:
    host = home.person("bob", "evaluate")
    assert host.post("/v1/decisions", question({"v": 1})).json()["reason"] == "approval_required"
    approve(home, home.owner)
    assert alice(home).post("/v1/decisions", question({"v": 1})).json()["effect"] == "deny"
    assert host.post("/v1/decisions", question({"v": 1})).json()["effect"] == "allow"
    assert host.post("/v1/decisions", question({"v": 1})).json()["effect"] == "deny"


def test_a_question_creates_and_uses_nothing(home: "Home") -> None:
    asker = alice(home)
    dry = question({"v": 1}, dry_run=True)
    assert "approval_id" not in asker.post("/v1/decisions", dry).json()
    explained = {"subject": "plugin:puppet", "permission": "vault_write", "scope": SCOPE, "user": "alice"}
    home.owner.post("/v1/policy/explain", explained)
    assert pending(home) == []
    asker.post("/v1/decisions", question({"v": 1}))
    approve(home)
    assert [asker.post("/v1/decisions", dry).json()["effect"] for _ in range(3)] == ["allow"] * 3
    assert asker.post("/v1/decisions", question({"v": 1})).json()["effect"] == "allow"
    assert asker.post("/v1/decisions", dry).json()["effect"] == "deny"


def test_of_many_at_once_one_is_allowed(home: "Home") -> None:
    asker = alice(home)
    asker.post("/v1/decisions", question({"v": 1}))
    approve(home)
    answers = [asker.start("POST", "/v1/decisions", question({"v": 1})) for _ in range(12)]
    effects = sorted(each.result(20).json()["effect"] for each in answers)
    assert effects == ["allow"] + ["deny"] * 11
    assert len(pending(home)) == 1
    assert len(pending(home, "used")) == 1


def test_two_executions_at_once_share_no_approval(make_home: "MakeHome", tmp_path: Any) -> None:  # noqa: ANN401
    home = make_home()
    # Between judging such a call and recording it the host's files are looked at, in a thread.
    home.install("puppet", sandbox_config={"file_access": [str(tmp_path)]})
    home.rules("p, asked, user:alice, gateway, execute, plugins/puppet, approval, allow, each call is looked at\n")
    roles = home.folder / "policies" / "roles.csv"
    roles.write_text(roles.read_text().replace("g, user:alice, role:member\n", ""))
    assert home.reload().problems == ()
    first = alice(home).begin("puppet").result(20)
    assert (first.status_code, first.json()["reason"]) == (403, "approval_required")
    assert first.json()["decision"]["approval_id"] == pending(home)[0]["id"]
    assert pending(home)[0]["op"] == "execute"
    assert pending(home)[0]["args"] == {"do": []}
    approve(home)
    both = [alice(home).begin("puppet") for _ in range(2)]
    assert sorted(each.result(20).status_code for each in both) == [200, 403]
    assert alice(home).begin("puppet").result(20).status_code == 403
    started = home.records(event_type="execution_started")
    assert len(started) == 1


def test_it_is_used_once_whatever_stops_the_gateway(home: "Home") -> None:
    asker = alice(home)
    asker.post("/v1/decisions", question({"v": 1}))
    approve(home)
    home.reopen()
    assert asker.post("/v1/decisions", question({"v": 1})).json()["effect"] == "allow"
    home.reopen()
    assert asker.post("/v1/decisions", question({"v": 1})).json()["effect"] == "deny"


class CrashError(Exception):
    """The power goes."""


def test_a_power_cut_between_use_and_record_brings_it_not_back(home: "Home") -> None:
    asker = alice(home)
    asker.post("/v1/decisions", question({"v": 1}))
    approve(home)
    append = home.parts.log.append

    async def dying(*records: Any, **how: bool) -> Any:  # noqa: ANN401
        if any(each.event_type == "call_approval_used" for each in records):
            raise CrashError
        return await append(*records, **how)

    home.parts.log.append = dying  # type: ignore[method-assign] # a crash at this very moment
    assert asker.post("/v1/decisions", question({"v": 1})).status_code == 500
    with contextlib.suppress(CrashError):
        home.close()
    home.open()
    assert asker.post("/v1/decisions", question({"v": 1})).json()["effect"] == "deny"
    home.reopen()
    (lost,) = home.records(event_type="call_approval_used")
    assert (lost["resolution"], lost["details"]["approval_id"]) == ("unknown", pending(home, "used")[0]["id"])


def test_a_use_that_could_not_be_recorded_is_given_back(home: "Home", monkeypatch: pytest.MonkeyPatch) -> None:
    asker = alice(home)
    asker.post("/v1/decisions", question({"v": 1}))
    approve(home)
    append = home.parts.log.append

    async def full(*records: Any, **how: bool) -> Any:  # noqa: ANN401
        if any(each.event_type == "call_approval_used" for each in records):
            raise LogUnavailableError("the disk is full")
        return await append(*records, **how)

    monkeypatch.setattr(home.parts.log, "append", full)
    assert asker.post("/v1/decisions", question({"v": 1})).status_code == 503
    monkeypatch.undo()
    assert asker.post("/v1/decisions", question({"v": 1})).json()["effect"] == "allow"
    assert asker.post("/v1/decisions", question({"v": 1})).json()["effect"] == "deny"


def test_what_is_revoked_while_its_use_fails_is_not_given_back(home: "Home", monkeypatch: pytest.MonkeyPatch) -> None:
    asker = alice(home)
    asker.post("/v1/decisions", question({"v": 1}))
    approve(home)
    append = home.parts.log.append

    async def full(*records: Any, **how: bool) -> Any:  # noqa: ANN401
        if any(each.event_type == "call_approval_used" for each in records):
            home.parts.registry.approvals.void(lambda _: True, at=home.parts.now(), reason="revoked")
            raise LogUnavailableError("the disk is full")
        return await append(*records, **how)

    monkeypatch.setattr(home.parts.log, "append", full)
    assert asker.post("/v1/decisions", question({"v": 1})).status_code == 503
    monkeypatch.undo()
    assert asker.post("/v1/decisions", question({"v": 1})).json()["effect"] == "deny"


def test_a_denial_that_could_not_be_recorded_asks_nobody(home: "Home", monkeypatch: pytest.MonkeyPatch) -> None:
    append = home.parts.log.append

    async def full(*records: Any, **how: bool) -> Any:  # noqa: ANN401
        if any(each.event_type == "call_approval_requested" for each in records):
            raise LogUnavailableError("the disk is full")
        return await append(*records, **how)

    monkeypatch.setattr(home.parts.log, "append", full)
    assert alice(home).post("/v1/decisions", question({"v": 1})).status_code == 503
    monkeypatch.undo()
    assert pending(home) == []


CHANGES = {
    "the rule's condition": RULES.replace("notes/*, approval, allow", "notes/*, approval; risk<=90, allow"),
    "the rule's words": RULES.replace("each write is looked at", "each write is read"),
    "another rule for it": RULES + "p, new, plugin:puppet, vault, admin, notes/*, approval, allow, all of it\n",
    "a deny beside it": RULES
    + "p, no, plugin:puppet, vault, write, notes/a, until(2001-01-01T00:00:00Z), deny, sometimes\n",
    "a rule of its group": RULES
    + "p, all, group:plugins, vault, write, notes/*, until(2001-01-01T00:00:00Z), deny, sometimes\n",
}


@pytest.mark.parametrize("what", [*CHANGES, "the plugin's code"])
@pytest.mark.parametrize("answered", [False, True])
def test_a_changed_rule_or_code_voids_it_before_and_after_the_answer(
    home: "Home",
    what: str,
    answered: bool,  # noqa: FBT001 (a column of a table)
) -> None:
    asker = alice(home)
    asker.post("/v1/decisions", question({"v": 1}))
    (waits,) = pending(home)
    if answered:
        approve(home)
    if what == "the plugin's code":
        home.parts.registry.plugins.adopt_code(waits["plugin_id"], "sha256:" + "0" * 64, at=home.parts.now())
    else:
        home.rules(CHANGES[what])
    if not answered:
        stale = bob(home).post(f"/v1/call-approvals/{waits['id']}/approve", {"reason": ""})
        assert stale.status_code == 409, stale.text
    anew = asker.post("/v1/decisions", question({"v": 1})).json()
    assert anew["reason"] == "approval_required"
    assert anew["approval_id"] != waits["id"]


def test_a_rule_edited_after_the_yes_voids_it_and_one_for_others_does_not(home: "Home") -> None:
    asker = alice(home)
    asker.post("/v1/decisions", question({"v": 1}))
    approve(home)
    home.rules("# moved\n" + RULES + "p, elsewhere, plugin:other, vault, write, notes/*, -, allow, another's\n")
    assert asker.post("/v1/decisions", question({"v": 1}, dry_run=True)).json()["effect"] == "allow"
    home.rules(CHANGES["the rule's words"])
    assert asker.post("/v1/decisions", question({"v": 1})).json()["effect"] == "deny"


def test_it_ends_at_its_moment(home: "Home") -> None:
    asker = alice(home)
    asker.post("/v1/decisions", question({"v": 1}))
    end = datetime.now(UTC) + timedelta(minutes=5)
    assert approve(home, until=timestamp(end))["expires_at"] == timestamp(end)
    home.at(end - timedelta(microseconds=1))
    assert asker.post("/v1/decisions", question({"v": 1}, dry_run=True)).json()["effect"] == "allow"
    home.at(end)
    answer = asker.post("/v1/decisions", question({"v": 1})).json()
    assert answer["reason"] == "approval_required"
    assert [each["status"] for each in pending(home, "expired")] == ["expired"]
    assert [each["id"] for each in pending(home)] == [answer["approval_id"]]


def test_a_call_that_waited_too_long_cannot_be_approved(home: "Home") -> None:
    asked(home)
    (waits,) = pending(home)
    home.at(datetime.now(UTC) + timedelta(days=1, seconds=1))
    late = home.owner.post(f"/v1/call-approvals/{waits['id']}/approve", {"reason": ""})
    assert (late.status_code, late.json()["state"]) == (409, "expired")


@pytest.mark.parametrize("until", ["2001-01-01T00:00:00Z", "2099-01-01T00:00:00Z", "soon", "2099-01-01T00:00:00"])
def test_a_time_that_cannot_be_meant_is_refused(home: "Home", until: str) -> None:
    asked(home)
    (waits,) = pending(home)
    answer = bob(home).post(f"/v1/call-approvals/{waits['id']}/approve", {"until": until})
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("user", "scopes", "reason"),
    [
        ("alice", ("evaluate", "execute", "consent", "admin", "audit"), "credential"),
        ("alice", ("approve",), "no_rule"),
        ("erin", ("approve",), "no_rule"),
        ("dave", ("approve",), "no_rule"),
        ("bob", ("execute", "evaluate"), "credential"),
    ],
)
def test_not_everybody_answers(home: "Home", user: str, scopes: tuple[str, ...], reason: str) -> None:
    asked(home)
    (waits,) = pending(home)
    for verb in ("approve", "deny"):
        answer = home.person(user, *scopes).post(f"/v1/call-approvals/{waits['id']}/{verb}", {"reason": ""})
        assert (answer.status_code, answer.json()["reason"]) == (403, reason), answer.text
    assert asked(home) == ["approval_required"]


def test_nobody_approves_a_call_of_their_own(home: "Home") -> None:
    runner = home.person("bob", "execute", "approve")
    runner.run("puppet", write())
    (waits,) = pending(home)
    path = f"/v1/call-approvals/{waits['id']}/approve"
    for own in (runner, home.person("bob", "approve"), home.person("bob", "approve", "admin")):
        answer = own.post(path, {"reason": "me"})
        assert (answer.status_code, answer.json()["reason"]) == (403, "own_call")
    assert home.records(event_type="access_denied", user="bob")[-1]["details"]["why"] == "the call is their own"
    assert home.owner.post(path, {"reason": "the owner"}).status_code == 200
    assert runner.run("puppet", write()) == [None]


def test_who_runs_it_for_another_does_not_approve_it_either(home: "Home") -> None:
    assert home.owner.behalf("alice").run("puppet", write())[0]["denied"] == "approval_required"
    (waits,) = pending(home)
    assert waits["user_id"] == "alice"
    path = f"/v1/call-approvals/{waits['id']}/approve"
    assert home.owner.post(path, {}).json()["reason"] == "own_call"
    assert home.owner.behalf("bob").post(path, {}).json()["reason"] == "own_call"
    assert bob(home).post(path, {}).status_code == 200
    assert home.owner.behalf("alice").run("puppet", write()) == [None]


def test_people_approve_their_own_where_approval_toml_says_so(home: "Home") -> None:
    file = home.folder / "policies" / "approval.toml"
    file.write_text(file.read_text().replace("own = false", "own = true"))
    assert home.reload().problems == ()
    runner = home.person("bob", "execute", "approve")
    runner.run("puppet", write())
    approve(home, runner)
    assert runner.run("puppet", write()) == [None]
    # Who may not approve at all may not approve their own either.
    asked(home)
    (waits,) = pending(home)
    own = home.person("alice", "approve").post(f"/v1/call-approvals/{waits['id']}/approve", {})
    assert own.status_code == 403


def test_a_denied_call_stays_denied_and_is_not_asked_again_for_an_hour(home: "Home") -> None:
    asked(home)
    (waits,) = pending(home)
    denied = bob(home).post(f"/v1/call-approvals/{waits['id']}/deny", {"reason": "no"})
    assert denied.json()["status"] == "denied"
    assert bob(home).post(f"/v1/call-approvals/{waits['id']}/approve", {}).status_code == 409
    assert asked(home) == ["approval_required"]
    assert pending(home) == []
    assert home.decided(reason="approval_required")[-1]["approval_id"] == waits["id"]
    home.at(datetime.now(UTC) + timedelta(hours=1, seconds=1))
    assert home.parts.registry.approvals.asked("none", home.parts.now()) is None
    home.owner.behalf("alice")
    body = question({"value": "hello"})
    assert alice(home).post("/v1/decisions", body).json()["reason"] == "approval_required"
    assert len(pending(home)) == 1


@pytest.mark.parametrize(
    "taking",
    [
        ("POST", "/v1/plugins/puppet/suspend", {"reason": ""}),
        ("POST", "/v1/lockdown", {"scope": "plugin:puppet", "reason": ""}),
        ("POST", "/v1/lockdown", {"scope": "user:alice", "reason": ""}),
        ("POST", "/v1/lockdown", {"scope": "kind:vault", "reason": ""}),
        ("POST", "/v1/plugins/puppet/revoke", {"reason": ""}),
    ],
)
@pytest.mark.parametrize("answered", [False, True])
def test_what_is_taken_away_voids_it_for_good(
    home: "Home",
    taking: tuple[str, str, dict[str, str]],
    answered: bool,  # noqa: FBT001 (a column of a table)
) -> None:
    asked(home)
    (waits,) = pending(home)
    if answered:
        approve(home)
    done = home.owner.ask(*taking)
    assert done.status_code in {200, 201}, done.text
    assert home.parts.registry.approvals.get(waits["id"]).state == "void"  # type: ignore[union-attr] # it is there
    assert home.owner.post(f"/v1/call-approvals/{waits['id']}/approve", {}).status_code == 409
    if "lockdown" in taking[1]:
        home.owner.delete(f"/v1/lockdown/{done.json()['id']}", {"reason": "over"})
        assert asked(home) == ["approval_required"]


def test_an_uninstalled_plugin_leaves_none_behind(home: "Home") -> None:
    asked(home)
    home.owner.post("/v1/plugins/puppet/uninstall", {"reason": ""})
    assert pending(home) == []
    home.install("puppet")
    assert asked(home) == ["approval_required"]


def test_the_same_call_waits_once_and_a_plugin_fills_no_queue_but_its_own(home: "Home") -> None:
    asker = alice(home)
    ids = {asker.post("/v1/decisions", question({"v": 1})).json()["approval_id"] for _ in range(3)}
    assert len(ids) == 1
    for number in range(MOST_PENDING):
        answer = asker.post("/v1/decisions", question({"n": number})).json()
        assert answer["reason"] == "approval_required"
    assert "approval_id" not in answer
    assert len(pending(home)) == MOST_PENDING
    home.install("other")
    home.rules(RULES + "p, other-asked, plugin:other, vault, write, notes/*, approval, allow, x\n")
    other = home.owner.post("/v1/decisions", question({"v": 1}, subject="plugin:other")).json()
    assert other["approval_id"]
    approved = bob(home).post(f"/v1/call-approvals/{ids.pop()}/approve", {})
    assert approved.status_code == 200


def test_both_the_user_and_a_person_are_asked_where_a_rule_wants_both(home: "Home") -> None:
    put = ["user.set", "name", "Al"]
    assert asked(home, put) == ["consent_required"]
    assert pending(home) == []
    wish = {"user_id": "alice", "plugin_id": "puppet", "permission": "user_write", "scope": "name", "once": True}
    alice(home).post("/v1/consents", wish)
    assert asked(home, put) == ["approval_required"]
    approve(home)
    assert asked(home, put, put) == [None, "consent_required"]


def test_people_see_their_own_calls_and_who_may_answer_sees_all(home: "Home") -> None:
    asked(home)
    home.person("carol", "execute").run("puppet", write("carol's"))
    mine = home.person("alice", "execute").get("/v1/call-approvals").json()["approvals"]
    assert [each["user_id"] for each in mine] == ["alice"]
    assert len(bob(home).get("/v1/call-approvals").json()["approvals"]) == 2
    assert home.person("erin", "approve").get("/v1/call-approvals").status_code == 403
    assert home.owner.get("/v1/call-approvals", status="odd").status_code == 400


def test_an_id_that_is_none_is_told_to_who_may_answer_alone(home: "Home") -> None:
    for verb in ("approve", "deny"):
        assert bob(home).post(f"/v1/call-approvals/none/{verb}", {}).status_code == 404
        assert home.person("erin", "approve").post(f"/v1/call-approvals/none/{verb}", {}).status_code == 403


def test_arguments_leave_the_registry_with_the_answer(home: "Home") -> None:
    asked(home, write("a-secret-of-alices"))
    approve(home)
    with contextlib.closing(sqlite3.connect(home.folder / "data" / "registry.db")) as registry:
        assert registry.execute("SELECT args, state FROM call_approval").fetchall() == [(None, "approved")]
    assert "a-secret-of-alices" not in str(home.records())


def test_bytes_are_bound_by_their_digest(make_home: "MakeHome", tmp_path: Any) -> None:  # noqa: ANN401
    folder = tmp_path / "shared"
    folder.mkdir()
    home = make_home(rules=f"p, files-asked, plugin:puppet, file, write, {folder}/*, approval, allow, looked at\n")
    home.install("puppet")
    put = ["files.write", str(folder / "a"), "text"]
    assert asked(home, put) == ["approval_required"]
    shown = pending(home)[0]["args"]["data"]
    assert shown == {"sha256": "982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1", "bytes": 4}
    approve(home)
    assert asked(home, ["files.write", str(folder / "a"), "tex7"], put) == ["approval_required", None]
    assert (folder / "a").read_text() == "text"


def test_who_is_erased_leaves_no_approval_behind(home: "Home") -> None:
    asked(home, write("alice writes"))
    home.person("carol", "execute").run("puppet", write("of carol"))
    erased = home.owner.post("/v1/audit/erase", {"user": "alice", "reason": "wished", "keep_policy": True})
    assert erased.status_code in {200, 202}, erased.text
    assert erased.json()["call_approvals"] == 1
    assert [each["user_id"] for each in pending(home)] == ["carol"]
    assert not any(b"alice writes" in data for data in home.contents().values())


def test_authzen_asks_nobody_and_uses_nothing(home: "Home") -> None:
    asked_by_authzen = {
        "subject": {"type": "plugin", "id": "puppet"},
        "action": {"name": "write"},
        "resource": {"type": "vault", "id": SCOPE},
        "context": {"user": "alice", "args": {"v": 1}},
    }

    def decision() -> bool:
        found: bool = alice(home).post("/access/v1/evaluation", asked_by_authzen).json()["decision"]
        return found

    assert decision() is False
    assert pending(home) == []
    alice(home).post("/v1/decisions", question({"v": 1}))
    approve(home)
    assert decision() is False
    assert [each["status"] for each in pending(home, "approved")] == ["approved"]


def test_what_ends_while_its_yes_is_recorded_is_not_approved_and_that_is_told(
    home: "Home", monkeypatch: pytest.MonkeyPatch
) -> None:
    asked(home)
    (waits,) = pending(home)
    append = home.parts.log.append

    async def meanwhile(*records: Any, **how: bool) -> Any:  # noqa: ANN401
        done = await append(*records, **how)
        if any(each.event_type == "call_approval_approved" for each in records):
            home.parts.registry.approvals.void(lambda _: True, at=home.parts.now(), reason="revoked")
        return done

    monkeypatch.setattr(home.parts.log, "append", meanwhile)
    late = bob(home).post(f"/v1/call-approvals/{waits['id']}/approve", {})
    assert (late.status_code, late.json()["state"]) == (409, "void")
    approved = home.records(event_type="call_approval_approved")[-1]
    assert home.records(event_type="call_approval_denied")[-1]["ref"] == approved["event_id"]


def test_a_plugin_that_calls_another_needs_a_yes_for_each_and_for_this_way_alone(home: "Home") -> None:
    home.install("caller", wants=("plugin_execute puppet",))
    home.rules(RULES + "p, caller-asked, plugin:caller, vault, write, notes/*, approval, allow, looked at\n")
    through = ["plugins.call", "puppet", {"do": [write()]}]

    def called() -> Any:  # noqa: ANN401
        (told,) = alice(home).run("caller", through)
        return told[0]["denied"] if told[0] else None

    assert called() == "approval_required"
    assert sorted(each["subject"] for each in pending(home)) == ["plugin:caller", "plugin:puppet"]
    first, second = pending(home)
    bob(home).post(f"/v1/call-approvals/{first['id']}/approve", {})
    assert called() == "approval_required"
    assert asked(home) == ["approval_required"]  # the same write, not through the caller
    bob(home).post(f"/v1/call-approvals/{second['id']}/approve", {})
    assert called() is None
    assert called() == "approval_required"


@pytest.mark.parametrize("answered", [False, True])
def test_other_code_that_is_taken_over_voids_it(home: "Home", answered: bool) -> None:  # noqa: FBT001 (a column of a table)
    asked(home)
    (waits,) = pending(home)
    if answered:
        approve(home)
    folder = home.folder / "plugins" / "puppet"
    (folder / "main.py").write_text((folder / "main.py").read_text() + "\n# other code\n")
    assert home.owner.post("/v1/plugins/puppet/reload", {"reason": "edited"}).status_code == 200
    assert [each["id"] for each in pending(home, "void")] == [waits["id"]]
    assert asked(home) == ["approval_required"]


@pytest.mark.parametrize("nested", [False, True])
def test_a_call_on_old_code_uses_no_approval_of_new_code(home: "Home", nested: bool) -> None:  # noqa: FBT001 (a column of a table)
    home.install("caller", wants=("plugin_execute puppet", "vault_write notes"))
    late = ["plugins.call", "puppet", {"do": [write()]}]
    plugin_id = "caller" if nested else "puppet"
    old = alice(home).begin(plugin_id, ["sleep", 4], late if nested else write(), timeout_s=20)
    home.until(lambda: home.parts.pool._conversations)
    main = home.folder / "plugins" / plugin_id / "main.py"
    main.write_text(main.read_text() + "\n# other code\n")
    assert home.owner.post(f"/v1/plugins/{plugin_id}/reload", {"reason": "edited"}).status_code == 200
    (told,) = alice(home).run(plugin_id, late if nested else write())
    assert (told[0] if nested else told)["denied"] == "approval_required"
    approve(home)
    assert not old.done()
    told = old.result(20).json()["output"][1]
    assert (told[0] if nested else told)["denied"] == "approval_required"
    assert len(pending(home, "approved")) == 1
    (asked_by_old,) = pending(home)
    answer = bob(home).post(f"/v1/call-approvals/{asked_by_old['id']}/approve", {})
    assert answer.status_code == 409, answer.text  # that code is no more
    assert alice(home).run(plugin_id, late if nested else write()) == ([[None]] if nested else [None])


def test_a_full_queue_has_room_for_whoever_asks_little(home: "Home") -> None:
    often, seldom = alice(home), home.person("bob", "execute", "evaluate")
    for number in range(MOST_PENDING):
        often.post("/v1/decisions", question({"n": number}))
    first = pending(home)[0]["id"]
    answer = seldom.post("/v1/decisions", question({"v": 1}, user="bob")).json()
    assert answer["approval_id"] in {each["id"] for each in pending(home)}
    assert len(pending(home)) == MOST_PENDING
    (displaced,) = pending(home, "void")
    assert (displaced["asked_by"], displaced["args"]) == ("alice", None)
    assert displaced["decision_reason"].startswith("the queue was full")
    assert first in {each["id"] for each in pending(home)}  # who waits longest keeps their place
    assert "approval_id" not in often.post("/v1/decisions", question({"n": "more"})).json()


def test_what_a_capability_requires_twice_is_approved_once(home: "Home") -> None:
    code = "def put(ctx):\n    return 'done'\n"
    need = {"permission": "vault_write", "scope": SCOPE}
    home.install("doubler", code, capabilities=[{"name": "put", "requires": [need, need]}])
    home.rules(RULES + "p, doubler-asked, plugin:doubler, vault, write, notes/*, approval, allow, looked at\n")

    def put() -> dict[str, Any]:
        answer = alice(home).start("POST", "/v1/plugins/doubler/execute", {"payload": {"action": "put"}}).result(20)
        told: dict[str, Any] = answer.json()
        return told

    assert put()["reason"] == "approval_required"
    approve(home)
    assert put()["output"] == "done"
    assert put()["reason"] == "approval_required"
