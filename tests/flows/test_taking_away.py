"""Giving waits for its record; taking away waits for nothing, not for 100,000 rules and not for a broken file."""

import time
from typing import TYPE_CHECKING, Any

import pytest

from gateway.domain.record import Record
from gateway.errors import LogUnavailableError

if TYPE_CHECKING:
    from tests.conftest import Home, MakeHome

MANY = 100_000
LEAST_S = 0.1
ASK = {"subject": "plugin:puppet", "permission": "vault_read", "scope": "notes/a", "user": "alice"}


def full_for(home: "Home", monkeypatch: pytest.MonkeyPatch, event_type: str) -> None:
    append = home.parts.log.append

    async def full(*records: Record, **how: bool) -> tuple[int, ...]:
        if any(each.event_type == event_type for each in records):
            raise LogUnavailableError("the disk is full")
        return await append(*records, **how)

    monkeypatch.setattr(home.parts.log, "append", full)


GIVING: dict[str, tuple[str, str, dict[str, Any]]] = {
    "registered": ("POST", "/v1/plugins", {"folder": "puppet"}),
    "approved": ("POST", "/v1/plugins/puppet/approve", {"reason": ""}),
    "activated": ("POST", "/v1/plugins/puppet/resume", {"reason": ""}),
    "permission_requested": (
        "POST",
        "/v1/permission-requests",
        {"plugin_id": "puppet", "permissions": [{"permission": "core_read", "scope": "x"}]},
    ),
    "consent_given": (
        "POST",
        "/v1/consents",
        {"user_id": "alice", "plugin_id": "puppet", "permission": "vault_read", "scope": "notes/*"},
    ),
}


@pytest.mark.parametrize("event_type", GIVING)
def test_nothing_is_given_that_could_not_be_recorded(
    home: "Home", monkeypatch: pytest.MonkeyPatch, event_type: str
) -> None:
    home.write_plugin("puppet")
    if event_type != "registered":
        home.register("puppet")
    if event_type == "activated":
        home.owner.post("/v1/plugins/puppet/approve", {"reason": ""})
        home.owner.post("/v1/plugins/puppet/suspend", {"reason": ""})

    def standing() -> tuple[object, ...]:
        plugin = home.parts.registry.plugins.get("puppet")
        waiting = home.parts.registry.requests.find()
        return (plugin and plugin.state, home.grants, waiting, home.parts.registry.consents.find())

    before = standing()
    full_for(home, monkeypatch, event_type)
    assert home.owner.ask(*GIVING[event_type]).status_code == 503
    assert standing() == before


@pytest.mark.timeout(110)
def test_it_denies_at_once_at_a_hundred_thousand_rules(make_home: "MakeHome") -> None:
    lines = [f"p, r{n}, plugin:p{n % 997}, vault, read, a{n}/*, -, allow, x\n" for n in range(MANY)]
    home = make_home(rules="".join(lines))
    home.install("puppet", wants=("vault_read notes",))
    began = home.person("alice", "execute").begin("puppet", ["sleep", 60], timeout_s=60)
    home.until(lambda: home.parts.pool._conversations)
    assert home.owner.post("/v1/decisions", ASK).json()["effect"] == "allow"
    home.write_rules("p, broken\n", "91-broken.csv")
    home.until(lambda: home.parts.policy.problems)
    append = home.parts.log.append
    held: list[float] = []
    start = 0.0

    async def looking(*records: Record, **how: bool) -> tuple[int, ...]:
        if any(each.event_type == "permission_revoked" for each in records):
            held.append(time.process_time() - start)
            assert home.parts.registry.holds.held_grants("puppet")
        return await append(*records, **how)

    home.parts.log.append = looking  # type: ignore[method-assign] # to look while it is recorded
    start = time.process_time()
    revoking = home.owner.start("POST", "/v1/plugins/puppet/permissions/revoke", {"reason": "now"})
    home.until(lambda: held)
    denied = home.owner.post("/v1/decisions", ASK).json()
    assert denied["effect"] == "deny"
    assert held[0] < LEAST_S
    assert began.result(20).json()["outcome"] == "killed"
    assert revoking.result(60).status_code == 200
    assert home.parts.policy.problems
    assert home.owner.post("/v1/decisions", ASK).json()["effect"] == "deny"
