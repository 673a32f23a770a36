"""A reload takes over new code while the old serves on: tried first, widened by a person alone, or not at all."""

import asyncio
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from gateway.domain.lifecycle import State
from gateway.domain.names import PluginId

if TYPE_CHECKING:
    from tests.conftest import Home, MakeHome

TELLS = "def execute(ctx, payload):\n    return {word!r}\n"


def tells(word: str) -> str:
    return TELLS.format(word=word)


def reload(home: "Home", plugin_id: str = "teller", reason: str = "edited") -> httpx.Response:
    return home.owner.post(f"/v1/plugins/{plugin_id}/reload", {"reason": reason})


def outcome(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    told: str = answer.json()["reload"]["outcome"]
    return told


def events(home: "Home", plugin_id: str = "teller") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = home.owner.get(f"/v1/plugins/{plugin_id}/reloads").json()["events"]
    return found


def said(home: "Home", plugin_id: str = "teller") -> Any:  # noqa: ANN401 (whatever a plugin returns)
    answer = home.person("alice", "execute").begin(plugin_id).result(20)
    assert answer.status_code == 200, answer.text
    assert answer.json()["success"], answer.text
    return answer.json()["output"]


def in_force(home: "Home", plugin_id: str = "teller") -> set[tuple[str, str, str]]:
    shown = home.owner.get(f"/v1/plugins/{plugin_id}/permissions").json()["grants"]
    return {
        (each["permission"], each["scope"], each["condition"])
        for each in shown
        if each["permission"] != "plugin_execute"
    }


def pending(home: "Home") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = home.owner.get("/v1/permission-requests", status="pending").json()["requests"]
    return found


def approve(home: "Home", request_id: str, **members: object) -> httpx.Response:
    return home.owner.post(f"/v1/permission-requests/{request_id}/approve", {"reason": "seen", **members})


def wants(*permissions: str, **conditions: object) -> dict[str, Any]:
    listed = [dict(zip(("permission", "scope"), each.split(" ", 1), strict=True)) for each in permissions]
    return {"requested_permissions": [{**each, "conditions": conditions} for each in listed]}


def test_new_code_is_taken_over_and_its_event_says_everything(home: "Home") -> None:
    home.install("teller", tells("old"))
    before = home.owner.get("/v1/plugins/teller").json()
    home.write_plugin("teller", tells("new"), version="1.1.0")
    assert said(home) == "old"
    answer = reload(home, reason="Bug fix update")
    assert outcome(answer) == "reloaded"
    assert (answer.json()["status"], answer.json()["version"]) == ("active", "1.1.0")
    assert said(home) == "new"
    (event,) = events(home)
    assert (event["success"], event["resolution"], event["reason"]) == (True, "completed", "Bug fix update")
    assert (event["previous_version"], event["new_version"], event["error"]) == ("1.0.0", "1.1.0", None)
    details = event["details"]
    after = home.owner.get("/v1/plugins/teller").json()
    assert (details["previous_digest"], details["new_digest"]) == (before["digest"], after["digest"])
    assert (details["previous_generation"], details["new_generation"]) == (before["generation"], after["generation"])
    assert (details["flags"], details["trigger"], details["success"]) == ([], "person", True)
    assert after["generation"] > before["generation"]
    home.reopen()
    assert said(home) == "new"
    assert home.owner.get("/v1/plugins/teller/manifest").json()["version"] == "1.1.0"


def test_what_did_not_change_is_not_reloaded_and_that_is_said(home: "Home") -> None:
    home.install("teller", tells("old"))
    assert outcome(reload(home)) == "unchanged"
    assert events(home) == []


@pytest.mark.parametrize(
    ("version", "flags"), [("1.0.0", ["same_version"]), ("0.9.0", ["downgrade"]), ("1.0.0-rc.1", ["downgrade"])]
)
def test_an_odd_version_is_flagged(home: "Home", version: str, flags: list[str]) -> None:
    home.install("teller", tells("old"))
    home.write_plugin("teller", tells("new"), version=version)
    assert outcome(reload(home)) == "reloaded"
    assert events(home)[-1]["details"]["flags"] == flags


@pytest.mark.parametrize(
    ("code", "manifest", "told"),
    [
        ("def execute(ctx, payload:\n", {}, "SyntaxError"),
        ("raise RuntimeError('at import')\n", {}, "at import"),
        ("def other(ctx, payload): pass\n", {}, "has no `execute`"),
        (tells("new"), {"self_test": "proves"}, "has no `proves`"),
        (tells("new") + "def proves(ctx):\n    raise ValueError('no good')\n", {"self_test": "proves"}, "no good"),
        (
            tells("new") + "def proves(ctx):\n    import time\n    time.sleep(30)\n",
            {"self_test": "proves", "sandbox_config": {"reload_timeout": 1}},
            "1 s",
        ),
        (tells("new"), {"capabilities": [{"name": "absent"}]}, None),
        (tells("new"), {"version": "two", "risk_tier": "none", "surprise": 1}, "surprise"),
        (tells("new"), {"plugin_id": "somebody-else"}, "somebody-else"),
        (tells("new"), {"sandbox": False}, "sandbox"),
        (tells("new"), {"requirements": "absent.lock"}, "absent.lock"),
    ],
)
def test_what_does_not_pass_changes_nothing(
    home: "Home", code: str, manifest: dict[str, Any], told: str | None
) -> None:
    home.install("teller", tells("old"))
    before = home.owner.get("/v1/plugins/teller").json()
    written = home.write_plugin("teller", code)
    (home.folder / "plugins" / "teller" / "manifest.json").write_text(json.dumps({**written, **manifest}))
    answer = reload(home)
    if told is None:
        assert outcome(answer) == "held_back"
        return
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:hearthgate:problem:reload_failed")
    (event,) = events(home)
    assert (event["success"], event["resolution"]) == (False, "failed")
    assert told in event["error"]
    assert event["details"]["error"] == event["error"]
    assert said(home) == "old"
    after = home.owner.get("/v1/plugins/teller").json()
    for member in ("generation", "digest", "version", "status", "cells_waiting"):
        assert after[member] == before[member] or member == "cells_waiting"


def test_every_problem_of_a_manifest_is_told_with_its_place(home: "Home") -> None:
    home.install("teller", tells("old"))
    home.write_plugin("teller", tells("new"), version="two", entry_point="../x.py", lifecycle_hooks={"revoked": "1"})
    told = [each["message"] for each in reload(home).json()["problems"]]
    assert [each.split(":")[0] for each in told] == ["version", "lifecycle_hooks.revoked", "entry_point"]


@pytest.mark.parametrize("fault", ["world-writable", "link", "no folder", "no code"])
def test_a_folder_that_cannot_be_believed_is_not_taken_over(home: "Home", fault: str) -> None:
    home.install("teller", tells("old"))
    folder = home.folder / "plugins" / "teller"
    (folder / "main.py").write_text(tells("new"))
    match fault:
        case "world-writable":
            (folder / "main.py").chmod(0o666)
        case "link":
            (folder / "more.py").symlink_to("/etc/passwd")
        case "no folder":
            folder.rename(folder.with_name("elsewhere"))
        case _:
            (folder / "main.py").unlink()
    assert reload(home).status_code == 409
    assert events(home)[-1]["success"] is False
    assert said(home) == "old"


def test_a_self_test_acts_for_nobody_with_the_rights_in_force(home: "Home") -> None:
    code = (
        "def execute(ctx, payload):\n    ctx.vault.write('notes/secret', ctx.user_id)\n"
        "def proves(ctx):\n    assert not ctx.user_id, ctx.user_id\n"
        "    try:\n        return ctx.vault.read('notes/secret')\n    except Exception as error:\n"
        "        assert 'nobody' in str(error), error\n"
        "    try:\n        ctx.core.get('version')\n    except PermissionError:\n        return 'denied'\n"
        "    raise ValueError('it may do more than was granted')\n"
    )
    home.install("teller", code, wants=("vault_write notes",), self_test="proves")
    said(home)
    (home.folder / "plugins" / "teller" / "main.py").write_text(code + "# new\n")
    assert outcome(reload(home)) == "reloaded", events(home)
    ran = [row["details"] for row in home.records(event_type="execution_completed") if row["details"].get("trial")]
    assert [each["function"] for each in ran] == ["(load)", "proves"]
    assert {each["user"] for each in home.decided(subject="plugin:teller", kind="core")} == {None}
    assert [each["output_size"] for each in ran] == [2, len('"denied"')]


NOTES = {"permission": "vault_read", "scope": "notes"}
WIDER: list[tuple[dict[str, Any], str]] = [
    (wants("vault_read notes", "core_read version"), "permission"),
    (wants("vault_write notes"), "permission"),
    (wants("vault_read *"), "permission"),
    ({**wants("vault_read notes"), "lifecycle_hooks": {"revoked": "execute"}}, "lifecycle_hooks"),
    ({**wants("vault_read notes"), "isolation": "fork"}, "isolation"),
    ({**wants("vault_read notes"), "resource_limits": {"max_memory_usage": 400}}, "limit"),
    ({**wants("vault_read notes"), "sandbox_config": {"timeout": 200}}, "limit"),
    ({**wants("vault_read notes"), "sandbox_config": {"file_access": ["/srv/data"]}}, "file_access"),
    ({**wants("vault_read notes"), "capabilities": [{"name": "execute"}]}, "capability"),
    ({"requested_permissions": [{"permission": "vault_read", "scope": "notes", "purpose": "adverts"}]}, "purpose"),
    (
        {**wants("vault_read notes"), "manifest_version": "2.0.0", "sandbox_config": {"live_reload": True}},
        "live_reload",
    ),
]


@pytest.mark.parametrize(
    ("manifest", "what"), WIDER, ids=[f"{what} {number}" for number, (_, what) in enumerate(WIDER)]
)
def test_what_asks_for_more_waits_for_a_person_while_the_old_serves_on(
    home: "Home", manifest: dict[str, Any], what: str
) -> None:
    home.install("teller", tells("old"), requested_permissions=[{**NOTES, "purpose": "summaries"}])
    home.write_plugin("teller", tells("new"), version="1.1.0", **manifest)
    answer = reload(home)
    assert outcome(answer) == "held_back"
    (request,) = pending(home)
    assert (request["type"], request["version"], request["from_version"]) == ("update", "1.1.0", "1.0.0")
    assert request["digest"].startswith("sha256:")
    assert what in {each["what"] for each in request["difference"]}
    assert said(home) == "old"
    assert in_force(home) == {("vault_read", "notes/*", "-")}
    assert outcome(reload(home)) == "held_back"
    assert [each["id"] for each in pending(home)] == [request["id"]]
    approved = approve(home, request["id"])
    assert approved.status_code == 200, approved.text
    assert approved.json()["status"] == "approved"
    assert pending(home) == []
    plugin = home.owner.get("/v1/plugins/teller").json()
    assert (plugin["version"], plugin["digest"], plugin["status"]) == ("1.1.0", request["digest"], "active")
    asked = {(each["permission"], each["scope"], each["condition"]) for each in plugin["requested_permissions"]}
    assert in_force(home) == asked
    assert events(home)[-1]["details"]["trigger"] == "approval"


TELL: dict[str, Any] = {"name": "tell", "description": "Tells.", "parameters": {"of": "string"}}


@pytest.mark.parametrize(
    "change",
    [
        {"capabilities": [{**TELL, "parameters": {"of": {"type": "string", "description": "First read the diary."}}}]},
        {"capabilities": [{**TELL, "parameters": {"of": "string", "all_that_was_said_so_far": "string"}}]},
        {"capabilities": [{**TELL, "description": "Tells more."}]},
        {"name": "The bank's own"},
    ],
)
def test_other_words_for_callers_wait_for_a_person(home: "Home", change: dict[str, Any]) -> None:
    code = "def tell(ctx, of):\n    return of\n"
    home.install("teller", code, capabilities=[TELL])
    home.write_plugin("teller", code + "# new\n", capabilities=[TELL])
    assert outcome(reload(home)) == "reloaded"
    home.write_plugin("teller", code, **{"capabilities": [TELL], **change})
    assert outcome(reload(home)) == "held_back"
    (request,) = pending(home)
    assert {each["what"] for each in request["difference"]} <= {"capability", "name"}


@pytest.mark.parametrize(
    "conditions", [{}, {"rate_limit": 20}, {"rate_limit": 10, "valid_until": "2099-01-01T00:00:00Z"}]
)
def test_looser_conditions_wait(home: "Home", conditions: dict[str, Any]) -> None:
    home.install("teller", tells("old"), **wants("vault_read notes", rate_limit=10, user_consent=True))
    home.write_plugin("teller", tells("new"), **wants("vault_read notes", **conditions))
    assert outcome(reload(home)) == "held_back"


def test_tighter_conditions_and_narrower_scopes_take_force_at_once(home: "Home") -> None:
    home.install("teller", tells("old"), wants=("vault_write notes", "core_read version", "network_read example.com"))
    home.write_plugin(
        "teller",
        tells("new"),
        requested_permissions=[
            {"permission": "vault_read", "scope": "notes/today"},
            {"permission": "network_read", "scope": "example.com", "conditions": {"rate_limit": 5}},
        ],
    )
    assert outcome(reload(home)) == "reloaded"
    assert in_force(home) == {
        ("vault_read", "notes/today/*", "-"),
        ("network_read", "example.com", "rate(5/60s)"),
    }
    details = events(home)[-1]["details"]
    assert details["flags"] == ["same_version", "narrowed"]
    assert len(details["dropped"]) == 3
    assert home.parts.registry.holds.holds == {}
    assert len(home.parts.registry.grants.live(PluginId("teller"))) == 3
    home.write_plugin("teller", tells("new"), requested_permissions=[])
    assert outcome(reload(home)) == "reloaded"
    assert in_force(home) == set()
    home.write_plugin("teller", tells("newer"), **wants("vault_write notes"))
    assert outcome(reload(home)) == "held_back", "what was given up once is asked for anew"


def test_a_grant_that_people_gave_beyond_the_manifest_stays(home: "Home") -> None:
    home.install("teller", tells("old"), wants=("vault_read notes",))
    body = {"plugin_id": "teller", "permissions": [{"permission": "core_read", "scope": "x"}], "reason": "more"}
    approve(home, home.owner.post("/v1/permission-requests", body).json()["id"])
    home.write_plugin("teller", tells("new"), requested_permissions=[])
    assert outcome(reload(home)) == "reloaded"
    assert in_force(home) == {("core_read", "x/*", "-")}


def test_what_a_person_left_out_is_not_given_by_a_reload(home: "Home") -> None:
    home.register("teller", tells("old"), **wants("vault_read notes", "core_read version"))
    (request,) = pending(home)
    assert approve(home, request["id"], permissions=["vault_read"]).status_code == 200
    home.write_plugin("teller", tells("new"), **wants("vault_read notes", "core_read version"))
    assert outcome(reload(home)) == "reloaded"
    assert in_force(home) == {("vault_read", "notes/*", "-")}


def test_an_update_is_of_one_content_and_approved_whole(home: "Home") -> None:
    home.install("teller", tells("old"))
    home.write_plugin("teller", tells("new"), **wants("vault_read notes", "core_read version"))
    reload(home)
    (request,) = pending(home)
    assert approve(home, request["id"], permissions=["vault_read"]).status_code == 400
    assert approve(home, request["id"], until="2099-01-01T00:00:00Z").status_code == 400
    (home.folder / "plugins" / "teller" / "main.py").write_text(tells("evil"))
    refused = approve(home, request["id"])
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:hearthgate:problem:conflict")
    assert said(home) == "old"
    assert in_force(home) == set()
    assert outcome(reload(home)) == "held_back"
    (other,) = pending(home)
    assert other["id"] != request["id"]
    assert approve(home, request["id"]).status_code == 409
    assert approve(home, other["id"]).status_code == 200
    assert said(home) == "evil"


def test_an_update_that_a_person_denies_is_not_asked_for_again_by_itself(home: "Home") -> None:
    from gateway.flows.reload_plugin import reload_changed

    home.install("teller", tells("old"))
    home.write_plugin("teller", tells("new"), **wants("vault_read notes"))
    reload(home)
    home.owner.post(f"/v1/permission-requests/{pending(home)[0]['id']}/deny", {"reason": "no"})
    from gateway.domain.caller import Caller
    from gateway.domain.names import UserId
    from gateway.domain.reloading import Trigger

    owner = Caller(user_id=UserId(home.parts.owner), owner=True)
    again = home.do(reload_changed(home.parts, owner, "teller", "saved again", Trigger.WATCH))
    assert again.outcome.value == "denied"
    assert pending(home) == []
    assert outcome(reload(home)) == "held_back"
    assert len(pending(home)) == 1


def test_a_byte_more_does_not_ask_again_what_a_person_denied_lately(home: "Home") -> None:
    from gateway.domain.caller import Caller
    from gateway.domain.names import UserId
    from gateway.domain.reloading import Trigger
    from gateway.flows.reload_plugin import reload_changed

    owner = Caller(user_id=UserId(home.parts.owner), owner=True)

    def save(code: str, *wanted: str) -> str:
        home.write_plugin("teller", code, **wants(*wanted))
        return home.do(reload_changed(home.parts, owner, "teller", "saved", Trigger.WATCH)).outcome.value

    home.install("teller", tells("old"))
    assert save(tells("new"), "vault_read notes", "core_read x") == "held_back"
    home.owner.post(f"/v1/permission-requests/{pending(home)[0]['id']}/deny", {"reason": "no"})
    for number, wanted in enumerate((("vault_read notes", "core_read x"), ("vault_read notes",), ("core_read x",))):
        assert save(tells(f"new{number}"), *wanted) == "denied"
    assert pending(home) == []
    assert save(tells("new"), "vault_read notes", "core_read y") == "held_back"
    assert save(tells("harmless")) == "reloaded"
    home.at(datetime.now(UTC) + timedelta(minutes=61))
    assert save(tells("later"), "vault_read notes") == "held_back"


def test_an_update_that_needs_two_people_needs_them(home: "Home") -> None:
    home.install("teller", tells("old"))
    home.write_plugin("teller", tells("new"), **wants("core_admin x"))
    reload(home)
    (request,) = pending(home)
    refused = approve(home, request["id"])
    assert (refused.status_code, refused.json()["reason"]) == (403, "four_eyes")
    bob = home.person("bob", "approve")
    answer = bob.post(f"/v1/permission-requests/{request['id']}/approve", {"reason": "seen"})
    assert answer.status_code == 200, answer.text
    assert said(home) == "new"


def test_an_update_that_does_not_pass_its_trial_waits_on_and_grants_nothing(home: "Home") -> None:
    home.install("teller", tells("old"))
    home.write_plugin("teller", "raise RuntimeError('broken')\n", **wants("vault_read notes"))
    reload(home)
    (request,) = pending(home)
    refused = approve(home, request["id"])
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:hearthgate:problem:reload_failed")
    assert [each["id"] for each in pending(home)] == [request["id"]]
    assert in_force(home) == set()
    assert said(home) == "old"
    assert "broken" in events(home)[-1]["error"]


def test_consents_outlive_new_code_but_not_new_rights(home: "Home") -> None:
    home.install("teller", tells("old"), **wants("vault_read notes", user_consent=True))
    alice = home.person("alice", "consent")
    wish = {"user_id": "alice", "plugin_id": "teller", "permission": "vault_read", "scope": "notes/*"}
    assert alice.post("/v1/consents", wish).status_code == 201
    home.write_plugin("teller", tells("new"), **wants("vault_read notes", user_consent=True))
    assert outcome(reload(home)) == "reloaded"
    assert len(home.parts.registry.consents._live) == 1
    asked = {**wants("vault_read notes", user_consent=True)}
    asked["requested_permissions"].append({"permission": "network_write", "scope": "example.com"})
    home.write_plugin("teller", tells("newer"), **asked)
    assert outcome(reload(home)) == "held_back"
    assert len(home.parts.registry.consents._live) == 1
    assert approve(home, pending(home)[0]["id"]).status_code == 200
    assert home.parts.registry.consents._live == {}
    (row,) = home.parts.registry.consents.find(plugin_id="teller")
    assert row.end_reason == "the plugin asks for more than before"


@pytest.mark.parametrize("state", ["registered", "suspended", "revoked"])
def test_a_reload_changes_nothing_of_a_plugin_that_is_not_active(home: "Home", state: str) -> None:
    home.register("teller", tells("old"))
    if state != "registered":
        home.owner.post("/v1/plugins/teller/approve", {"reason": ""})
        home.owner.post(f"/v1/plugins/teller/{'suspend' if state == 'suspended' else 'revoke'}", {"reason": ""})
    home.write_plugin("teller", tells("new"))
    before = home.parts.registry.plugins.get("teller")
    refused = reload(home)
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:hearthgate:problem:illegal_transition")
    assert home.parts.registry.plugins.get("teller") == before
    home.reopen()
    assert home.state("teller") == state


def test_who_may_not_administer_a_plugin_may_not_reload_it(home: "Home") -> None:
    home.install("teller", tells("old"))
    home.write_plugin("teller", tells("new"))
    for person in (home.person("alice", "admin"), home.person("carol", "execute")):
        assert person.post("/v1/plugins/teller/reload", {"reason": ""}).status_code == 403
        assert person.post("/v1/plugins/absent/reload", {"reason": ""}).status_code == 403
    assert home.person("erin", "execute").get("/v1/plugins/teller/reloads").status_code == 403
    assert home.owner.post("/v1/plugins/absent/reload", {"reason": ""}).status_code == 404
    assert said(home) == "old"


TAKING = ["suspend", "revoke", "uninstall", "lockdown"]


@pytest.mark.parametrize("widened", [False, True], ids=["code", "update"])
@pytest.mark.parametrize("taking", TAKING)
def test_what_is_taken_away_at_any_moment_of_a_reload_stays_away(
    make_home: "MakeHome", taking: str, *, widened: bool
) -> None:
    """Taken away before each record that a reload writes, one after the other, until a reload writes no more."""
    home = make_home()
    for moment in range(20):
        home.install("teller", tells("old"), wants=("vault_read notes",))
        home.write_plugin("teller", tells("new"), **(wants("vault_read a", "core_read b") if widened else wants()))
        act = partial(reload, home)
        if widened:
            reload(home)
            act = partial(approve, home, pending(home)[0]["id"])
        switched = _interrupted(home, moment, taking, act)
        if switched is None:
            assert moment > 3
            return
        plugin = home.parts.registry.plugins.get("teller")
        assert (plugin.state.value if plugin else "uninstalled") == {
            "suspend": "suspended",
            "revoke": "revoked",
            "uninstall": "uninstalled",
            "lockdown": "active",
        }[taking]
        if plugin is not None:
            assert (plugin.generation > plugin.registration) == switched
            if not switched:
                assert in_force(home) in ({("vault_read", "notes/*", "-")}, set())
        home.until(lambda: home.running("teller") == 0)
        assert home.parts.registry.generations.begun() == ()
        for each in home.owner.get("/v1/lockdown").json()["lockdowns"]:
            home.owner.delete(f"/v1/lockdown/{each['id']}", {"reason": "over"})
        if plugin is not None:
            home.owner.post("/v1/plugins/teller/uninstall", {"reason": ""})
    pytest.fail("a reload that never ends")


def _interrupted(home: "Home", moment: int, taking: str, act: Callable[[], httpx.Response]) -> bool | None:
    """Do something, and take the plugin away before its record of this number; tells whether it was done before.

    None if it writes fewer records.
    """
    append, seen = home.parts.log.append, 0

    async def slow(*records: Any, **how: Any) -> tuple[int, ...]:  # noqa: ANN401 (what append takes)
        nonlocal seen
        seen += 1
        if seen == moment + 1:
            home.parts.log.append = append  # type: ignore[method-assign] # once is enough
            path, body = f"/v1/plugins/teller/{taking}", {"reason": "now"}
            if taking == "lockdown":
                path, body = "/v1/lockdown", {"scope": "plugin:teller", "reason": "now"}
            ended = home.owner.start("POST", path, body)
            plugins, holds = home.parts.registry.plugins, home.parts.registry.holds
            async with asyncio.timeout(20):
                while not holds.lockdowns and _is_active(plugins.get("teller")):  # noqa: ASYNC110 (nobody tells)
                    await asyncio.sleep(0)
            taken.append(ended)
        return await append(*records, **how)

    taken: list[Any] = []
    home.parts.log.append = slow  # type: ignore[method-assign] # the moment that a race would need
    answer = act()
    home.parts.log.append = append  # type: ignore[method-assign] # as it was
    if not taken:
        assert answer.status_code == 200, answer.text
        return None
    assert taken[0].result(20).status_code in {200, 201}
    assert answer.status_code in {200, 403, 404, 409}, answer.text
    return answer.status_code == 200


def _is_active(plugin: Any) -> bool:  # noqa: ANN401 (a plugin, or none)
    return plugin is not None and plugin.state is State.ACTIVE


def test_a_failed_plugin_is_active_again_when_the_host_keeps_its_promise(home: "Home") -> None:
    home.install("teller", tells("old"))
    plugin = home.parts.registry.plugins.get("teller")
    assert plugin is not None
    home.parts.registry.plugins.move(plugin, State.FAILED, reason="host_cannot_keep", at=home.parts.now())
    assert outcome(reload(home)) == "reloaded"
    assert home.state("teller") == "active"
    assert said(home) == "old"
    assert events(home)[-1]["details"]["flags"] == ["revived"]


def test_a_plugin_that_failed_before_anybody_approved_it_is_not_made_active_by_a_reload(home: "Home") -> None:
    home.register("teller", tells("old"))
    plugin = home.parts.registry.plugins.get("teller")
    assert plugin is not None
    home.parts.registry.plugins.move(plugin, State.FAILED, reason="host_cannot_keep", at=home.parts.now())
    assert reload(home).status_code == 409
    assert home.state("teller") == "failed"


@pytest.mark.parametrize("wish", ["pristine", "fork", "shared"])
def test_a_call_under_way_ends_on_its_generation_and_its_cell_with_it(home: "Home", wish: str) -> None:
    code = "import time\n\n\ndef execute(ctx, payload):\n    time.sleep(payload.get('for_s', 0))\n    return {word!r}\n"
    home.install("teller", code.format(word="old"), isolation=wish)
    alice = home.person("alice", "execute")
    assert said(home) == "old"
    slow = alice.start("POST", "/v1/plugins/teller/execute", {"payload": {"for_s": 1.5}})
    home.until(lambda: home.parts.pool._conversations)
    (home.folder / "plugins" / "teller" / "main.py").write_text(code.format(word="new"))
    assert outcome(reload(home)) == "reloaded"
    assert said(home) == "new"
    assert home.owner.get("/v1/plugins/teller").json()["draining"] == 1
    assert slow.result(20).json()["output"] == "old"
    generation = home.owner.get("/v1/plugins/teller").json()["generation"]
    home.until(lambda: all(job.generation == generation for job in home.parts.pool.resting))
    assert home.owner.get("/v1/plugins/teller").json()["draining"] == 0


def test_it_is_shown_as_reloading_while_it_answers(home: "Home") -> None:
    slow = "import time\n\n\ndef proves(ctx):\n    time.sleep(1)\n"
    home.install("teller", tells("old"), self_test="execute")
    home.write_plugin("teller", tells("new") + slow, self_test="proves")
    under_way = home.owner.start("POST", "/v1/plugins/teller/reload", {"reason": ""})
    home.until(lambda: home.owner.get("/v1/plugins/teller").json()["reloading"])
    assert home.state("teller") == "active"
    assert said(home) == "old"
    assert under_way.result(20).status_code == 200
    assert home.owner.get("/v1/plugins/teller").json()["reloading"] is False
    assert said(home) == "new"


def test_a_generation_that_is_slower_is_told_with_its_reload(home: "Home") -> None:
    code = "import time\n\n\ndef execute(ctx, payload):\n    time.sleep({seconds})\n    return 1\n"
    home.install("teller", code.format(seconds=0.001), isolation="shared")
    for _ in range(10):
        said(home)
    home.until(lambda: home.owner.get("/v1/plugins/teller/benchmarks").json()["benchmarks"])
    (home.folder / "plugins" / "teller" / "main.py").write_text(code.format(seconds=0.05))
    assert outcome(reload(home)) == "reloaded"
    calls = 0
    while not events(home)[-1]["benchmark"]:
        said(home)
        calls += 1
        assert calls < 500
    found = events(home)[-1]["benchmark"]
    assert found["slower"] is True
    assert found["executions"] <= calls, "what was tried is not counted"
    latest = home.owner.get("/v1/plugins/teller/benchmarks").json()["latest"]
    assert [each for each in latest["advice"] if each["metric"] == "response_time_before"]


def test_code_of_a_plugin_that_had_none_can_be_reloaded(home: "Home") -> None:
    home.owner.post("/v1/plugins", {"plugin_id": "later", "name": "later", "version": "1.0.0"})
    home.owner.post("/v1/plugins/later/approve", {"reason": ""})
    assert reload(home, "later").status_code == 409
    home.write_plugin("later", tells("there"), version="1.0.1")
    assert outcome(reload(home, "later")) == "reloaded"
    assert said(home, "later") == "there"


def test_watch_paths_that_lead_out_are_refused_with_their_place(home: "Home") -> None:
    home.install("teller", tells("old"))
    (home.folder / "plugins" / "teller" / ".git").symlink_to("/etc")
    for path in ("../x", "/etc", ".git/hooks"):
        manifest = {"manifest_version": "2.0.0", "sandbox_config": {"watch_paths": ["src", path]}}
        home.write_plugin("teller", tells("new"), **manifest)
        (problem,) = reload(home).json()["problems"]
        assert problem["file"] == "manifest.json"
        assert problem["message"].startswith("sandbox_config.watch_paths[1]: ")
    os.unlink(home.folder / "plugins" / "teller" / ".git")  # noqa: PTH108 (not what it points to)


def test_other_packages_wait_for_a_person_before_any_is_fetched(home: "Home") -> None:
    home.install("teller", tells("old"))
    home.write_plugin("teller", tells("new"), requirements="packages.lock")
    lock = f"absent-package==1.0.0 --hash=sha256:{'0' * 64}\n"
    (home.folder / "plugins" / "teller" / "packages.lock").write_text(lock)
    assert outcome(reload(home)) == "held_back"
    assert [each["what"] for each in pending(home)[0]["difference"]] == ["requirements"]
    assert not list((home.folder / "data").glob("packages/*"))
    (home.folder / "plugins" / "teller" / "packages.lock").write_text("--index-url http://elsewhere\n")
    (problem,) = reload(home).json()["problems"]
    assert problem["file"] == "packages.lock"


def test_code_that_is_not_in_force_is_not_kept_for_ever(home: "Home") -> None:
    store = home.folder / "data" / "snapshots"
    home.install("teller", tells("old"))
    (home.folder / "plugins" / "teller" / "main.py").write_text("def execute(")
    assert reload(home).status_code == 409
    assert [f"sha256:{each.name}" for each in store.iterdir()] == [
        home.owner.get("/v1/plugins/teller").json()["digest"]
    ]
    (home.folder / "plugins" / "teller" / "main.py").write_text(tells("new"))
    assert outcome(reload(home)) == "reloaded"
    assert len(list(store.iterdir())) == 2, "calls may still be under way"
    home.reopen()
    assert [f"sha256:{each.name}" for each in store.iterdir()] == [
        home.owner.get("/v1/plugins/teller").json()["digest"]
    ]
    assert said(home) == "new"
    (home.folder / "plugins" / "teller" / "main.py").write_text(tells("old"))
    assert outcome(reload(home)) == "reloaded"
    assert said(home) == "old"


def test_what_a_kill_left_halfway_is_gone_after_the_next_start(home: "Home") -> None:
    home.install("teller", tells("old"))
    data = home.folder / "data"
    halfway = [data / store / name for store in ("snapshots", "packages") for name in (".building-a1", ".leaving-b2")]
    for each in halfway:
        (each / "code").mkdir(parents=True)
        (each / "code" / "main.py").touch(mode=0o444)
    home.reopen()
    assert not any(each.exists() for each in halfway)
    assert said(home) == "old"


def test_code_that_wants_a_review_is_tried_and_taken_only_after_one(home: "Home") -> None:
    home.write_plugin("teller", tells("old"), code_review_required=True)
    digest = home.owner.post("/v1/plugins", {"folder": "teller"}).json()["digest"]
    bob = home.person("bob", "approve")
    assert bob.post("/v1/plugins/teller/review", {"digest": digest, "reason": "read it"}).status_code in {200, 201}
    assert bob.post("/v1/plugins/teller/approve", {"reason": ""}).status_code == 200
    (home.folder / "plugins" / "teller" / "main.py").write_text(tells("new"))
    assert outcome(reload(home)) == "held_back"
    (request,) = pending(home)
    assert [each["what"] for each in request["difference"]] == ["code_review"]
    refused = approve(home, request["id"])
    assert (refused.status_code, refused.json()["gate"]) == (409, "code_review")
    assert said(home) == "old"
    assert [row for row in home.records(event_type="execution_started") if row["details"].get("trial")] == []
    own = home.owner.post("/v1/plugins/teller/review", {"digest": request["digest"], "reason": "mine"})
    assert own.status_code == 403
    seen = bob.post("/v1/plugins/teller/review", {"digest": request["digest"], "reason": "read it, too"})
    assert seen.status_code in {200, 201}, seen.text
    assert approve(home, request["id"]).status_code == 200
    assert said(home) == "new"


def test_code_in_which_a_scan_finds_too_much_waits(home: "Home") -> None:
    home.install("teller", tells("old"), security_scan=True)
    (home.folder / "plugins" / "teller" / "main.py").write_text(
        "import subprocess\n\n\ndef execute(ctx, payload):\n    subprocess.call(payload['word'], shell=True)\n"
    )
    assert outcome(reload(home)) == "held_back"
    (request,) = pending(home)
    assert [each["what"] for each in request["difference"]] == ["security_scan"]
    assert approve(home, request["id"]).json()["gate"] == "security_scan"
    (home.folder / "plugins" / "teller" / "main.py").write_text(tells("mended"))
    assert outcome(reload(home)) == "reloaded"
    assert said(home) == "mended"
    assert pending(home) == []


def test_the_hook_of_a_reload_runs_in_the_new_generation_and_not_when_it_failed(home: "Home") -> None:
    hook = "def noticed(ctx):\n    return {word!r}\n"
    manifest = {"lifecycle_hooks": {"reloaded": "noticed"}}
    home.install("teller", tells("old") + hook.format(word="old"), **manifest)
    main = home.folder / "plugins" / "teller" / "main.py"
    main.write_text(tells("new") + "raise RuntimeError('broken')\n")
    assert reload(home).status_code == 409
    main.write_text(tells("new") + hook.format(word="new"))
    assert outcome(reload(home)) == "reloaded"
    home.until(lambda: [row for row in home.records(event_type="execution_completed") if "hook" in row["details"]])
    hooks = [row["details"] for row in home.records(event_type="execution_completed") if "hook" in row["details"]]
    assert [each["generation"] for each in hooks] == [home.owner.get("/v1/plugins/teller").json()["generation"]]


def test_an_async_def_without_async_support_is_not_taken(home: "Home") -> None:
    home.install("teller", "def ask(ctx):\n    return 1\n", capabilities=[{"name": "ask"}])
    (home.folder / "plugins" / "teller" / "main.py").write_text("async def ask(ctx):\n    return 1\n")
    answer = reload(home)
    assert answer.status_code == 409
    assert answer.json()["problems"][0]["file"] == "main.py"


def test_code_and_grants_that_move_its_tier_come_into_force_in_one_turn(home: "Home") -> None:
    home.install("teller", tells("old"), wants=("vault_read notes",))
    home.write_plugin("teller", tells("new"), **wants("vault_write a", "network_read example.com", "core_read b"))
    reload(home)
    seen: set[tuple[bool, bool, tuple[str, ...]]] = set()

    async def watch() -> None:
        while True:
            policy, plugin = home.parts.policy.get(), home.parts.registry.plugins.get("teller")
            assert policy is not None
            assert plugin is not None
            rules = {f"{rule.kind}_{rule.level}" for rule in policy.rules_of("plugin:teller")}
            seen.add(
                ("core_read" in rules, plugin.generation > plugin.registration, policy.memberships["plugin:teller"])
            )
            await asyncio.sleep(0)

    watching = home.start(watch())
    assert approve(home, pending(home)[0]["id"]).status_code == 200
    watching.cancel()
    assert len({tier for _, _, tier in seen}) == 2
    assert {(granted, switched) for granted, switched, _ in seen} == {(False, False), (True, True)}
