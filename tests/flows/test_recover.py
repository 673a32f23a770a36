"""A start after a crash: what was begun is ended on the refusing side, told, and stops nothing that follows."""

import contextlib
from typing import TYPE_CHECKING

import pytest

from gateway.domain.lifecycle import State
from gateway.domain.names import PluginId
from gateway.registry.holds import new_hold

if TYPE_CHECKING:
    from tests.conftest import Home

PUPPET = PluginId("puppet")
ASK = {"subject": "plugin:puppet", "permission": "vault_read", "scope": "notes/a", "dry_run": True}


class CrashError(Exception):
    """The power goes."""


def crash_at(home: "Home", event_type: str, *, after: bool) -> None:
    """Let the log lose its power before or after a record, and everything after it fail."""
    append = home.parts.log.append
    dead = False

    async def failing(*records: object, **how: bool) -> tuple[int, ...]:
        nonlocal dead
        hit = any(each.event_type == event_type for each in records)  # type: ignore[attr-defined] # Records
        if dead or (hit and not after):
            dead = True
            raise CrashError
        seqs = await append(*records, **how)  # type: ignore[arg-type] # same
        if hit:
            dead = True
            raise CrashError
        return seqs

    home.parts.log.append = failing  # type: ignore[method-assign] # a crash, at a moment that can be chosen


def crash_and_start(home: "Home", method: str, path: str, event_type: str, *, after: bool) -> None:
    crash_at(home, event_type, after=after)
    assert home.owner.ask(method, path, {"reason": ""}).status_code == 500
    with contextlib.suppress(CrashError):
        home.close()
    home.open()


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("event_type", ["approved", "policy_activated", "activated"])
def test_a_half_approval_is_undone(home: "Home", event_type: str, after: bool) -> None:  # noqa: FBT001 (a column of a table)
    home.register("puppet", requested_permissions=[{"permission": "vault_read", "scope": "notes"}])
    before = home.grants
    crash_and_start(home, "POST", "/v1/plugins/puppet/approve", event_type, after=after)
    status = home.owner.get("/v1/policy").json()
    assert status["in_force"] is True
    assert status["problems"] == []
    assert home.state("puppet") == "registered"
    assert home.grants == before
    assert home.owner.post("/v1/decisions", ASK).json()["effect"] == "deny"
    assert len(home.owner.get("/v1/permission-requests", status="pending").json()["requests"]) == 1
    assert home.owner.post("/v1/plugins/puppet/approve", {"reason": ""}).status_code == 200
    assert home.owner.post("/v1/decisions", ASK).json()["effect"] == "allow"


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("event_type", ["revoked", "permission_revoked", "policy_activated"])
def test_a_half_revocation_is_finished(home: "Home", event_type: str, after: bool) -> None:  # noqa: FBT001 (same)
    home.install("puppet", wants=("vault_read notes",))
    crash_and_start(home, "POST", "/v1/plugins/puppet/revoke", event_type, after=after)
    status = home.owner.get("/v1/policy").json()
    assert status["in_force"] is True
    assert status["problems"] == []
    if event_type != "revoked" or after:
        assert home.state("puppet") == "revoked"
    if home.state("puppet") == "revoked":
        assert "puppet" not in home.grants
        assert home.parts.registry.holds.holds == {}
        home.owner.post("/v1/plugins", {"folder": "puppet"})
        home.write_plugin("puppet")
        home.owner.post("/v1/plugins", {"folder": "puppet"})
    assert home.parts.registry.grants.live(PUPPET) == () or home.state("puppet") == "active"


def test_a_hold_whose_line_is_still_there_breaks_no_start(home: "Home") -> None:
    home.install("puppet", wants=("vault_read notes",))
    grant = home.parts.registry.grants.live(PUPPET)[-1]
    home.parts.registry.holds.hold([new_hold("h1", PUPPET, grant.number, reason="", by="root", at=home.parts.now())])
    home.parts.registry.grants.end([grant.number], by="root", at=home.parts.now(), reason="")
    home.reopen()
    assert home.owner.get("/v1/policy").json()["in_force"] is True
    assert f"{grant.id}," not in home.grants
    assert home.parts.registry.holds.holds == {}
    assert home.owner.post("/v1/decisions", ASK).json()["effect"] == "deny"
    assert home.person("alice", "execute").run("puppet") == []


def test_a_hold_denies_though_the_line_is_in_force(home: "Home") -> None:
    home.install("puppet", wants=("vault_read notes",))
    grant = home.parts.registry.grants.live(PUPPET)[-1]
    home.parts.registry.holds.hold([new_hold("h1", PUPPET, grant.number, reason="", by="root", at=home.parts.now())])
    assert home.owner.post("/v1/decisions", ASK).json()["reason"] == "held"
    home.rules("p, also, plugin:puppet, vault, read, notes/a, -, allow, by a person\n")
    decided = home.owner.post("/v1/decisions", ASK).json()
    assert (decided["effect"], decided["rule"]["id"]) == ("allow", "also")


def test_a_revoked_plugins_forgotten_grants_are_taken_at_the_next_start(home: "Home") -> None:
    home.install("puppet", wants=("vault_read notes",))
    plugin = home.parts.registry.plugins.get("puppet")
    assert plugin is not None
    home.parts.registry.plugins.move(plugin, State.REVOKED, reason="", at=home.parts.now())
    home.reopen()
    assert "puppet" not in home.grants
    home.owner.post("/v1/plugins", {"folder": "puppet"})
    assert home.parts.registry.grants.live(PUPPET) == ()


def test_an_undone_approval_reopens_no_request_of_an_earlier_life(home: "Home") -> None:
    home.install("puppet", wants=("vault_write everything",))
    home.owner.post("/v1/plugins/puppet/revoke", {"reason": ""})
    home.write_plugin("puppet", requested_permissions=[{"permission": "vault_read", "scope": "notes"}])
    assert home.owner.post("/v1/plugins", {"folder": "puppet"}).status_code == 201
    crash_and_start(home, "POST", "/v1/plugins/puppet/approve", "activated", after=True)
    home.owner.post("/v1/plugins/puppet/approve", {"reason": ""})
    assert "everything" not in home.grants
    assert "notes/*" in home.grants


def test_an_execution_without_an_outcome_is_told_as_lost_once(home: "Home") -> None:
    home.install("puppet")
    crash_at(home, "execution_completed", after=False)
    assert home.owner.begin("puppet").result(20).status_code == 500
    with contextlib.suppress(CrashError):
        home.close()
    home.open()
    (lost,) = home.records(event_type="execution_lost")
    (intent,) = home.records(event_type="execution_started")
    assert (lost["resolution"], lost["plugin_id"]) == ("unknown", "puppet")
    assert lost["seq"] > intent["seq"]
    home.reopen()
    assert len(home.records(event_type="execution_lost")) == 1
