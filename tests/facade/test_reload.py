"""The requirements' calls for reloading, on a real home."""

import json
from pathlib import Path

import pytest

import gateway
from gateway.app import init_home
from gateway.errors import IllegalTransitionError, NotFoundError
from gateway.facade import Gateway

MANIFEST = {"plugin_id": "teller", "name": "Teller", "version": "1.0.0", "author": "Developer"}


def write(folder: Path, code: str, **members: object) -> dict[str, object]:
    folder.mkdir(exist_ok=True)
    manifest = {**MANIFEST, **members}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "main.py").write_text(code)
    return manifest


def failures(gw: Gateway) -> list[str]:
    """Print what the requirements print."""
    told = []
    for event in gw.plugins.get_reload_events("teller"):
        told.append(f"Reload: {event.reason} - Success: {event.success}")
        told.append(f"Previous: {event.previous_version} -> New: {event.new_version}")
        if not event.success:
            told.append(f"Reload failed: {str(event.details.get('error')).splitlines()[0]}")
    return told


def test_reload_as_the_requirements_call_it(tmp_path: Path) -> None:
    init_home(tmp_path / "house")
    folder = tmp_path / "house" / "plugins" / "teller"
    with gateway.open(tmp_path / "house") as gw:
        plugin_id = gw.plugins.register_plugin(write(folder, "def execute(ctx, payload): return 1\n"), "alice")
        told: list[str] = []
        gw.plugins.register_lifecycle_handler("reloaded", lambda event: told.append(event.resolution))
        with pytest.raises(IllegalTransitionError):
            gw.plugins.reload_plugin(plugin_id, "alice", "too early")
        gw.plugins.approve_plugin(plugin_id, "alice", "Testing approved")
        write(folder, "def execute(ctx, payload): return 2\n", version="1.0.1")
        assert gw.plugins.reload_plugin(plugin_id, "alice", "Bug fix update") is True
        assert gw.plugins.execute_plugin(plugin_id, "alice", {}).output == 2
        write(folder, "def execute(ctx, payload) return\n", version="1.0.2")
        assert gw.plugins.reload_plugin(plugin_id, "alice", "New features") is False
        write(folder, "pass\n", version="1.0.3", requested_permissions=[{"permission": "vault_read", "scope": "a"}])
        assert gw.plugins.reload_plugin(plugin_id, "alice", "More") is False
        assert [each.raw["type"] for each in gw.permissions.get_pending_requests()] == ["update"]
        assert gw.plugins.execute_plugin(plugin_id, "alice", {}).output == 2
        assert failures(gw) == [
            "Reload: Bug fix update - Success: True",
            "Previous: 1.0.0 -> New: 1.0.1",
            "Reload: New features - Success: False",
            "Previous: 1.0.1 -> New: 1.0.2",
            "Reload failed: it cannot be loaded: SyntaxError: expected ':' (main.py, line 1)",
        ]
        assert told == ["completed", "failed"]
        assert gw.plugins.get_plugin_manifest(plugin_id).version == "1.0.1"  # type: ignore[union-attr] # it is there
        assert gw.plugins._setup_file_watcher(plugin_id, None) == []
        live = {
            "manifest_version": "2.0.0",
            "sandbox_config": {"live_reload": True, "watch_paths": ["src/", "config/"]},
        }
        write(folder, "def execute(ctx, payload): return 3\n", version="1.0.4", **live)
        assert gw.plugins.reload_plugin(plugin_id, "alice", "Live from now on") is False
        (request,) = gw.permissions.get_pending_requests()
        assert gw.permissions.approve_permissions(request.request_id, "alice", "seen") is True
        assert gw.plugins._setup_file_watcher(plugin_id, None) == [
            f"plugins/{plugin_id}/{path}" for path in ("src/", "config/", "manifest.json", "main.py")
        ]
        with pytest.raises(NotFoundError):
            gw.plugins.reload_plugin("absent", "alice", "")
