"""Imports of grants: the difference first, all of it or nothing, and nothing is ever taken away; grants nobody uses."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from gateway.domain.record import Record
from gateway.errors import LogUnavailableError

if TYPE_CHECKING:
    from tests.conftest import Home, MakeHome

WANTS = ("vault_read notes", "network_read example.com")


@pytest.fixture
def home(make_home: "MakeHome") -> "Home":
    home = make_home()
    home.install("puppet")
    home.install("other")
    return home


def grant(**members: object) -> dict[str, object]:
    return {"plugin_id": "puppet", "permission": "vault_read", "scope": "notes/*", "condition": "-", **members}


def send(home: "Home", *grants: dict[str, object], who: Any = None, dry: bool = False, **more: object) -> Any:  # noqa: ANN401 (an httpx.Response)
    path = f"/v1/permissions/import{'?dry_run=true' if dry else ''}"
    return (who or home.owner).post(path, {"version": 1, "grants": list(grants), **more})


def test_what_one_home_exports_another_can_import(make_home: "MakeHome") -> None:
    first, second = make_home(), make_home()
    for one in (first, second):
        one.install("puppet", wants=WANTS if one is first else ())
        one.install("other")
    asked = {"permission": "vault_write", "scope": "a, b", "conditions": {"user_consent": True, "rate_limit": 5}}
    wish = first.owner.post("/v1/permission-requests", {"plugin_id": "other", "permissions": [asked]}).json()
    first.owner.post(f"/v1/permission-requests/{wish['id']}/approve", {"reason": '100 %, "sure"'})
    first.rules("p, mine, plugin:puppet, core, read, x, -, allow, by hand\n")
    exported = first.owner.get("/v1/permissions/export").json()
    dry = second.owner.post("/v1/permissions/import?dry_run=true", exported).json()
    assert [each["permission"] for each in dry["add"]] == ["vault_read", "network_read", "vault_write"]
    assert [each["permission"] for each in dry["by_rule"]] == ["core_read"]
    assert dry["applied"] is False
    before = second.grants
    assert second.grants == before
    done = second.owner.post("/v1/permissions/import", exported)
    assert done.status_code == 200, done.text
    assert (done.json()["applied"], len(done.json()["add"])) == (True, 3)
    wanted = {(each["plugin_id"], each["permission"], each["scope"], each["condition"], each["why"])
              for each in exported["grants"] if each["granted"]}  # fmt: skip
    here = second.owner.get("/v1/permissions/export").json()["grants"]
    assert {
        (each["plugin_id"], each["permission"], each["scope"], each["condition"], each["why"]) for each in here
    } == (wanted)
    again = second.owner.post("/v1/permissions/import", exported).json()
    assert (again["add"], len(again["same"])) == ([], 5)
    records = [row for row in second.records(event_type="permission_approved") if row["details"].get("imported")]
    assert sorted(row["plugin_id"] for row in records) == ["other", "puppet"]


WRONG: dict[str, dict[str, object]] = {
    "a plugin that is not here": {"plugin_id": "absent"},
    "no permission": {"permission": "vault_reed"},
    "no scope": {"scope": "../x"},
    "another spelling": {"scope": "notes//a"},
    "an unknown condition": {"condition": "moon"},
    "a second rule": {"condition": "-, allow, x\np, grant-9, plugin:puppet, vault, admin, *, -, allow, y"},
    "a field too many": {"condition": "consent, allow"},
    "what two must approve": {"permission": "system_execute", "scope": "/bin/ls"},
    "a time that is none": {"condition": "until(soon)"},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_failed_import_changes_nothing(home: "Home", wrong: dict[str, object]) -> None:
    asked = {"plugin_id": "puppet", "permissions": [{"permission": "core_read", "scope": "x"}]}
    wish = home.owner.post("/v1/permission-requests", asked).json()
    home.owner.post(f"/v1/permission-requests/{wish['id']}/approve", {"reason": ""})
    before, live = home.grants, home.parts.registry.grants.live()
    for dry in (True, False):
        answer = send(home, grant(), grant(**wrong), grant(plugin_id="other"), dry=dry)
        assert answer.status_code == 400, answer.text
        assert "grants[1]" in answer.text
    assert home.grants == before
    assert home.parts.registry.grants.live() == live
    assert home.reload().problems == ()


@pytest.mark.parametrize("failing", ["permission_approved", "policy_activated"])
def test_an_import_that_cannot_be_finished_grants_nobody_anything(
    home: "Home", monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    before = home.grants
    append = home.parts.log.append

    async def full(*records: Record, **how: bool) -> tuple[int, ...]:
        if any(each.event_type == failing for each in records):
            raise LogUnavailableError("the disk is full")
        return await append(*records, **how)

    monkeypatch.setattr(home.parts.log, "append", full)
    assert send(home, grant(), grant(plugin_id="other")).status_code == 503
    monkeypatch.undo()
    home.until(lambda: home.grants == before and not home.parts.unfinished)
    ask = {"permission": "vault_read", "scope": "notes/a", "dry_run": True}
    for plugin in ("puppet", "other"):
        assert home.owner.post("/v1/decisions", {**ask, "subject": f"plugin:{plugin}"}).json()["effect"] == "deny"
    assert send(home, grant(), grant(plugin_id="other")).status_code == 200


def test_it_takes_nothing_away(home: "Home") -> None:
    send(home, grant(), grant(scope="diary/*"))
    done = send(home, grant(scope="more/*")).json()
    assert {each["scope"] for each in done["only_here"]} == {"notes/*", "diary/*", "puppet", "other"}
    assert send(home).json()["applied"] is True
    shown = home.owner.get("/v1/plugins/puppet/permissions").json()["grants"]
    assert {each["scope"] for each in shown} == {"notes/*", "diary/*", "more/*", "puppet"}


def test_a_plugin_that_no_person_approved_gets_nothing_by_it(home: "Home") -> None:
    home.register("third")
    assert "a person approves it first" in send(home, grant(plugin_id="third")).text
    home.owner.post("/v1/plugins/other/revoke", {"reason": ""})
    assert "revoked here" in send(home, grant(plugin_id="other")).text


def test_only_who_may_approve_each_plugin_imports(home: "Home") -> None:
    assert send(home, grant(), who=home.person("erin", "approve", "admin")).status_code == 403
    assert send(home, grant(), who=home.person("bob", "admin", "execute")).status_code == 403
    assert send(home, who=home.person("erin", "approve")).status_code == 403
    assert send(home, grant(), who=home.person("erin", "approve"), dry=True).status_code == 403
    assert send(home, grant(), who=home.person("bob", "approve")).status_code == 200


@pytest.mark.parametrize(
    "body", [{"version": 2, "grants": []}, {"grants": []}, {"version": 1}, {"version": "1", "grants": []}]
)
def test_what_is_no_export_is_refused(home: "Home", body: dict[str, object]) -> None:
    assert home.owner.post("/v1/permissions/import", body).status_code == 400


def test_while_a_policy_file_is_broken_nothing_is_imported(home: "Home") -> None:
    home.write_rules("p, broken\n")
    assert home.reload().problems != ()
    assert send(home, grant()).status_code == 409


def test_grants_that_nobody_uses_are_told(home: "Home") -> None:
    send(home, grant(), grant(scope="diary/*"))
    home.person("alice", "execute").run("puppet", ["vault.list", "notes"])

    def unused(days: int = 90) -> dict[str, str | None]:
        found = home.owner.get("/v1/permissions/unused", days=days).json()["grants"]
        return {each["scope"]: each["last_used_at"] for each in found}

    assert unused() == {"diary/*": None, "other": None}
    home.reopen()
    assert unused() == {"diary/*": None, "other": None}
    home.at(datetime.now(UTC) + timedelta(days=91))
    late = unused()
    assert set(late) == {"notes/*", "diary/*", "puppet", "other"}
    assert late["notes/*"] is not None
    assert home.owner.get("/v1/permissions/unused", days=-1).status_code == 400
    for user in ("erin", "alice", "dave"):
        assert home.person(user, "audit").get("/v1/permissions/unused").status_code == 403
    assert home.person("bob", "approve").get("/v1/permissions/unused").status_code == 200
