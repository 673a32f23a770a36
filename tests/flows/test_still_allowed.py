"""What is taken away while an allow is recorded is taken away: the deed that it allowed is not done any more."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gateway.domain.lifecycle import State
from gateway.domain.names import UserId
from gateway.domain.record import Record
from gateway.errors import NotFoundError

if TYPE_CHECKING:
    from tests.conftest import Home, MakeHome

REASON = {"reason": "stop"}
WRITER = "def execute(ctx, payload):\n    with open(payload['path'], 'w') as file:\n        file.write('late')\n"


def take(home: "Home", how: str) -> None:
    """Begin to take away, without waiting for its end."""
    owner = home.owner
    match how:
        case "suspend" | "revoke" | "uninstall":
            owner.start("POST", f"/v1/plugins/puppet/{how}", REASON)
        case "grants":
            owner.start("POST", "/v1/plugins/puppet/permissions/revoke", REASON)
        case "consent":
            (consent,) = home.parts.registry.consents.find(user_id="alice")
            owner.start("DELETE", f"/v1/consents/{consent.id}")
        case lockdown:
            owner.start("POST", "/v1/lockdown", {"scope": lockdown, **REASON})


def is_taken(home: "Home", how: str) -> bool:
    registry = home.parts.registry
    match how:
        case "suspend" | "revoke" | "uninstall":
            plugin = registry.plugins.get("puppet")
            return plugin is None or plugin.state is not State.ACTIVE
        case "grants":
            return bool(registry.holds.held_grants("puppet"))
        case "consent":
            return registry.consents.find(user_id="alice")[0].ended_at is not None
        case _:
            return bool(registry.holds.lockdowns)


def taken_when_recorded(home: "Home", how: str, wanted: Callable[[Record], bool]) -> list[str]:
    """Have it taken away in the moment when such a record is durable; gives what was taken."""
    append = home.parts.log.append
    taken: list[str] = []

    async def recorded(*records: Record, **given: bool) -> tuple[int, ...]:
        numbers = await append(*records, **given)
        if not taken and any(map(wanted, records)):
            taken.append(how)
            take(home, how)
            while not is_taken(home, how):  # noqa: ASYNC110 (nobody tells of it before its record)
                await asyncio.sleep(0)
        return numbers

    home.parts.log.append = recorded  # type: ignore[method-assign] # to act at this very moment
    return taken


def consented(make_home: "MakeHome", **members: object) -> "Home":
    """Give a home in which the puppet may write notes of alice, who consented."""
    home = make_home(rules="p, asked, plugin:puppet, vault, write, notes/*, consent, allow, with consent\n")
    home.install("puppet")
    wish = {"user_id": "alice", "plugin_id": "puppet", "permission": "vault_write", "scope": "notes/*", **members}
    assert home.person("alice", "consent").post("/v1/consents", wish).status_code == 201
    return home


@pytest.mark.parametrize(
    "how", ["suspend", "revoke", "uninstall", "grants", "consent", "all", "user:alice", "kind:vault", "plugin:puppet"]
)
def test_a_deed_is_not_done_when_what_allowed_it_was_taken_away_meanwhile(make_home: "MakeHome", how: str) -> None:
    if how == "consent":
        home = consented(make_home)
    else:
        home = make_home()
        home.install("puppet", wants=("vault_write notes",))
    taken = taken_when_recorded(
        home, how, lambda each: each.decision is not None and each.decision.request.kind == "vault"
    )
    answer = home.person("alice", "execute").begin("puppet", ["vault.write", "notes/a", "late"]).result(20)
    assert (answer.json()["outcome"], taken) == ("killed", [how])
    with pytest.raises(NotFoundError):
        home.parts.resources.vault.read(UserId("alice"), "notes/a")


def test_a_deed_whose_consent_was_for_one_use_is_done_once(make_home: "MakeHome") -> None:
    home = consented(make_home, once=True)
    write: list[Any] = ["vault.write", "notes/a"]
    told = home.person("alice", "execute").run("puppet", [*write, "first"], [*write, "second"])
    assert (told[0], told[1]["denied"]) == (None, "consent_required")
    assert home.parts.resources.vault.read(UserId("alice"), "notes/a") == "first"


def test_a_call_whose_consent_is_withdrawn_while_its_intent_is_recorded_does_not_run(make_home: "MakeHome") -> None:
    home = make_home(rules="p, asked, plugin:puppet, vault, read, notes/a, consent, allow, with consent\n")
    needs = [{"permission": "vault_read", "scope": "notes/a"}]
    home.install(
        "puppet",
        "def look(ctx):\n    print('I run')\n",
        capabilities=[{"name": "look", "parameters": {}, "requires": needs}],
    )
    alice = home.person("alice", "execute", "consent")
    wish = {"user_id": "alice", "plugin_id": "puppet", "permission": "vault_read", "scope": "notes/*"}
    assert alice.post("/v1/consents", wish).status_code == 201
    taken = taken_when_recorded(home, "consent", lambda each: each.event_type == "execution_started")
    answer = alice.post("/v1/plugins/puppet/execute", {"payload": {"action": "look"}}).json()
    assert taken == ["consent"]
    assert (answer["outcome"], answer["sandbox_result"]["stdout"]) == ("killed", "")
    assert home.records(event_type="execution_failed")[-1]["resolution"] == "killed"


@pytest.mark.parametrize("how", ["revoke", "grants", "all"])
def test_what_a_call_wrote_is_not_kept_when_its_right_was_taken_away_meanwhile(
    home: "Home", tmp_path: Path, how: str
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    home.install("puppet", WRITER, wants=(f"file_write {shared}",), sandbox_config={"file_access": [str(shared)]})
    writes: list[Record] = []

    def is_kept(record: Record) -> bool:
        if record.decision is not None and record.decision.request.permission == "file_write":
            writes.append(record)
        return len(writes) == 2  # to see the folder, and to keep what was written

    taken = taken_when_recorded(home, how, is_kept)
    payload = {"path": str(shared / "note")}
    answer = home.person("alice", "execute").post("/v1/plugins/puppet/execute", {"payload": payload}).json()
    assert taken == [how]
    assert not answer["success"]
    assert list(shared.iterdir()) == []
