"""The approval queue: whole, in part, for a time, or not at all; and what is granted is read from the policy."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from gateway.domain.decision import timestamp
from gateway.domain.names import PluginId
from gateway.domain.record import Record
from gateway.errors import ConflictError, LogUnavailableError

if TYPE_CHECKING:
    from tests.conftest import Home

WANTED: list[dict[str, Any]] = [
    {"permission": "vault_read", "scope": "a"},
    {"permission": "vault_write", "scope": "a", "conditions": {"user_consent": True}},
    {"permission": "network_read", "scope": "example.com", "conditions": {"rate_limit": 5}},
]


def request(home: "Home", *permissions: dict[str, Any]) -> str:
    body = {"plugin_id": "puppet", "permissions": list(permissions), "reason": "need"}
    answer = home.owner.post("/v1/permission-requests", body)
    assert answer.status_code == 201, answer.text
    request_id: str = answer.json()["id"]
    return request_id


@pytest.fixture(scope="module")
def puppets_home(quiet_home: "Home") -> "Home":
    """Give a home, shared by the tests of this module, whose plugin they only ask about."""
    quiet_home.install("puppet")
    return quiet_home


async def until(true: Callable[[], bool]) -> None:
    """Wait on the home's own loop."""
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 (others' state, which tells nobody)
            await asyncio.sleep(0)


def granted(home: "Home") -> list[tuple[str, str, str]]:
    shown = home.owner.get("/v1/plugins/puppet/permissions").json()["grants"]
    return [
        (each["permission"], each["scope"], each["condition"])
        for each in shown
        if each["permission"] != "plugin_execute"
    ]


def approve(home: "Home", request_id: str, **members: object) -> Any:  # noqa: ANN401 (an httpx.Response)
    return home.owner.post(f"/v1/permission-requests/{request_id}/approve", {"reason": "ok", **members})


def test_a_request_is_approved_whole_with_its_conditions(home: "Home") -> None:
    home.install("puppet")
    request_id = request(home, *WANTED)
    assert granted(home) == []
    approved = approve(home, request_id).json()
    assert (approved["status"], "given" in approved) == ("approved", False)
    assert granted(home) == [
        ("vault_read", "a/*", "-"),
        ("vault_write", "a/*", "consent"),
        ("network_read", "example.com", "rate(5/60s)"),
    ]
    assert approve(home, request_id).status_code == 409


@pytest.mark.parametrize(
    "chosen", [["vault_read"], [{"permission": "vault_read"}], [{"permission": "vault_read", "scope": "a/*"}]]
)
def test_a_part_is_approved_and_no_more(home: "Home", chosen: list[object]) -> None:
    home.install("puppet")
    assert approve(home, request(home, *WANTED), permissions=chosen).status_code == 200
    assert granted(home) == [("vault_read", "a/*", "-")]
    approved = home.records(event_type="permission_approved")[-1]["details"]["permissions"]
    assert [each["permission"] for each in approved] == ["vault_read"]
    home.reopen()
    (told,) = [each for each in home.owner.get("/v1/permission-requests").json()["requests"] if each["type"] == "more"]
    assert len(told["permissions"]) == len(WANTED)
    assert [(each["permission"], each["condition"]) for each in told["given"]] == [("vault_read", "-")]


@pytest.mark.parametrize(
    ("members", "status"),
    [
        ({"permissions": ["vault_admin"]}, 409),
        ({"permissions": [{"permission": "vault_read", "scope": "*"}]}, 409),
        ({"permissions": [{"permission": "vault_read", "scope": "b/*"}]}, 409),
        ({"permissions": []}, 409),
        ({"until": "2001-01-01T00:00:00Z"}, 400),
        ({"until": "tomorrow"}, 400),
        ({"until": "2099-01-01T00:00:00"}, 400),
        ({"permissions": [{"permission": "vault_read", "conditions": {}}]}, 400),
    ],
)
def test_nothing_is_granted_that_was_not_asked_for(home: "Home", members: dict[str, object], status: int) -> None:
    home.install("puppet")
    request_id = request(home, *WANTED)
    assert approve(home, request_id, **members).status_code == status
    assert granted(home) == []
    (pending,) = home.owner.get("/v1/permission-requests", status="pending").json()["requests"]
    assert pending["id"] == request_id


def test_a_grant_for_a_time_ends_with_it(home: "Home") -> None:
    home.install("puppet")
    end = datetime.now(UTC) + timedelta(hours=1)
    answer = approve(home, request(home, WANTED[0]), until=timestamp(end))
    assert [each["condition"] for each in answer.json()["given"]] == [f"until({timestamp(end)})"]
    ask = {"subject": "plugin:puppet", "permission": "vault_read", "scope": "a/x", "dry_run": True}
    assert home.owner.post("/v1/decisions", ask).json()["effect"] == "allow"
    home.at(end)
    assert home.owner.post("/v1/decisions", ask).json()["reason"] == "condition"


def test_a_request_is_denied_and_stays_denied(home: "Home") -> None:
    home.install("puppet")
    request_id = request(home, *WANTED)
    denied = home.owner.post(f"/v1/permission-requests/{request_id}/deny", {"reason": "too much"}).json()
    assert (denied["status"], denied["decision_reason"]) == ("denied", "too much")
    assert approve(home, request_id).status_code == 409
    assert granted(home) == []
    assert home.records(event_type="permission_denied")[-1]["resolution"] == "denied"


@pytest.mark.parametrize(
    "wrong",
    [
        {"permission": "vault_reed", "scope": "a"},
        {"permission": "vault_read"},
        {"permission": "vault_read", "scope": ""},
        {"permission": "vault_read", "scope": "a/../b"},
        {"permission": "vault_read", "scope": "a", "level": "write"},
        {"permission": "vault_read", "scope": "a", "conditions": {"moon": "full"}},
        {"permission": "vault_read", "scope": "a", "conditions": {"valid_until": "soon"}},
        {"permission": "vault_read", "scope": "a", "conditions": {"rate_limit": 0}},
        {"permission": "vault_read", "scope": "a", "conditions": {"user_consent": "yes"}},
        {"permission": "vault_read", "scope": "a", "auto_approve": True},
        {
            "permission": "vault_read",
            "scope": "a",
            "conditions": {"time_restriction": {"days": ["Mon"], "from": "09:00", "to": "17:00", "tz": "Moon/Base"}},
        },
        {
            "permission": "vault_read",
            "scope": "a",
            "conditions": {
                "time_restriction": {"days": ["Mon"], "from": "09:00", "to": "17:00", "tz": "UTC), allow, x\np"}
            },
        },
    ],
)
def test_a_wish_that_cannot_be_understood_is_not_queued(puppets_home: "Home", wrong: dict[str, object]) -> None:
    body = {"plugin_id": "puppet", "permissions": [wrong]}
    assert puppets_home.owner.post("/v1/permission-requests", body).status_code == 400
    assert puppets_home.owner.get("/v1/permission-requests", status="pending").json()["requests"] == []


@pytest.mark.parametrize(
    "text", ["a, b", "a\np, grant-9, plugin:puppet, vault, admin, *, -, allow, x", "100 % \"x\" 'y' #", " "]
)
def test_no_text_of_a_person_becomes_a_rule(home: "Home", text: str) -> None:
    home.install("puppet")
    assert approve(home, request(home, {**WANTED[0], "purpose": text}), reason=text).status_code == 200
    assert granted(home) == [("vault_read", "a/*", "-")]
    assert home.reload().problems == ()
    shown = home.owner.get("/v1/plugins/puppet/permissions").json()["grants"]
    assert shown[-1]["why"] == text


def test_revoking_what_is_not_granted_is_told(home: "Home") -> None:
    home.install("puppet")
    for body in ({"permission": "vault_read"}, {"scope": "a/*"}, {"permission": "plugin_execute", "scope": "other"}):
        answer = home.owner.post("/v1/plugins/puppet/permissions/revoke", {**body, "reason": ""})
        assert answer.status_code == 404, answer.text
    assert (
        home.owner.post("/v1/plugins/puppet/permissions/revoke", {"permission": "x", "reason": ""}).status_code == 400
    )


def test_what_is_granted_is_read_from_the_files(home: "Home") -> None:
    home.install("puppet")
    home.rules("p, mine, plugin:puppet, vault, read, b/*, consent, allow, by hand\n")
    assert granted(home) == [("vault_read", "b/*", "consent")]
    shown = home.owner.get("/v1/plugins/puppet/permissions").json()["grants"]
    assert {each["permission"]: each["granted"] for each in shown} == {"plugin_execute": True, "vault_read": False}


@pytest.mark.parametrize("verb", ["revoke", "uninstall"])
def test_what_is_approved_while_its_plugin_is_taken_away_is_not_granted(
    home: "Home", monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    home.install("puppet")
    request_id = request(home, WANTED[0])
    append = home.parts.log.append
    taking: list[Any] = []
    told: set[str] = set()

    async def meanwhile(*records: Record, sign: bool = False) -> tuple[int, ...]:
        seqs = await append(*records, sign=sign)
        told.update(each.event_type for each in records)
        if not taking and "permission_approved" in told:
            taking.append(home.owner.start("POST", f"/v1/plugins/puppet/{verb}", {"reason": "bad"}))
            await until(lambda: bool(told & {"revoked", "uninstalled"}))
            for _ in range(100):  # as far as it comes without the lock that the approval holds
                await asyncio.sleep(0)
        return seqs

    monkeypatch.setattr(home.parts.log, "append", meanwhile)
    assert approve(home, request_id).status_code == 409
    assert taking[0].result(20).status_code == 200
    assert home.parts.registry.grants.live(PluginId("puppet")) == ()
    assert "vault" not in home.grants


@pytest.mark.parametrize("kind", ["its first ones", "more"])
@pytest.mark.parametrize("failing", ["the log", "the file", "the registry"])
def test_an_approval_that_cannot_be_finished_is_undone_and_its_record_corrected(
    home: "Home", monkeypatch: pytest.MonkeyPatch, failing: str, kind: str
) -> None:
    if kind == "more":
        home.install("puppet")
        request_id = request(home, WANTED[0])
    else:
        home.register("puppet", requested_permissions=[WANTED[0]])
        (waiting,) = home.owner.get("/v1/permission-requests", status="pending").json()["requests"]
        request_id = waiting["id"]
    before = home.grants
    state = home.state("puppet")
    append = home.parts.log.append

    async def fail_after_the_approval(*records: Record, **how: bool) -> tuple[int, ...]:
        if any(each.event_type == "policy_activated" for each in records):
            if failing == "the registry":
                home.parts.registry.grants._connection.execute("PRAGMA query_only = ON")
            raise LogUnavailableError("the disk is gone")
        return await append(*records, **how)

    if failing == "the file":
        monkeypatch.setattr("gateway.flows.grants.write_grants", _edited_meanwhile)
    else:
        monkeypatch.setattr(home.parts.log, "append", fail_after_the_approval)
    assert approve(home, request_id).status_code == (409 if failing == "the file" else 503)
    monkeypatch.undo()
    denied = home.owner.post(
        "/v1/decisions", {"subject": "plugin:puppet", "permission": "vault_read", "scope": "a/x", "user": "alice"}
    )
    assert denied.json()["effect"] == "deny"
    home.parts.registry.grants._connection.execute("PRAGMA query_only = OFF")
    home.until(lambda: home.state("puppet") == state and not home.parts.unfinished)
    home.until(lambda: home.grants == before)
    corrected = home.records(event_type="permission_revoked")[-1]
    assert corrected["details"]["reason"] == "the approval could not be finished and was undone"
    assert approve(home, request_id).status_code == 200
    assert home.state("puppet") == "active"
    assert home.grants.count("vault") == 1


def _edited_meanwhile(*_: object, **__: object) -> None:
    raise ConflictError("grants.csv was edited meanwhile")


def test_what_is_approved_is_what_was_looked_at(home: "Home") -> None:
    home.register("puppet", requested_permissions=[{"permission": "vault_read", "scope": "old"}])
    (looked_at,) = home.owner.get("/v1/permission-requests", status="pending").json()["requests"]
    home.write_plugin("puppet", "def execute(ctx, payload):\n    return 'other code'\n")
    editing = home.parts.editing

    async def one_after_the_other() -> list[httpx.Response]:
        async with editing:
            anew = home.owner.start("POST", "/v1/plugins", {"folder": "puppet"})
            await until(lambda: len(editing._waiters or ()) == 1)
            path = f"/v1/permission-requests/{looked_at['id']}/approve"
            approved = home.owner.start("POST", path, {"reason": "I looked"})
            await until(lambda: len(editing._waiters or ()) == 2)
        return [await asyncio.wrap_future(each) for each in (anew, approved)]

    anew, approved = home.do(one_after_the_other())
    assert (anew.status_code, approved.status_code) == (201, 409)
    assert home.state("puppet") == "registered"
    assert "old" not in home.grants
