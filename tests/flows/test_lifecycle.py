"""The life of a plugin: what may be done in which state, and that nothing that was taken away comes back."""

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from gateway.domain.lifecycle import State
from gateway.domain.names import PluginId

if TYPE_CHECKING:
    from tests.conftest import Home, MakeHome

VERBS = ("approve", "suspend", "resume", "revoke", "uninstall", "execute")
LEGAL = {
    "registered": {"approve", "revoke", "uninstall"},
    "active": {"suspend", "revoke", "uninstall", "execute"},
    "suspended": {"resume", "revoke", "uninstall"},
    "failed": {"revoke", "uninstall"},
    "revoked": {"uninstall"},
}
AFTER = {"approve": "active", "suspend": "suspended", "resume": "active", "revoke": "revoked", "execute": "active"}


def bring(home: "Home", state: str) -> None:
    home.register("puppet")
    for verb in {"registered": [], "suspended": ["approve", "suspend"], "revoked": ["approve", "revoke"]}.get(
        state, ["approve"]
    ):
        assert home.owner.post(f"/v1/plugins/puppet/{verb}", {"reason": ""}).status_code == 200
    if state == "failed":
        plugin = home.parts.registry.plugins.get("puppet")
        assert plugin is not None
        home.parts.registry.plugins.move(plugin, State.FAILED, reason="host_cannot_keep", at=home.parts.now())


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("state", LEGAL)
def test_each_state_takes_its_verbs_and_refuses_all_others_by_name(home: "Home", state: str, verb: str) -> None:
    bring(home, state)
    body: dict[str, object] = {"payload": {"do": []}} if verb == "execute" else {"reason": "x"}
    answer = home.owner.post(f"/v1/plugins/puppet/{verb}", body)
    if verb in LEGAL[state]:
        assert answer.status_code == 200, answer.text
        assert verb == "uninstall" or home.state("puppet") == AFTER[verb]
        return
    assert answer.status_code == 409
    told = answer.json()
    assert told["type"] == "urn:hearthgate:problem:illegal_transition"
    assert told["state"] == state
    assert LEGAL[state] <= set(told["legal"])
    assert verb not in told["legal"]
    assert home.state("puppet") == state


@pytest.mark.parametrize("state", ["active", "suspended"])
def test_a_plugin_that_lives_is_not_registered_over(home: "Home", state: str) -> None:
    bring(home, state)
    assert home.owner.post("/v1/plugins", {"folder": "puppet"}).status_code == 409
    assert home.state("puppet") == state


def test_a_registered_plugin_may_be_registered_anew_before_its_approval(home: "Home") -> None:
    home.register("puppet", requested_permissions=[{"permission": "vault_read", "scope": "old"}])
    home.register("puppet", requested_permissions=[{"permission": "vault_read", "scope": "new"}])
    (pending,) = home.owner.get("/v1/permission-requests", status="pending").json()["requests"]
    assert [each["scope"] for each in pending["permissions"]] == ["new/*"]
    home.owner.post("/v1/plugins/puppet/approve", {"reason": ""})
    assert "old" not in home.grants


def test_a_revoked_id_comes_back_only_through_the_owner_and_inherits_nothing(home: "Home") -> None:
    home.install("puppet", wants=("vault_read notes",))
    home.owner.post(
        "/v1/consents", {"user_id": "alice", "plugin_id": "puppet", "permission": "vault_read", "scope": "x"}
    )
    home.owner.post("/v1/plugins/puppet/revoke", {"reason": "bad"})
    bob = home.person("bob", "admin", "approve")
    home.write_plugin("puppet")
    (ended,) = home.owner.get("/v1/consents", user_id="alice").json()["consents"]
    assert ended["end_reason"] == "the plugin was revoked"
    home.owner.post(
        "/v1/consents", {"user_id": "alice", "plugin_id": "puppet", "permission": "vault_read", "scope": "late"}
    )
    assert bob.post("/v1/plugins", {"folder": "puppet"}).status_code == 409
    assert home.owner.post("/v1/plugins", {"folder": "puppet"}).json()["status"] == "registered"
    home.owner.post("/v1/plugins/puppet/approve", {"reason": ""})
    assert home.person("alice", "execute").run("puppet", ["vault.read", "notes/a"])[0]["denied"] == "no_rule"
    assert home.grants.count("\np, ") == 1
    consents = home.owner.get("/v1/consents", user_id="alice").json()["consents"]
    assert [(each["scope"], each["ended_at"] is not None) for each in consents] == [("x", True), ("late", True)]
    home.reopen()
    assert home.parts.registry.consents._live == {}


def test_an_uninstalled_id_inherits_nothing(home: "Home") -> None:
    home.install("puppet", wants=("vault_read notes", "vault_write notes"))
    alice = home.person("alice", "execute", "consent")
    consent = {"user_id": "alice", "plugin_id": "puppet", "permission": "vault_read", "scope": "notes"}
    assert alice.post("/v1/consents", consent).status_code == 201
    asked = {"plugin_id": "puppet", "permissions": [{"permission": "vault_admin", "scope": "notes"}]}
    assert home.owner.post("/v1/permission-requests", asked).status_code == 201
    first = home.grants
    assert home.owner.post("/v1/plugins/puppet/uninstall", {"reason": ""}).status_code == 200
    assert "puppet" not in home.grants
    home.install("puppet")
    assert home.owner.get("/v1/consents", user_id="alice").json()["consents"] == []
    assert home.owner.get("/v1/permission-requests", status="pending").json()["requests"] == []
    assert alice.run("puppet", ["vault.read", "notes/a"])[0]["denied"] == "no_rule"
    # Not even the old lines come back, put into the file by hand.
    home.write_rules("")
    (home.folder / "policies" / "grants.csv").write_text(first)
    problems = home.reload().problems
    assert any("grant-" in str(each) and each.place.file == "grants.csv" for each in problems)
    assert alice.run("puppet", ["vault.read", "notes/a"])[0]["denied"] == "no_rule"


def test_approval_writes_lines_and_revocation_takes_them_out(home: "Home") -> None:
    before = home.grants
    home.install("puppet", wants=("vault_read notes", "file_read /srv/x", "network_read example.com"))
    lines = [line for line in home.grants.splitlines() if line.startswith("p,")]
    assert [[field.strip() for field in line.split(",")][1:8] for line in lines] == [
        ["grant-1", "plugin:puppet", "plugin", "execute", "puppet", "-", "allow"],
        ["grant-2", "plugin:puppet", "vault", "read", "notes/*", "-", "allow"],
        ["grant-3", "plugin:puppet", "file", "read", "/srv/x/*", "-", "allow"],
        ["grant-4", "plugin:puppet", "network", "read", "example.com", "-", "allow"],
    ]
    home.owner.post("/v1/plugins/puppet/permissions/revoke", {"permission": "file_read", "reason": "x"})
    assert "grant-3," not in home.grants
    home.owner.post("/v1/plugins/puppet/revoke", {"reason": "x"})
    assert home.grants == before
    assert home.reload().problems == ()


def test_what_names_no_scope_is_granted_nothing(home: "Home") -> None:
    home.register("puppet", requested_permissions=[{"permission": "vault_read"}])
    home.owner.post("/v1/plugins/puppet/approve", {"reason": ""})
    assert "vault" not in home.grants
    assert home.person("alice", "execute").run("puppet", ["vault.read", "a"])[0]["denied"] == "no_rule"
    approved = home.records(event_type="permission_approved")[-1]
    assert approved["details"]["without_scope"] == ["vault_read"]


def test_what_the_author_claims_of_approval_is_not_believed(home: "Home") -> None:
    shown = home.register("puppet", auto_approve=True, approved_by_user=True, risk_tier="low")
    assert shown["status"] == "registered"
    assert home.person("alice", "execute").begin("puppet").result(20).status_code == 409
    assert home.grants.count("\np, ") == 0


def test_the_risk_that_counts_is_computed(home: "Home") -> None:
    wants = [{"permission": each, "scope": "x"} for each in ("vault_admin", "core_admin")]
    home.register("puppet", risk_tier="low", requested_permissions=wants)
    told = home.records(event_type="risk_assessment")[-1]["details"]
    assert (told["declared"], told["computed"]) == ("low", "critical")


@pytest.mark.parametrize("name", ["alice", "dave", "erin"])
def test_not_everybody_can_approve(home: "Home", name: str) -> None:
    home.register("puppet")
    person = home.person(name, "approve", "admin")
    assert person.post("/v1/plugins/puppet/approve", {"reason": ""}).status_code == 403
    (request,) = home.owner.get("/v1/permission-requests").json()["requests"]
    assert person.post(f"/v1/permission-requests/{request['id']}/approve", {"reason": ""}).status_code == 403
    assert home.state("puppet") == "registered"


def test_four_eyes_are_two_people(home: "Home") -> None:
    bob, carol = home.person("bob", "admin", "approve"), home.person("carol", "admin", "approve")
    home.write_plugin("puppet", requested_permissions=[{"permission": "core_admin", "scope": "x"}])
    assert bob.post("/v1/plugins", {"folder": "puppet"}).status_code == 201
    second_key_of_bob = home.person("bob", "approve")
    for one in (bob, second_key_of_bob, bob.behalf("carol")):
        refused = one.post("/v1/plugins/puppet/approve", {"reason": ""})
        assert (refused.status_code, refused.json()["reason"]) == (403, "four_eyes")
    assert carol.post("/v1/plugins/puppet/approve", {"reason": ""}).status_code == 200


def test_what_is_left_out_of_an_approval_needs_no_second_person(home: "Home") -> None:
    wants = [{"permission": "vault_read", "scope": "notes"}, {"permission": "vault_admin", "scope": "notes"}]
    home.register("puppet", requested_permissions=wants)
    (request,) = home.owner.get("/v1/permission-requests", status="pending").json()["requests"]
    path = f"/v1/permission-requests/{request['id']}/approve"
    for whole in ({}, {"permissions": ["vault_admin"]}, {"permissions": ["vault_read", "vault_admin"]}):
        refused = home.owner.post(path, {"reason": "", **whole})
        assert (refused.status_code, refused.json()["reason"]) == (403, "four_eyes")
    assert home.owner.post(path, {"reason": "", "permissions": ["vault_read"]}).status_code == 200
    assert home.state("puppet") == "active"
    (answered,) = home.owner.get("/v1/permission-requests", status="approved").json()["requests"]
    assert [each["permission"] for each in answered["given"]] == ["vault_read"]
    assert "vault, admin" not in " ".join(home.grants.split())
    assert "vault, read" in " ".join(home.grants.split())


def test_the_owner_alone_is_not_four_eyes(home: "Home") -> None:
    home.register("puppet", requested_permissions=[{"permission": "system_execute", "scope": "/bin/true"}])
    for person in (home.owner, home.owner.behalf("alice")):
        refused = person.post("/v1/plugins/puppet/approve", {"reason": ""})
        assert (refused.status_code, refused.json()["reason"]) == (403, "four_eyes")


def test_nobody_approves_their_own_wish_by_approving_anothers_plugin(home: "Home") -> None:
    bob, carol = home.person("bob", "admin", "approve"), home.person("carol", "admin", "approve")
    home.write_plugin("puppet")
    assert carol.post("/v1/plugins", {"folder": "puppet"}).status_code == 201
    wish = {"plugin_id": "puppet", "permissions": [{"permission": "core_admin", "scope": "x"}]}
    assert bob.post("/v1/permission-requests", wish).status_code == 201
    refused = bob.post("/v1/plugins/puppet/approve", {"reason": ""})
    assert (refused.status_code, refused.json()["reason"]) == (403, "four_eyes")
    assert "core" not in home.grants


def test_the_code_that_was_approved_is_the_code_that_runs(home: "Home") -> None:
    home.install("teller", "def execute(ctx, payload):\n    return 'approved'\n")
    alice = home.person("alice", "execute")
    (home.folder / "plugins" / "teller" / "main.py").write_text("def execute(ctx, payload):\n    return 'evil'\n")
    assert alice.begin("teller").result(20).json()["output"] == "approved"
    home.reopen()
    assert alice.begin("teller").result(20).json()["output"] == "approved"


def test_a_plugin_without_code_waits_for_it(home: "Home") -> None:
    manifest = {"plugin_id": "later", "name": "later", "version": "1.0.0"}
    assert home.owner.post("/v1/plugins", manifest).json()["digest"] is None
    home.owner.post("/v1/plugins/later/approve", {"reason": ""})
    alice = home.person("alice", "execute")
    refused = alice.begin("later").result(20)
    assert refused.status_code == 409
    assert refused.json()["type"] == "urn:hearthgate:problem:no_code"
    assert "plugins/later/" in refused.json()["way_out"]
    assert home.decided(subject="user:alice", scope="plugins/later", effect="allow")
    folder = home.folder / "plugins" / "later"
    folder.mkdir()
    (folder / "helper.py").write_text("x = 1\n")
    assert alice.begin("later").result(20).json()["type"] == "urn:hearthgate:problem:no_code"
    (folder / "main.py").write_text("def execute(ctx, payload):\n    return 1\n")
    (folder / "manifest.json").write_text(json.dumps({**manifest, "version": "9.9.9"}))
    assert alice.begin("later").result(20).json()["type"] == "urn:hearthgate:problem:conflict"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert alice.begin("later").result(20).json()["output"] == 1
    (folder / "main.py").write_text("def execute(ctx, payload):\n    return 2\n")
    assert alice.begin("later").result(20).json()["output"] == 1
    assert home.records(event_type="updated")[-1]["details"]["digest"].startswith("sha256:")


@pytest.mark.parametrize("end", ["suspend", "revoke", "uninstall"])
def test_code_adopted_late_brings_no_stopped_plugin_back(home: "Home", end: str) -> None:
    home.owner.post("/v1/plugins", {"plugin_id": "later", "name": "later", "version": "1.0.0"})
    home.owner.post("/v1/plugins/later/approve", {"reason": ""})
    home.write_plugin("later", "def execute(ctx, payload):\n    return 1\n")
    append = home.parts.log.append

    async def slow(*records: object, **how: bool) -> tuple[int, ...]:
        if any(each.event_type == "updated" for each in records):  # type: ignore[attr-defined] # Records
            ended = home.owner.start("POST", f"/v1/plugins/later/{end}", {"reason": ""})
            await asyncio.wait([asyncio.wrap_future(ended)])
        return await append(*records, **how)  # type: ignore[arg-type] # same

    home.parts.log.append = slow  # type: ignore[method-assign] # the moment that a race would need
    answer = home.person("alice", "execute").begin("later").result(20)
    assert answer.status_code in {404, 409}
    found = home.parts.registry.plugins.get(PluginId("later"))
    assert found is None if end == "uninstall" else found.state.value in {"suspended", "revoked"}
    assert home.records(event_type="execution_started") == []


def test_a_manifest_that_differs_from_the_folders_is_refused(home: "Home") -> None:
    manifest = home.write_plugin("puppet")
    answer = home.owner.post("/v1/plugins", {**manifest, "description": "harmless"})
    assert answer.status_code == 409
    assert home.owner.post("/v1/plugins", manifest).status_code == 201


def test_a_folder_named_for_another_plugin_is_refused(home: "Home") -> None:
    home.write_plugin("puppet")
    (home.folder / "plugins" / "puppet").rename(home.folder / "plugins" / "other")
    assert home.owner.post("/v1/plugins", {"folder": "other"}).status_code == 400
    for name in ("../plugins/other", "other/..", "/etc", ""):
        assert home.owner.post("/v1/plugins", {"folder": name}).status_code == 400


def test_a_file_whose_name_is_no_text_is_named_and_refused(home: "Home") -> None:
    import os

    home.write_plugin("puppet")
    for name in (b"lib/b\xff.py", b"lib/c\xfe/d.py"):
        path = os.path.join(os.fsencode(home.folder / "plugins" / "puppet"), name)  # noqa: PTH118 (of bytes)
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 (same)
        with open(path, "wb"):  # noqa: PTH123 (same)
            pass
        answer = home.owner.post("/v1/plugins", {"folder": "puppet"})
        assert answer.status_code == 400, answer.text
        (problem,) = answer.json()["problems"]
        assert problem["file"] in {r"lib/b\xff.py", r"lib/c\xfe"}
        os.remove(path)  # noqa: PTH107 (same)
    os.rmdir(os.path.dirname(path))  # noqa: PTH106, PTH120 (same)
    assert home.owner.post("/v1/plugins", {"folder": "puppet"}).status_code == 201


@pytest.mark.parametrize(
    "trick", ["link to a file", "link to a folder", "pipe", "open file", "open folder", "open root"]
)
def test_a_folder_that_others_could_have_written_is_not_believed(home: "Home", trick: str) -> None:
    home.write_plugin("puppet")
    folder = home.folder / "plugins" / "puppet"
    (folder / "lib").mkdir()
    (folder / "lib" / "a.py").write_text("")
    match trick:
        case "link to a file":
            (folder / "b.py").symlink_to("/etc/passwd")
        case "link to a folder":
            (folder / "etc").symlink_to("/etc")
        case "pipe":
            import os

            os.mkfifo(folder / "pipe")
        case "open file":
            (folder / "lib" / "a.py").chmod(0o666)
        case "open folder":
            (folder / "lib").chmod(0o777)
        case "open root":
            folder.chmod(0o777)
    answer = home.owner.post("/v1/plugins", {"folder": "puppet"})
    assert answer.status_code == 400, answer.text
    assert home.owner.get("/v1/plugins/puppet").status_code == 404


def test_suspension_kills_and_denies_until_resumed(home: "Home") -> None:
    home.install("puppet", wants=("vault_write notes",))
    alice = home.person("alice", "execute")
    began = alice.begin("puppet", ["sleep", 30], ["vault.write", "notes/a", 1], timeout_s=30)
    home.until(lambda: home.parts.pool._conversations)
    home.owner.post("/v1/plugins/puppet/suspend", {"reason": "lunch"})
    told = began.result(20).json()
    assert (told["outcome"], told["error"]) == ("killed", "the plugin was suspended")
    assert home.records(event_type="execution_failed")[-1]["resolution"] == "killed"
    ask = {"subject": "plugin:puppet", "permission": "vault_write", "scope": "notes/a"}
    assert home.owner.post("/v1/decisions", ask).json()["reason"] == "inactive"
    home.reopen()
    assert home.state("puppet") == "suspended"
    home.owner.post("/v1/plugins/puppet/resume", {"reason": ""})
    assert home.owner.post("/v1/decisions", ask).json()["effect"] == "allow"


@pytest.mark.parametrize("what", ["revoke", "permissions/revoke"])
def test_revocation_waits_for_no_broken_file_and_kills_what_runs(home: "Home", what: str) -> None:
    home.install("puppet", wants=("vault_read notes",))
    alice = home.person("alice", "execute")
    began = alice.begin("puppet", ["sleep", 30], timeout_s=30)
    home.until(lambda: home.parts.pool._conversations)
    home.write_rules("p, broken\n")
    assert home.reload().problems
    answer = home.owner.post(f"/v1/plugins/puppet/{what}", {"reason": "now"})
    assert answer.status_code == 200, answer.text
    assert began.result(20).json()["outcome"] == "killed"
    ask = {"subject": "plugin:puppet", "permission": "vault_read", "scope": "notes/a"}
    assert home.owner.post("/v1/decisions", ask).json()["effect"] == "deny"
    assert "grant-" not in home.grants.split("why\n")[1]
    assert home.owner.get("/v1/policy").json()["problems"]
    home.reopen()
    home.write_rules("# mended\n")
    assert home.reload().problems == ()
    assert home.owner.post("/v1/decisions", ask).json()["effect"] == "deny"


def test_the_events_of_a_life_are_recorded_in_order(make_home: "MakeHome") -> None:
    home = make_home()
    home.install("puppet")
    for verb in ("suspend", "resume", "revoke", "uninstall"):
        assert home.owner.post(f"/v1/plugins/puppet/{verb}", {"reason": f"to {verb}"}).status_code == 200
    life = [
        (row["event_type"], row["details"].get("reason")) for row in home.records(plugin="puppet", category="lifecycle")
    ]
    assert life == [
        ("registered", None),
        ("approved", "test"),
        ("activated", None),
        ("suspended", "to suspend"),
        ("activated", "to resume"),
        ("revoked", "to revoke"),
        ("uninstalled", "to uninstall"),
    ]
