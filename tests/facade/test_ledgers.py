"""Consents, exports and imports of grants from Python."""

from pathlib import Path

import pytest

import gateway
from gateway.app import init_home
from gateway.errors import MalformedError


@pytest.fixture
def house(tmp_path: Path) -> Path:
    init_home(tmp_path / "house")
    folder = tmp_path / "house" / "plugins" / "keeper"
    folder.mkdir()
    (folder / "main.py").write_text("def execute(ctx, payload):\n    return 1\n")
    return tmp_path / "house"


def test_consents_are_given_listed_and_withdrawn_and_grants_exported_and_imported(house: Path) -> None:
    with gateway.open(house) as gw:
        gw.plugins.register_plugin({"plugin_id": "keeper", "name": "Keeper", "version": "1.0.0"}, "alice")
        gw.plugins.approve_plugin("keeper", "alice", "test")
        given = gw.consents.give_consent("alice", "keeper", "vault_read", "notes/*", once=True, purpose="x")
        (told,) = gw.consents.get_consents("alice")
        assert (told["id"], told["on_behalf"], told["once"]) == (given, True, True)
        assert gw.consents.withdraw_consent(given, "alice")
        assert gw.consents.get_consents("alice", "keeper")[0]["end_reason"] == "withdrawn"
        exported = gw.permissions.export_permissions()
        more = {"plugin_id": "keeper", "permission": "vault_read", "scope": "a/*", "condition": "consent", "why": "x"}
        wider = {"version": 1, "grants": [*exported["grants"], more]}
        assert len(gw.permissions.import_permissions(wider, "alice", dry_run=True)["add"]) == 1
        assert gw.permissions.get_plugin_grants("keeper")[-1].scope == "keeper"
        with pytest.raises(MalformedError):
            gw.permissions.import_permissions({"version": 1, "grants": [more, {**more, "scope": "../x"}]}, "alice")
        assert gw.permissions.import_permissions(wider, "alice", "moved")["applied"] is True
        assert gw.permissions.import_permissions(wider)["add"] == []
        assert gw.permissions.get_plugin_grants("keeper")[-1].scope == "a/*"
        assert {each["scope"] for each in gw.permissions.get_unused_grants()} == {"keeper", "a/*"}


def test_a_lockdown_stops_what_it_names_until_it_is_lifted_with_a_reason(house: Path) -> None:
    with gateway.open(house) as gw:
        gw.plugins.register_plugin({"plugin_id": "keeper", "name": "Keeper", "version": "1.0.0"}, "alice")
        gw.plugins.approve_plugin("keeper", "alice", "test")
        locked = gw.lockdowns.lock_down("plugin:keeper", "alice", "smoke")
        assert [(each["id"], each["scope"]) for each in gw.lockdowns.get_lockdowns()] == [(locked, "plugin:keeper")]
        assert not gw.plugins.execute_plugin("keeper", "alice", {}).success
        with pytest.raises(MalformedError):
            gw.lockdowns.lift(locked, "alice", " ")
        assert gw.lockdowns.lift(locked, "alice", "over")
        assert gw.plugins.execute_plugin("keeper", "alice", {}).success
