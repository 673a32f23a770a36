"""What approval.toml grants without asking: that and no more, told as the policy's doing, and for no plugin's start."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from gateway.domain.names import PluginId

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Home

NOTES = {"permission": "vault_read", "scope": "notes"}  # the starter policy's entry covers it
MORE = {"permission": "vault_read", "scope": "diary"}
ASK = {"subject": "plugin:puppet", "permission": "vault_read", "scope": "notes/a", "dry_run": True}


def autos(home: "Home", text: str) -> None:
    (home.folder / "policies" / "approval.toml").write_text(text)
    assert home.reload().problems == ()


def entry(permission: str, scope: str, *, tier: str = "critical", plugin: str | None = None) -> str:
    text = f'[[auto]]\npermission = "{permission}"\nscope = "{scope}"\nmax_tier = "{tier}"\n'
    return text if plugin is None else f'{text}plugin = "{plugin}"\n'


def requests(home: "Home", **wanted: object) -> list[tuple[str, str, list[str]]]:
    found = home.owner.get("/v1/permission-requests", **wanted).json()["requests"]
    return [(each["type"], each["status"], [one["permission"] for one in each["permissions"]]) for each in found]


def request_more(home: "Home", *permissions: dict[str, Any]) -> Any:  # noqa: ANN401 (an httpx.Response)
    return home.owner.post("/v1/permission-requests", {"plugin_id": "puppet", "permissions": list(permissions)})


def effect(home: "Home", **members: object) -> str:
    found: str = home.owner.post("/v1/decisions", {**ASK, **members}).json()["effect"]
    return found


def test_what_is_covered_is_approved_by_the_policy_and_granted_with_activation(home: "Home") -> None:
    autos(home, entry("vault_read", "notes/*"))
    shown = home.register("puppet", requested_permissions=[NOTES, MORE])
    assert shown["status"] == "registered"
    assert requests(home) == [("automatic", "approved", ["vault_read"]), ("register", "pending", ["vault_read"])]
    (record,) = home.records(event_type="permission_approved")
    told = record["details"]
    assert (told["by"], told["permissions"][0]["scope"]) == ("policy", "notes/*")
    assert told["entries"] == ["approval.toml:1: vault_read notes/* max_tier=critical"]
    assert "vault" not in home.grants
    assert effect(home) == "deny"
    (_, waits) = home.owner.get("/v1/permission-requests").json()["requests"]
    assert [each["scope"] for each in waits["permissions"]] == ["diary/*"]
    assert home.owner.post("/v1/plugins/puppet/approve", {"reason": ""}).status_code == 200
    assert (effect(home), effect(home, scope="diary/x")) == ("allow", "allow")


def test_a_partial_yes_of_a_person_takes_nothing_of_it_away(home: "Home") -> None:
    autos(home, entry("vault_read", "notes/*"))
    wants = [NOTES, MORE, {"permission": "core_read", "scope": "x"}]
    home.register("puppet", requested_permissions=wants)
    (waits,) = home.owner.get("/v1/permission-requests", status="pending").json()["requests"]
    path = f"/v1/permission-requests/{waits['id']}/approve"
    assert home.owner.post(path, {"reason": "", "permissions": ["core_read"]}).status_code == 200
    assert (effect(home), effect(home, scope="diary/x")) == ("allow", "deny")
    told = home.records(event_type="permission_approved")[-1]["details"]["permissions"]
    assert [each["permission"] for each in told] == ["core_read"]


def test_a_plugin_all_of_whose_wishes_are_covered_waits_for_a_person_all_the_same(home: "Home") -> None:
    home.register("puppet", auto_approve=True, approved_by_user=True, requested_permissions=[NOTES])
    assert requests(home, status="pending") == [("register", "pending", [])]
    assert home.state("puppet") == "registered"
    assert home.person("alice", "execute").begin("puppet").result(20).status_code == 409


def test_what_the_author_says_grants_nothing(home: "Home") -> None:
    autos(home, "")
    home.register("puppet", auto_approve=True, approved_by_user=True, risk_tier="low", requested_permissions=[NOTES])
    assert requests(home) == [("register", "pending", ["vault_read"])]
    assert home.records(event_type="permission_approved") == []


@pytest.mark.parametrize(
    "manifest",
    [
        {"code_review_required": True, "requested_permissions": [NOTES]},
        {"requested_permissions": [NOTES, {"permission": "vault_admin", "scope": "x"}], "risk_tier": "low"},
    ],
)
def test_code_that_must_be_reviewed_and_a_higher_risk_hold_it(home: "Home", manifest: dict[str, Any]) -> None:
    home.register("puppet", **manifest)
    assert all(kind != "automatic" for kind, _, _ in requests(home))


def test_admin_levels_and_what_two_must_approve_are_never_automatic(home: "Home") -> None:
    home.write_plugin("puppet")
    approval = home.folder / "policies" / "approval.toml"
    approval.write_text(entry("vault_admin", "x/*"))
    assert home.reload().problems != ()
    autos(home, entry("core_write", "x/*") + '[four_eyes]\npermissions = ["core_write"]\n')
    home.register("puppet", requested_permissions=[{"permission": "core_write", "scope": "x"}])
    assert requests(home) == [("register", "pending", ["core_write"])]


@pytest.mark.parametrize(
    ("plugin", "permission", "conditions", "granted"),
    [
        ("puppet", "system_execute", {"user_consent": True}, True),
        ("puppet", "system_execute", {}, False),
        ("other", "system_execute", {"user_consent": True}, False),
        ("puppet", "system_write", {"user_consent": True}, False),
    ],
)
def test_execute_is_automatic_for_that_plugin_permission_and_scope_with_consent_alone(
    home: "Home",
    plugin: str,
    permission: str,
    conditions: dict[str, Any],
    granted: bool,  # noqa: FBT001 (a column of a table)
) -> None:
    autos(home, entry("system_execute", "/bin/ls/*", plugin=plugin))
    wish = {"permission": permission, "scope": "/bin/ls", "conditions": conditions}
    home.register("puppet", requested_permissions=[wish])
    assert (("automatic", "approved", [permission]) in requests(home)) is granted


def test_what_is_asked_for_later_is_granted_at_once_where_it_is_covered(home: "Home") -> None:
    autos(home, entry("vault_read", "notes/*"))
    home.install("puppet")
    answer = request_more(home, NOTES)
    assert (answer.status_code, answer.json()["status"], answer.json()["decided_by"]) == (201, "approved", "policy")
    assert effect(home) == "allow"
    mixed = request_more(home, {**NOTES, "scope": "notes/b"}, MORE)
    assert (mixed.json()["status"], len(mixed.json()["permissions"])) == ("pending", 1)
    assert effect(home, scope="diary/x") == "deny"
    told = [row["details"]["by"] for row in home.records(event_type="permission_approved") if "by" in row["details"]]
    assert told == ["policy", "policy"]


def test_wishes_at_once_do_not_each_count_as_if_they_were_alone(home: "Home") -> None:
    autos(home, entry("vault_read", "notes/*", tier="low"))
    home.install("puppet")
    body = {"plugin_id": "puppet", "permissions": []}
    asked = [{**body, "permissions": [{**NOTES, "scope": f"notes/{each}"}]} for each in "abcde"]
    coming = [home.owner.start("POST", "/v1/permission-requests", each) for each in asked]
    answers = [each.result(20).json()["status"] for each in coming]
    assert sorted(answers) == ["approved", "pending", "pending", "pending", "pending"]
    assert home.grants.count("vault") == 1


def test_a_condition_of_the_request_stays_with_what_is_granted(home: "Home") -> None:
    home.install("puppet")
    request_more(home, {**NOTES, "conditions": {"user_consent": True}})
    assert home.owner.post("/v1/decisions", ASK).json()["reason"] == "consent_required"


def test_while_a_file_is_broken_a_person_is_asked_instead(home: "Home") -> None:
    home.install("puppet")
    home.write_rules("p, broken\n")
    assert home.reload().problems != ()
    assert request_more(home, NOTES).json()["status"] == "pending"
    assert effect(home) == "deny"


def test_a_registered_plugin_is_given_nothing_before_a_person_approves_it(home: "Home") -> None:
    home.register("puppet")
    assert request_more(home, NOTES).json()["status"] == "pending"
    assert "vault" not in home.grants


def test_registered_anew_the_earlier_yes_of_the_policy_is_gone(home: "Home") -> None:
    home.register("puppet", requested_permissions=[NOTES])
    home.register("puppet", requested_permissions=[MORE])
    home.owner.post("/v1/plugins/puppet/approve", {"reason": ""})
    assert (effect(home), effect(home, scope="diary/x")) == ("deny", "allow")
    home.owner.post("/v1/plugins/puppet/revoke", {"reason": ""})
    home.register("puppet")
    home.owner.post("/v1/plugins/puppet/approve", {"reason": ""})
    assert (effect(home), effect(home, scope="diary/x")) == ("deny", "deny")


def test_a_revoked_plugins_automatic_yes_does_not_come_back_with_it(home: "Home") -> None:
    home.install("puppet", wants=("vault_read notes",))
    home.owner.post("/v1/plugins/puppet/revoke", {"reason": "bad"})
    home.register("puppet")
    home.owner.post("/v1/plugins/puppet/approve", {"reason": ""})
    assert effect(home) == "deny"


def test_what_is_no_longer_covered_when_a_person_approves_is_asked_anew(home: "Home") -> None:
    home.register("puppet", requested_permissions=[NOTES])
    autos(home, "")
    refused = home.owner.post("/v1/plugins/puppet/approve", {"reason": ""})
    assert refused.status_code == 409
    assert "register it again" in refused.text
    home.register("puppet", requested_permissions=[NOTES])
    assert requests(home, status="pending") == [("register", "pending", ["vault_read"])]
    assert home.owner.post("/v1/plugins/puppet/approve", {"reason": ""}).status_code == 200
    assert effect(home) == "allow"


def test_a_link_out_of_what_is_covered_is_not(home: "Home", tmp_path: "Path") -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "private").mkdir()
    (tmp_path / "shared" / "link").symlink_to(tmp_path / "private")
    autos(home, entry("file_read", f"{tmp_path}/shared/*"))
    home.install("puppet")
    assert request_more(home, {"permission": "file_read", "scope": f"{tmp_path}/shared/link"}).json()["status"] == (
        "pending"
    )
    assert request_more(home, {"permission": "file_read", "scope": f"{tmp_path}/shared/x"}).json()["status"] == (
        "approved"
    )


def test_a_half_activation_gives_nothing_twice(home: "Home") -> None:
    home.register("puppet", requested_permissions=[NOTES])
    home.reopen()
    home.owner.post("/v1/plugins/puppet/approve", {"reason": ""})
    grants = home.parts.registry.grants.live(PluginId("puppet"))
    assert sorted(str(each.permission) for each in grants) == ["plugin_execute", "vault_read"]


def test_what_was_denied_is_not_asked_again_before_its_time(home: "Home") -> None:
    home.install("puppet")
    asked = request_more(home, MORE).json()
    began = datetime.now(UTC)
    home.owner.post(f"/v1/permission-requests/{asked['id']}/deny", {"reason": "no"})
    again = request_more(home, MORE)
    assert again.status_code == 409
    assert "again_at" in again.json()
    assert request_more(home, MORE, {"permission": "core_read", "scope": "x"}).status_code == 409
    assert request_more(home, {"permission": "vault_read", "scope": "other"}).status_code == 201
    home.reopen()
    assert request_more(home, {**MORE, "conditions": {"user_consent": True}}).status_code == 409
    home.at(began + timedelta(minutes=61))
    assert request_more(home, MORE).status_code == 201


def test_registering_anew_does_not_ask_again_what_was_denied(home: "Home") -> None:
    home.register("puppet", requested_permissions=[MORE])
    (asked,) = home.owner.get("/v1/permission-requests", status="pending").json()["requests"]
    home.owner.post(f"/v1/permission-requests/{asked['id']}/deny", {"reason": "no"})
    began = datetime.now(UTC)
    again = home.owner.post("/v1/plugins", {"folder": "puppet"})
    assert (again.status_code, "again_at" in again.json()) == (409, True)
    home.register("puppet", requested_permissions=[{**MORE, "scope": "elsewhere"}])
    home.at(began + timedelta(minutes=61))
    home.register("puppet", requested_permissions=[MORE])


def test_a_no_outlives_the_plugin_that_was_uninstalled_to_ask_again(home: "Home") -> None:
    began = datetime.now(UTC)
    for _ in range(2):
        home.at(began)
        home.register("puppet", requested_permissions=[MORE])
        (asked,) = home.owner.get("/v1/permission-requests", status="pending").json()["requests"]
        assert home.owner.post(f"/v1/permission-requests/{asked['id']}/deny", {"reason": "no"}).status_code == 200
        assert home.owner.post("/v1/plugins/puppet/uninstall", {"reason": ""}).status_code in {200, 204}
        again = home.owner.post("/v1/plugins", {"folder": "puppet"})
        assert (again.status_code, "again_at" in again.json()) == (409, True)
        home.reopen()
        began += timedelta(minutes=61)
    home.at(began)
    home.install("puppet", wants=("vault_read diary",))
    assert effect(home, scope="diary/x") == "allow"


def test_a_request_tells_what_comes_with_it_and_what_the_capabilities_need(home: "Home") -> None:
    needs = [{"permission": "vault_read", "scope": "diary/a"}, {"permission": "core_read", "scope": "x"}]
    home.register(
        "puppet",
        requested_permissions=[MORE, {"permission": "vault_write", "scope": "diary"}],
        capabilities=[{"name": "tell", "requires": needs}],
    )
    (waits,) = home.owner.get("/v1/permission-requests", status="pending").json()["requests"]
    read, write = waits["permissions"]
    assert (read["includes"], read["implied_by"]) == ([], ["vault_write diary/*"])
    assert (write["includes"], write["implied_by"]) == (["vault_read"], [])
    assert [(each["permission"], each["given"]) for each in waits["requires"]] == [
        ("vault_read", True),
        ("core_read", False),
    ]


def test_revoking_a_permission_takes_what_includes_it(home: "Home") -> None:
    home.install("puppet", wants=("vault_read diary", "vault_write diary", "vault_write other", "plugin_read other"))
    body = {"permission": "vault_read", "scope": "diary/*", "reason": ""}
    taken = home.owner.post("/v1/plugins/puppet/permissions/revoke", body).json()["revoked"]
    assert sorted(each["permission"] for each in taken) == ["vault_read", "vault_write"]
    assert (effect(home, scope="diary/x"), effect(home, scope="other/x")) == ("deny", "allow")
    body = {"permission": "vault_write", "reason": ""}
    home.owner.post("/v1/plugins/puppet/permissions/revoke", body)
    assert effect(home, scope="other/x") == "deny"
    home.owner.post("/v1/plugins/puppet/permissions/revoke", {"permission": "plugin_read", "reason": ""})
    left = home.owner.get("/v1/plugins/puppet/permissions").json()["grants"]
    assert [(each["permission"], each["scope"]) for each in left] == [("plugin_execute", "puppet")]
