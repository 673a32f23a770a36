"""Plugins from a Python program: the requirements' plugin manager."""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from gateway.client import Client
from gateway.domain.record import CATEGORY_OF, Category
from gateway.errors import DeniedError, MalformedError, NotFoundError, ReloadFailedError
from gateway.facade.values import (
    AuditEvent,
    BenchmarkResult,
    ExecutionResult,
    PluginManifest,
    PluginStatus,
    ReloadEvent,
)

Handler = Callable[[AuditEvent], object]

_PAGE = 500
_MAX_EVENTS = 10_000
_LIFECYCLE = tuple(name for name, category in CATEGORY_OF.items() if category is Category.LIFECYCLE)


class PluginManager:
    """Plugins: register, approve, execute, take away.

    `user_id` is recorded as the one on whose behalf the home's owner acts; it gives no rights and is no
    second pair of eyes.
    """

    def __init__(self, client: Client) -> None:
        self.logger = logging.getLogger("gateway.plugins")
        self._client = client
        self._handlers: dict[str, list[Handler]] = defaultdict(list)

    def register_plugin(self, manifest_data: Mapping[str, Any], user_id: str) -> str:
        """Register a plugin by its manifest and give its id; its code lies in the home's `plugins/<id>`."""
        with self._telling(str(manifest_data.get("plugin_id"))):
            reply = self._client.request("POST", "/v1/plugins", json=dict(manifest_data), on_behalf=user_id)
        plugin_id: str = reply.body["plugin_id"]
        return plugin_id

    def approve_plugin(self, plugin_id: str, user_id: str, reason: str = "") -> bool:
        """Approve a registered plugin with what its manifest requests; it becomes active."""
        return self._move(plugin_id, "approve", user_id, reason)

    def suspend_plugin(self, plugin_id: str, user_id: str, reason: str = "") -> bool:
        """Stop a plugin for now; running work is killed."""
        return self._move(plugin_id, "suspend", user_id, reason)

    def resume_plugin(self, plugin_id: str, user_id: str, reason: str = "") -> bool:
        """Let a suspended plugin work again."""
        return self._move(plugin_id, "resume", user_id, reason)

    def resume_tool(self, plugin_id: str, capability: str, user_id: str, reason: str) -> bool:
        """Let a tool of an MCP server be called again that was suspended, for it was defined otherwise."""
        return self._move(plugin_id, f"tools/{quote(capability, safe='')}/resume", user_id, reason)

    def revoke_plugin(self, plugin_id: str, user_id: str, reason: str = "") -> bool:
        """Take all a plugin's grants away for good; running work is killed."""
        return self._move(plugin_id, "revoke", user_id, reason)

    def uninstall_plugin(self, plugin_id: str, user_id: str, reason: str = "") -> bool:
        """Remove a plugin with its grants, consents and requests."""
        return self._move(plugin_id, "uninstall", user_id, reason)

    def execute_plugin(
        self,
        plugin_id: str,
        user_id: str,
        payload: Mapping[str, Any],
        session_id: str | None = None,
        timeout: float | None = None,
    ) -> ExecutionResult:
        """Run a plugin and give what became of it; a denial is an answer, too: `success` false, `outcome` refused."""
        more = {"session_id": session_id, "timeout_s": timeout}
        body = {"payload": dict(payload), **{name: value for name, value in more.items() if value is not None}}
        path = f"/v1/plugins/{plugin_id}/execute"
        try:
            result = ExecutionResult.read(self._client.request("POST", path, json=body, on_behalf=user_id).body)
        except DeniedError as error:
            result = ExecutionResult(success=False, outcome="refused", error=str(error), decision_id=error.decision_id)
        self.logger.debug("executed %s: %s", plugin_id, result.outcome)
        return result

    def review_plugin(self, plugin_id: str, user_id: str, digest: str, reason: str) -> bool:
        """Say that this very code was reviewed; counted for the home's owner, who is none if they registered it."""
        body = {"digest": digest, "reason": reason}
        self._client.request("POST", f"/v1/plugins/{plugin_id}/review", json=body, on_behalf=user_id)
        return True

    def scan_plugin(self, plugin_id: str, user_id: str) -> dict[str, Any]:
        """Scan a plugin's code with bandit: `passed`, `counts` by severity, and `findings` with file and line."""
        found: dict[str, Any] = self._client.request("POST", f"/v1/plugins/{plugin_id}/scan", on_behalf=user_id).body
        return found

    def accept_scan(self, plugin_id: str, user_id: str, digest: str, reason: str) -> bool:
        """Take what the scan of this very code found upon oneself, so that it may be approved all the same."""
        body = {"digest": digest, "reason": reason}
        self._client.request("POST", f"/v1/plugins/{plugin_id}/scan/accept", json=body, on_behalf=user_id)
        return True

    def get_plugin_risk(self, plugin_id: str) -> dict[str, Any]:
        """Tell how risky a plugin is: `declared`, `computed`, by `rights`, if all were granted (`requested`)."""
        found: dict[str, Any] = self._client.request("GET", f"/v1/plugins/{plugin_id}/risk").body
        return found

    def get_plugin_status(self, plugin_id: str) -> PluginStatus:
        """Tell where a plugin stands.

        Raises:
            NotFoundError: there is no such plugin.

        """
        return PluginStatus.read(self._client.request("GET", f"/v1/plugins/{plugin_id}").body)

    def list_plugins(self, status_filter: str | None = None) -> list[PluginStatus]:
        """List the plugins, or those in one state."""
        reply = self._client.request("GET", "/v1/plugins", params={"status": status_filter})
        return [PluginStatus.read(body) for body in reply.body["plugins"]]

    def get_plugin_manifest(self, plugin_id: str) -> PluginManifest | None:
        """Give the manifest in force, None if there is no such plugin."""
        try:
            reply = self._client.request("GET", f"/v1/plugins/{plugin_id}/manifest")
        except NotFoundError:
            return None
        return PluginManifest.read(reply.body, self._read_log)

    def reload_plugin(self, plugin_id: str, user_id: str, reason: str = "") -> bool:
        """Take over what lies in a plugin's folder; True if it is in force, False if what was in force still is.

        `get_reload_events` tells why it failed; what asks for more waits in `get_pending_requests`.

        Raises:
            DeniedError: the owner may not.
            NotFoundError: there is no such plugin.
            IllegalTransitionError: it is in a state in which nothing is reloaded.

        """
        path = f"/v1/plugins/{plugin_id}/reload"
        with self._telling(plugin_id):
            try:
                reply = self._client.request("POST", path, json={"reason": reason}, on_behalf=user_id)
            except ReloadFailedError as error:
                self.logger.warning("reload of %s failed: %s", plugin_id, error.message)
                return False
        self.logger.debug("reload of %s: %s", plugin_id, reply.body["reload"]["outcome"])
        return reply.body["reload"]["success"] is True

    def get_reload_events(self, plugin_id: str) -> list[ReloadEvent]:
        """List what the log has of reloads of a plugin, the oldest first; none were if the list is empty."""
        events = self._read_log(plugin_id, event_type="reloaded")
        return [ReloadEvent.of(event) for event in events]

    def register_lifecycle_handler(self, event_type: str, handler: Handler) -> None:
        """Call `handler` with each event of this type that a method of this object causes, before it returns.

        What others cause is in the log and in a plugin's timeline. A handler that raises is logged.

        Raises:
            MalformedError: it is no lifecycle event.

        """
        if event_type not in _LIFECYCLE:
            raise MalformedError(f"`{event_type}` is no lifecycle event", way_out=f"one of {', '.join(_LIFECYCLE)}")
        self._handlers[event_type].append(handler)

    def run_plugin_benchmark(
        self,
        plugin_id: str,
        payload: Mapping[str, Any],
        benchmark_config: Mapping[str, Any] | None = None,
        user_id: str | None = None,
    ) -> BenchmarkResult:
        """Call a capability that its manifest calls idempotent for a while, and give what was measured.

        `benchmark_config` may have test_duration (seconds), concurrency, response_time_threshold (milliseconds),
        error_rate_threshold (0 to 1) and resource_limits (max_cpu_percent, max_memory_mb, max_disk_mb).

        Raises:
            MalformedError: that capability is not declared idempotent, or the configuration is not understood.
            DeniedError: the plugin may not do what it was called for.

        """
        body = {**(benchmark_config or {}), "payload": dict(payload)}
        path = f"/v1/plugins/{plugin_id}/benchmarks"
        return BenchmarkResult.read(self._client.request("POST", path, json=body, on_behalf=user_id).body)

    def should_run_benchmark(self, plugin_id: str) -> bool:
        """Tell whether ten calls or more ended since a benchmark was run, and the manifest wants it monitored."""
        return bool(self._client.request("GET", f"/v1/plugins/{plugin_id}/benchmarks").body["should_run"])

    def get_plugin_benchmarks(self, plugin_id: str) -> list[BenchmarkResult]:
        """List what was measured, by benchmarks and by every ten calls, the newest first."""
        found = self._client.request("GET", f"/v1/plugins/{plugin_id}/benchmarks").body["benchmarks"]
        return [BenchmarkResult.read(body) for body in found]

    def _setup_file_watcher(self, plugin_id: str, _manifest: object = None) -> list[str]:
        """Give what the gateway watches of an active plugin, by itself and without being asked; nothing if it may not.

        Raises:
            NotFoundError: there is no such plugin.

        """
        body = self._client.request("GET", f"/v1/plugins/{plugin_id}/reloads").body
        watched = [*body["watch_paths"], "manifest.json", body["entry_point"]]
        return [f"plugins/{plugin_id}/{path}" for path in watched] if body["live_reload"] else []

    _run_plugin_benchmark = run_plugin_benchmark
    _should_run_benchmark = should_run_benchmark

    def _move(self, plugin_id: str, step: str, user_id: str, reason: str) -> bool:
        path = f"/v1/plugins/{plugin_id}/{step}"
        with self._telling(plugin_id):
            self._client.request("POST", path, json={"reason": reason}, on_behalf=user_id)
        self.logger.debug("%s %s on behalf of %s", step, plugin_id, user_id)
        return True

    @contextmanager
    def _telling(self, plugin_id: str) -> Iterator[None]:
        """Tell the handlers of the events that happen to a plugin meanwhile."""
        if not self._handlers:
            yield
            return
        before = {event.event_id for event in self._timeline(plugin_id)}
        yield
        for event in self._timeline(plugin_id):
            if event.event_id not in before:
                self._tell(event)

    def _tell(self, event: AuditEvent) -> None:
        for handler in self._handlers.get(event.event_type, ()):
            try:
                handler(event)
            except Exception:
                self.logger.exception("a handler of %s events failed", event.event_type)

    def _timeline(self, plugin_id: str) -> tuple[AuditEvent, ...]:
        try:
            reply = self._client.request("GET", f"/v1/plugins/{plugin_id}/timeline")
        except NotFoundError:
            return ()
        return tuple(AuditEvent.read(body) for body in reply.body["events"])

    def _read_log(self, plugin_id: str, event_type: str | None = None) -> tuple[AuditEvent, ...]:
        events: list[AuditEvent] = []
        cursor = None
        while len(events) < _MAX_EVENTS:
            params = {"plugin": plugin_id, "event_type": event_type, "limit": _PAGE, "cursor": cursor}
            page = self._client.request("GET", "/v1/audit", params=params).body
            events += (AuditEvent.read(body) for body in page["records"])
            cursor = page["cursor"]
            if cursor is None:
                break
        return tuple(reversed(events[:_MAX_EVENTS]))
