"""What the facade gives: frozen values, read from the gateway's JSON."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

Json = Mapping[str, Any]
_NOTHING: Json = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxResult:
    """How the run in the sandbox ended."""

    success: bool
    outcome: str
    error: str | None = None
    usage: Json = field(default_factory=dict)
    stdout: str = ""

    @classmethod
    def read(cls, body: Json) -> Self:
        """Take it from JSON."""
        return cls(
            success=body.get("success") is True,
            outcome=body.get("outcome", "unknown"),
            error=body.get("error"),
            usage=body.get("usage") or _NOTHING,
            stdout=body.get("stdout") or "",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionResult:
    """What became of a call; a denied one has no `execution_id`, and names the decision that denied it."""

    success: bool
    outcome: str
    output: Any = None
    error: str | None = None
    execution_id: str | None = None
    execution_time: float = 0.0
    decision_id: str | None = None
    generation: int | None = None
    sandbox_result: SandboxResult | None = None

    @classmethod
    def read(cls, body: Json) -> Self:
        """Take it from JSON."""
        sandbox = body.get("sandbox_result")
        return cls(
            success=body.get("success") is True,
            outcome=body.get("outcome", "unknown"),
            output=body.get("output"),
            error=body.get("error"),
            execution_id=body.get("execution_id"),
            execution_time=body.get("execution_time") or 0.0,
            decision_id=body.get("decision_id"),
            generation=body.get("generation"),
            sandbox_result=None if sandbox is None else SandboxResult.read(sandbox),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginStatus:
    """Where a plugin stands; `raw` has every member that the gateway tells."""

    plugin_id: str
    status: str
    name: str
    version: str
    risk_score: int
    risk_tier: str
    raw: Json = field(repr=False)

    @classmethod
    def read(cls, body: Json) -> Self:
        """Take it from JSON."""
        risk = body.get("risk") or _NOTHING
        return cls(
            plugin_id=body["plugin_id"],
            status=body["status"],
            name=body.get("name", ""),
            version=body.get("version", ""),
            risk_score=risk.get("score", 0),
            risk_tier=risk.get("tier", ""),
            raw=body,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """A record of the log. `timestamp` ends in `Z`: compare it with `datetime.now(UTC)`."""

    event_id: str
    timestamp: str
    user_id: str | None
    plugin_id: str | None
    event_type: str
    category: str
    details: Json
    risk_score: int
    resolution: str
    decision: Json | None = None

    @classmethod
    def read(cls, body: Json) -> Self:
        """Take it from JSON."""
        members: dict[str, Any] = {name: body.get(name) for name in cls.__slots__}
        return cls(**members)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadEvent:
    """One reload of a plugin, as the log has it."""

    timestamp: str
    reason: str
    success: bool
    previous_version: str | None
    new_version: str | None
    details: Json

    @classmethod
    def of(cls, event: AuditEvent) -> Self:
        """Take it from its record."""
        details = event.details
        return cls(
            timestamp=event.timestamp,
            reason=details.get("reason") or "",
            success=event.resolution == "completed",
            previous_version=details.get("previous_version"),
            new_version=details.get("new_version"),
            details=details,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkResult:
    """What a benchmark measured; `raw` has every member that the gateway tells."""

    plugin_id: str
    generation: int
    tier: str | None
    provisional: bool
    passed: bool
    executions: int
    error_rate: float | None
    response_time: Json  # mean_ms, p50_ms, p95_ms, p99_ms, max_ms
    throughput_per_s: float | None
    cpu_percent: float | None
    memory_mb: float | None
    disk_mb: float | None
    advice: tuple[str, ...]
    raw: Json = field(repr=False)

    @classmethod
    def read(cls, body: Json) -> Self:
        """Take it from JSON."""
        members: dict[str, Any] = {name: body.get(name) for name in cls.__slots__ if name not in {"advice", "raw"}}
        return cls(**members, advice=tuple(each["text"] for each in body.get("advice") or ()), raw=body)


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginManifest:
    """The manifest in force, as its author wrote it; `audit_log` is read anew each time it is looked at."""

    plugin_id: str
    name: str
    version: str
    description: str
    author: str
    raw: Json = field(repr=False)
    read_log: Callable[[str], tuple[AuditEvent, ...]] = field(repr=False, compare=False)

    @classmethod
    def read(cls, body: Json, read_log: Callable[[str], tuple[AuditEvent, ...]]) -> Self:
        """Take it from JSON."""
        own = {name: body.get(name, "") for name in ("plugin_id", "name", "version", "description", "author")}
        return cls(**own, raw=body, read_log=read_log)

    @property
    def audit_log(self) -> tuple[AuditEvent, ...]:
        """What the log says of this plugin, the oldest first; of more than 10,000 records the newest."""
        return self.read_log(self.plugin_id)

    def to_json(self) -> str:
        """Give the manifest as JSON text."""
        return json.dumps(self.raw, indent=2, ensure_ascii=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """A permission that a plugin holds now."""

    permission: str
    level: str
    scope: str
    condition: str = "-"

    @classmethod
    def read(cls, body: Json) -> Self:
        """Take it from JSON."""
        permission = body["permission"]
        return cls(
            permission=permission,
            level=body.get("level") or permission.rpartition("_")[2],
            scope=body["scope"],
            condition=body.get("condition") or "-",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What an approval gave; `raw` has every member that the gateway tells."""

    id: str
    permission: str
    scope: str
    condition: str
    raw: Json = field(repr=False)

    @classmethod
    def read(cls, body: Json) -> Self:
        """Take it from JSON."""
        return cls(
            id=str(body["id"]),
            permission=body["permission"],
            scope=body["scope"],
            condition=body.get("condition") or "-",
            raw=body,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PermissionRequest:
    """Permissions that wait for a person's answer, or got it; `raw` has every member that the gateway tells."""

    request_id: str
    plugin_id: str
    status: str
    permissions: tuple[Json, ...]
    reason: str
    raw: Json = field(repr=False)

    @classmethod
    def read(cls, body: Json) -> Self:
        """Take it from JSON."""
        return cls(
            request_id=str(body["id"]),
            plugin_id=body["plugin_id"],
            status=body["status"],
            permissions=tuple(body.get("permissions") or ()),
            reason=body.get("reason") or "",
            raw=body,
        )
