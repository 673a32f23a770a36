"""Each method of the published reference takes what the reference gives it, and no more is needed."""

import inspect

import pytest

from gateway.facade.permissions import PermissionManager
from gateway.facade.plugins import PluginManager

PLUGIN_CALLS = {
    "register_plugin": ("manifest_data", "user_id"),
    "approve_plugin": ("plugin_id", "user_id", "reason"),
    "reload_plugin": ("plugin_id", "user_id", "reason"),
    "revoke_plugin": ("plugin_id", "user_id", "reason"),
    "suspend_plugin": ("plugin_id", "user_id", "reason"),
    "resume_plugin": ("plugin_id", "user_id", "reason"),
    "uninstall_plugin": ("plugin_id", "user_id", "reason"),
    "execute_plugin": ("plugin_id", "user_id", "payload", "session_id", "timeout"),
    "get_plugin_status": ("plugin_id",),
    "list_plugins": ("status_filter",),
    "get_plugin_manifest": ("plugin_id",),
    "get_reload_events": ("plugin_id",),
    "register_lifecycle_handler": ("event_type", "handler"),
    "run_plugin_benchmark": ("plugin_id", "payload"),
    "_run_plugin_benchmark": ("plugin_id", "payload"),
    "should_run_benchmark": ("plugin_id",),
    "_should_run_benchmark": ("plugin_id",),
    "_setup_file_watcher": ("plugin_id", "manifest"),
}
PERMISSION_CALLS = {
    "request_permissions": ("plugin_id", "user_id", "permissions"),
    "approve_permissions": ("request_id", "user_id", "reason"),
    "deny_permissions": ("request_id", "user_id", "reason"),
    "check_permission": ("plugin_id", "permission", "level", "scope"),
    "get_plugin_permissions": ("plugin_id",),
    "get_pending_requests": (),
    "get_plugin_grants": ("plugin_id",),
    "export_permissions": (),
    "import_permissions": ("data",),
    "revoke_permissions": ("plugin_id", "user_id", "reason"),
}


@pytest.mark.parametrize(
    ("manager", "method", "given"),
    [
        *((PluginManager, method, given) for method, given in PLUGIN_CALLS.items()),
        *((PermissionManager, method, given) for method, given in PERMISSION_CALLS.items()),
    ],
)
def test_a_method_takes_what_the_reference_gives_it(manager: type, method: str, given: tuple[str, ...]) -> None:
    bound = inspect.signature(getattr(manager, method)).bind(None, *given)
    taken = [name.lstrip("_") for name in bound.arguments][1:]
    assert taken == list(given)


@pytest.mark.parametrize(("method", "given"), [("execute_plugin", 3), ("check_permission", 3), ("list_plugins", 0)])
def test_what_the_reference_leaves_out_may_be_left_out(method: str, given: int) -> None:
    manager = PluginManager if hasattr(PluginManager, method) else PermissionManager
    inspect.signature(getattr(manager, method)).bind(None, *range(given))
