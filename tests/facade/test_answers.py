"""What the facade makes of the gateway's answers, with the gateway's words played back."""

from collections.abc import Mapping
from typing import Any, cast

import pytest

from gateway.client import Client, Reply
from gateway.errors import DeniedError, HearthgateError, MalformedError, NotFoundError
from gateway.facade import PermissionManager, PluginManager


class Script:
    """Plays back answers and keeps what was asked."""

    def __init__(self, **answers: object) -> None:
        self.answers = answers
        self.asked: list[tuple[str, str, Any]] = []

    def request(self, method: str, path: str, *, json: object = None, **_: object) -> Reply:
        self.asked.append((method, path, json))
        answer = self.answers[path.rpartition("/")[2].replace("-", "_")]
        if isinstance(answer, HearthgateError):
            raise answer
        return Reply(status=200, body=answer() if callable(answer) else answer)


def plugins(script: Script) -> PluginManager:
    return PluginManager(cast(Client, script))


def permissions(script: Script) -> PermissionManager:
    return PermissionManager(cast(Client, script))


def test_a_denied_execution_is_an_answer_that_names_its_decision() -> None:
    script = Script(execute=DeniedError("`user:bob` may not execute `plugins/notes`", decision_id="019a"))
    result = plugins(script).execute_plugin("notes", "bob", {"action": "list"})
    assert (result.success, result.outcome, result.decision_id) == (False, "refused", "019a")
    assert "may not execute" in str(result.error)
    assert result.sandbox_result is None


def test_an_execution_that_cannot_be_answered_is_an_error() -> None:
    with pytest.raises(NotFoundError):
        plugins(Script(execute=NotFoundError("no such plugin"))).execute_plugin("absent", "bob", {})


def test_what_was_not_given_is_not_sent() -> None:
    script = Script(execute={"success": True, "outcome": "returned", "output": 1, "sandbox_result": {"success": True}})
    result = plugins(script).execute_plugin("notes", "bob", {"a": 1})
    assert script.asked == [("POST", "/v1/plugins/notes/execute", {"payload": {"a": 1}})]
    assert result.success
    assert result.sandbox_result is not None
    assert result.sandbox_result.success
    plugins(script).execute_plugin("notes", "bob", {}, "s1", 2.5)
    assert script.asked[1][2] == {"payload": {}, "session_id": "s1", "timeout_s": 2.5}


def test_success_must_be_said_to_be_believed() -> None:
    assert not plugins(Script(execute={"outcome": "returned"})).execute_plugin("notes", "bob", {}).success


@pytest.mark.parametrize(
    ("permission", "scope", "asked"),
    [
        ("vault_read", None, None),
        ("plugin_execute", None, "notes"),
        ("plugin_execute", "other", "other"),
        ("vault_read", "notes/today", "notes/today"),
    ],
)
def test_no_scope_is_never_any_scope(permission: str, scope: str | None, asked: str | None) -> None:
    script = Script(decisions={"effect": "allow"})
    assert permissions(script).check_permission("notes", permission, "read", scope) is (asked is not None)
    assert [body["scope"] for _, _, body in script.asked] == ([] if asked is None else [asked])
    assert all(body["dry_run"] for _, _, body in script.asked)


@pytest.mark.parametrize("effect", ["deny", "", "ALLOW", "permit"])
def test_only_allow_is_allow(effect: str) -> None:
    assert not permissions(Script(decisions={"effect": effect})).check_permission("n", "vault_read", "read", "x")


def test_an_unknown_plugin_has_no_manifest() -> None:
    assert plugins(Script(manifest=NotFoundError("no such plugin"))).get_plugin_manifest("absent") is None


def test_handlers_hear_what_this_object_causes_and_nothing_older() -> None:
    log: list[Mapping[str, Any]] = [{"event_id": "audit-1", "event_type": "registered"}]

    def approve() -> dict[str, str]:
        log.extend(
            {"event_id": f"audit-{n}", "event_type": kind} for n, kind in enumerate(("approved", "activated"), 2)
        )
        return {"status": "active"}

    heard: list[str] = []
    manager = plugins(Script(timeline=lambda: {"events": list(log)}, approve=approve))
    manager.register_lifecycle_handler("registered", lambda event: heard.append(event.event_id))
    manager.register_lifecycle_handler("approved", lambda event: heard.append(event.event_id))
    assert manager.approve_plugin("notes", "bob", "read its code")
    assert heard == ["audit-2"]


def test_a_handler_that_raises_is_logged_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    states = iter([{"events": []}, {"events": [{"event_id": "audit-9", "event_type": "revoked"}]}])
    manager = plugins(Script(timeline=lambda: next(states), revoke={"status": "revoked"}))
    manager.register_lifecycle_handler("revoked", lambda _event: 1 / 0)
    assert manager.revoke_plugin("notes", "bob", "enough")
    assert "a handler of revoked events failed" in caplog.text


def test_a_handler_of_nothing_is_refused() -> None:
    with pytest.raises(MalformedError, match="`aproved` is no lifecycle event"):
        plugins(Script()).register_lifecycle_handler("aproved", print)


def test_a_benchmark_is_run_with_the_requirements_own_configuration() -> None:
    measured = {"plugin_id": "notes", "generation": 2, "tier": "gold", "executions": 7, "advice": [{"text": "less"}]}
    script = Script(benchmarks=measured)
    config = {"test_duration": 30, "response_time_threshold": 1000.0, "resource_limits": {"max_disk_mb": 100}}
    result = plugins(script)._run_plugin_benchmark("notes", {"action": "list"}, config)
    assert script.asked == [("POST", "/v1/plugins/notes/benchmarks", {**config, "payload": {"action": "list"}})]
    assert (result.tier, result.executions, result.advice) == ("gold", 7, ("less",))
    assert plugins(Script(benchmarks={"should_run": True})).should_run_benchmark("notes")
