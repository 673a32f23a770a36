"""The requirements' calls, in their order, on a real home."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import gateway
from gateway.app import init_home
from gateway.errors import HomeInUseError, MalformedError, NoCodeError, NoHomeError, NotFoundError
from gateway.facade import AuditEvent, Gateway


@pytest.fixture
def house(tmp_path: Path) -> Path:
    init_home(tmp_path / "house", plugins=True)
    return tmp_path / "house"


@pytest.fixture
def gw(house: Path) -> Iterator[Gateway]:
    with gateway.open(house) as opened:
        yield opened


@pytest.fixture
def notes(gw: Gateway, house: Path) -> str:
    manifest = json.loads((house / "plugins" / "notes" / "manifest.json").read_text())
    return gw.plugins.register_plugin(manifest, "alice")


def test_register_approve_execute_revoke(gw: Gateway, notes: str) -> None:
    assert notes == "notes"
    assert gw.plugins.get_plugin_status(notes).status == "registered"
    assert gw.plugins.approve_plugin(notes, "alice", "Testing approved") is True
    assert gw.plugins.get_plugin_status(notes).status == "active"

    result = gw.plugins.execute_plugin(notes, "alice", {"action": "remember", "text": "buy bread"}, "s1", 5)
    assert result.success
    assert result.error is None
    assert result.execution_time > 0
    assert result.sandbox_result is not None
    assert result.sandbox_result.success
    assert gw.plugins.execute_plugin(notes, "alice", {"action": "recall", "word": "bread"}).output == ["buy bread"]
    assert gw.plugins.execute_plugin(notes, "bob", {"action": "recall", "word": "bread"}).output == []

    failed = gw.plugins.execute_plugin(notes, "alice", {"action": "diary_summary"})
    assert (failed.success, failed.outcome) == (False, "failed")
    assert "consent_required" in str(failed.error)

    assert gw.plugins.suspend_plugin(notes, "alice", "lunch")
    assert gw.plugins.resume_plugin(notes, "alice", "back")
    assert [one.plugin_id for one in gw.plugins.list_plugins(status_filter="active")] == [notes]
    assert gw.plugins.revoke_plugin(notes, "alice", "Security concerns")
    assert gw.plugins.list_plugins(status_filter="active") == []
    assert gw.plugins.uninstall_plugin(notes, "alice", "gone")
    with pytest.raises(NotFoundError):
        gw.plugins.get_plugin_status(notes)


def test_a_manifest_may_come_before_its_code(gw: Gateway) -> None:
    manifest = {
        "plugin_id": "my-plugin",
        "name": "My Plugin",
        "version": "1.0.0",
        "description": "A sample plugin",
        "author": "Developer",
        "requested_permissions": [{"permission": "vault_read", "level": "read"}],
    }
    assert gw.plugins.register_plugin(manifest, "alice") == "my-plugin"
    assert gw.plugins.approve_plugin("my-plugin", "alice", "Testing approved")
    with pytest.raises(NoCodeError, match="plugins/my-plugin"):
        gw.plugins.execute_plugin("my-plugin", "alice", {"action": "analyze", "data": "sample_data"})


def test_the_manifest_comes_with_its_log(gw: Gateway, notes: str) -> None:
    gw.plugins.approve_plugin(notes, "alice", "x")
    manifest = gw.plugins.get_plugin_manifest(notes)
    assert manifest is not None
    assert json.loads(manifest.to_json())["plugin_id"] == notes
    events = manifest.audit_log
    kinds = [event.event_type for event in events]
    assert kinds.index("registered") < kinds.index("approved") < kinds.index("activated")
    assert [event.event_type for event in events if event.event_type.startswith("security_")] == ["security_scan"]
    day_ago = datetime.now(UTC) - timedelta(hours=24)
    assert all(datetime.fromisoformat(event.timestamp) > day_ago for event in events)
    assert gw.plugins.get_plugin_manifest("absent") is None


def test_permissions_are_requested_approved_checked_and_revoked(gw: Gateway, notes: str) -> None:
    check = gw.permissions.check_permission
    assert not check(notes, "plugin_execute", "execute")
    gw.plugins.approve_plugin(notes, "alice", "x")
    assert check(notes, "plugin_execute", "execute")
    assert check(notes, "vault_read", "read", "notes/today")
    assert not check(notes, "vault_read", "read")
    assert not check(notes, "vault_read", "read", "secrets/today")

    wanted = [{"permission": "vault_read", "level": "read", "scope": "lists"}]
    request_id = gw.permissions.request_permissions(notes, "alice", wanted)
    assert [one.request_id for one in gw.permissions.get_pending_requests()] == [request_id]
    assert not check(notes, "vault_read", "read", "lists/shopping")
    assert gw.permissions.approve_permissions(request_id, "bob", "fine")
    assert check(notes, "vault_read", "read", "lists/shopping")
    assert gw.permissions.get_pending_requests() == []

    held = {(one.permission, one.scope) for one in gw.permissions.get_plugin_permissions(notes)}
    assert ("vault_read", "lists/*") in held
    assert {one.id for one in gw.permissions.get_plugin_grants(notes)} == {f"grant-{n}" for n in range(1, 6)}
    assert gw.permissions.revoke_permissions(notes, "alice", "no", permission="vault_read", scope="lists/*")
    assert not check(notes, "vault_read", "read", "lists/shopping")
    assert check(notes, "vault_read", "read", "notes/today")

    refused = gw.permissions.request_permissions(notes, "alice", wanted)
    assert gw.permissions.deny_permissions(refused, "bob", "no")
    assert gw.permissions.export_permissions()["version"] == 1


def test_nobody_is_given_rights_by_being_named(gw: Gateway, notes: str) -> None:
    gw.plugins.approve_plugin(notes, "alice", "x")
    manifest = gw.plugins.get_plugin_manifest(notes)
    assert manifest is not None
    (approved,) = (event for event in manifest.audit_log if event.event_type == "approved")
    assert approved.user_id != "alice"
    assert "alice" in json.dumps(dict(approved.details))


def test_handlers_hear_of_lifecycle_events(gw: Gateway, notes: str) -> None:
    heard: list[AuditEvent] = []
    gw.plugins.register_lifecycle_handler("approved", heard.append)
    gw.plugins.register_lifecycle_handler("activated", heard.append)
    gw.plugins.approve_plugin(notes, "alice", "x")
    assert [(event.event_type, event.plugin_id) for event in heard] == [("approved", notes), ("activated", notes)]


def test_traffic_is_told(gw: Gateway, notes: str) -> None:
    gw.plugins.approve_plugin(notes, "alice", "x")
    gw.plugins.execute_plugin(notes, "alice", {"action": "remember", "text": "buy bread"})
    (row,) = gw.traffic.transfers(plugin=notes)
    assert (row["op"], row["user"]) == ("vault.write", "alice")
    assert gw.traffic.summary(user="alice")["transfers"] == 1
    assert gw.traffic.summary(user="bob")["transfers"] == 0
    assert gw.traffic.active() == []
    (line,) = gw.traffic.export("jsonl", plugin=notes)
    assert json.loads(line) == row


def test_debug_logging_can_be_turned_on(gw: Gateway, notes: str, caplog: pytest.LogCaptureFixture) -> None:
    gw.plugins.logger.setLevel(logging.DEBUG)
    gw.plugins.approve_plugin(notes, "alice", "x")
    assert "approve notes on behalf of alice" in caplog.text


def test_a_home_is_open_once(gw: Gateway, house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.client.client._IN_USE_WAIT_S", 0.1)
    with pytest.raises(HomeInUseError):
        gateway.open(house)
    assert gw.home == house


def test_a_home_that_is_served_is_asked_through_its_socket(house: Path) -> None:
    hearthgate = str(Path(sys.executable).with_name("hearthgate"))
    command = [hearthgate, "serve", "--home", house, "--listen", "127.0.0.1:0"]
    serving = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert serving.stdout is not None
    for line in serving.stdout:
        if "hearthgate.sock" in line:
            break
    try:
        with gateway.open(str(house)) as gw:
            manifest = json.loads((house / "plugins" / "notes" / "manifest.json").read_text())
            assert gw.plugins.register_plugin(manifest, "alice") == "notes"
    finally:
        serving.terminate()
        serving.wait(30)
        serving.stdout.close()


def test_what_is_no_home_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(NoHomeError, match="hearthgate init"):
        gateway.open(tmp_path)


def test_a_permission_that_is_none_is_malformed(gw: Gateway) -> None:
    with pytest.raises(MalformedError):
        gw.permissions.check_permission("notes", "vault_raed", "read", "notes/x")


def test_the_log_is_exported_with_its_manifest(gw: Gateway, notes: str, tmp_path: Path) -> None:
    since = datetime.now(UTC) - timedelta(hours=1)
    manifest = gw.audit.export(tmp_path / "log.csv", form="csv", redact=["user_id"], plugin=notes, since=since)
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert manifest["rows"] == len(lines) - 1
    assert (manifest["redacted"], manifest["filters"]["plugin"]) == (["user_id"], notes)
    assert any(line.split(",")[3] == "registered" for line in lines)
    assert gw.audit.sinks() == []
