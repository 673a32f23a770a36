"""Hearthgate for Python programs: the same flows as HTTP, blocking, with values instead of JSON."""

from gateway.facade.audit import AuditLog
from gateway.facade.gateway import Gateway, open_gateway
from gateway.facade.permissions import PermissionManager
from gateway.facade.plugins import PluginManager
from gateway.facade.traffic import TrafficLogger
from gateway.facade.values import (
    AuditEvent,
    ExecutionResult,
    Grant,
    Permission,
    PermissionRequest,
    PluginManifest,
    PluginStatus,
    ReloadEvent,
    SandboxResult,
)

__all__ = [
    "AuditEvent",
    "AuditLog",
    "ExecutionResult",
    "Gateway",
    "Grant",
    "Permission",
    "PermissionManager",
    "PermissionRequest",
    "PluginManager",
    "PluginManifest",
    "PluginStatus",
    "ReloadEvent",
    "SandboxResult",
    "TrafficLogger",
    "open_gateway",
]
