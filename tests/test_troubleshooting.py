"""The recipes of docs/troubleshooting.md, typed character for character, tell what went wrong."""

import json
import logging
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

import gateway
from gateway.app import init_home
from gateway.errors import NotFoundError
from gateway.facade import Gateway

PAGE = Path(__file__).parents[1] / "docs" / "troubleshooting.md"
_RECIPES = dict(
    re.findall(r"^## (.+?)\n\n```python recipe\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
)


@pytest.fixture
def gw(tmp_path: Path) -> Iterator[Gateway]:
    home = tmp_path / "house"
    init_home(home, plugins=True)
    with gateway.open(home) as opened:
        opened.plugins.register_plugin(json.loads((home / "plugins" / "notes" / "manifest.json").read_text()), "alice")
        opened.plugins.approve_plugin("notes", "alice", "x")
        yield opened


def typed(gw: Gateway, recipe: str, **names: object) -> str:
    """Type a recipe and give what it prints."""
    known: dict[str, Any] = {"plugin_manager": gw.plugins, "permission_manager": gw.permissions, **names}
    with redirect_stdout(StringIO()) as printed:
        exec(_RECIPES[recipe], known)  # noqa: S102 (the page's own code)
    return printed.getvalue()


def test_there_is_a_recipe_for_each_common_issue() -> None:
    assert list(_RECIPES) == [
        "Permission Denied",
        "Plugin Not Found",
        "Execution Failed",
        "Reload Failed",
        "Debug Mode",
    ]


def test_permission_denied(gw: Gateway) -> None:
    told = typed(gw, "Permission Denied", plugin_id="notes")
    assert "permission='vault_read', level='read', scope='notes/*'" in told
    assert told.endswith("Has vault_read permission: False\n")
    assert gw.permissions.check_permission("notes", "vault_read", "read", "notes/today")


def test_plugin_not_found(gw: Gateway) -> None:
    assert typed(gw, "Plugin Not Found", plugin_id="notes") == "Plugin status: active\n"
    with redirect_stdout(StringIO()) as printed, pytest.raises(NotFoundError, match="`absent`"):
        exec(_RECIPES["Plugin Not Found"], {"plugin_manager": gw.plugins, "plugin_id": "absent"})  # noqa: S102 (same)
    assert printed.getvalue() == "Plugin absent not found\n"


def test_execution_failed(gw: Gateway) -> None:
    told = typed(gw, "Execution Failed", plugin_id="notes", user_id="alice", payload={"action": "diary_summary"})
    assert re.search(r"^Execution failed: .*consent_required", told)
    assert re.search(r"^Execution time: 0\.\d+$", told, re.MULTILINE)
    assert re.search(r"^Sandbox success: False\nSandbox error: .*consent_required", told, re.MULTILINE)
    gw.plugins.execute_plugin("notes", "alice", {"action": "remember", "text": "buy bread"})
    payload = {"action": "recall", "word": "bread"}
    told = typed(gw, "Execution Failed", plugin_id="notes", user_id="alice", payload=payload)
    assert told == "Sandbox success: True\nSandbox error: None\n"


def test_reload_failed(gw: Gateway) -> None:
    assert typed(gw, "Reload Failed", plugin_id="notes") == ""
    assert gw.plugins.get_reload_events("notes") == []


def test_debug_mode(gw: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    told = typed(gw, "Debug Mode", plugin_id="notes")
    assert json.loads(told.removeprefix("Manifest: "))["plugin_id"] == "notes"
    caplog.clear()
    gw.plugins.execute_plugin("notes", "alice", {"action": "remember", "text": "zz-canary"})
    assert "executed notes: returned" in caplog.text
    assert "zz-canary" not in caplog.text
    gw.plugins.logger.setLevel(logging.NOTSET)


def test_the_requirements_recipes_are_kept_to_the_letter() -> None:
    for recipe, line in {
        "Permission Denied": 'print(f"Has vault_read permission: {has_permission}")\n',
        "Plugin Not Found": 'print(f"Plugin status: {status.status}")\n',
        "Execution Failed": 'print(f"Sandbox error: {result.sandbox_result.error}")\n',
        "Reload Failed": 'print(f"Reason: {event.reason}")\n',
        "Debug Mode": 'print(f"Manifest: {manifest.to_json()}")\n',
    }.items():
        assert _RECIPES[recipe].endswith(line)
