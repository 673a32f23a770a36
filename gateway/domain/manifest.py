"""A plugin's manifest: what its author says of it and asks for."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from gateway.domain.isolation import Isolation
from gateway.domain.names import PluginId
from gateway.domain.permission import Permission
from gateway.domain.request import Json
from gateway.domain.risk import Tier
from gateway.domain.shape import Shape
from gateway.errors import Problem


class Runtime(StrEnum):
    """What answers a plugin's calls."""

    PYTHON = "python"  # functions of its code
    MCP_STDIO = "mcp-stdio"  # a program that speaks the Model Context Protocol over its standard streams


OWN_PROGRAM = "python"  # the one program that every gateway has: what runs itself
PROGRAM_NAME = r"[a-z][a-z0-9._+-]{0,39}"
SERVER_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")  # a function's own are stricter


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedPermission:
    """A permission that the author asks for, in the words of a rule."""

    permission: Permission
    scope: str | None  # a rule's scope; None: the author named none, so it can grant nothing
    condition: str  # a rule's condition, `-` for none
    purpose: str = ""
    optional: bool = False

    def as_json(self) -> dict[str, Json]:
        """Give the wire shape."""
        return {
            "permission": str(self.permission),
            "level": self.permission.level.word,
            "scope": self.scope,
            "condition": self.condition,
            "purpose": self.purpose,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One thing that a capability takes."""

    shape: Shape
    needed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """Something a plugin offers callers."""

    name: str
    description: str
    parameters: Mapping[str, Parameter]
    return_type: Shape
    asynchronous: bool
    batch: bool
    requires: tuple[tuple[Permission, str], ...] = ()  # asked for each call, besides plugin_execute
    idempotent: bool = False
    tool: str = ""  # of an MCP server: the name that it gives the capability
    definition: str = ""  # of an MCP server: what names the tool's definition, as it was approved

    @property
    def input_schema(self) -> dict[str, Json]:
        """What it takes, as a JSON Schema of one object."""
        return {
            "type": "object",
            "properties": {name: each.shape.schema for name, each in self.parameters.items()},
            "required": [name for name, each in self.parameters.items() if each.needed],
            "additionalProperties": False,
        }

    def fault(self, given: Mapping[str, Json]) -> tuple[str, str] | None:
        """Say where, `.name` or nothing, and what is wrong with what a call gives; None if nothing is."""
        missing = sorted(name for name, each in self.parameters.items() if each.needed and name not in given)
        unknown = sorted(set(given) - set(self.parameters))
        if missing or unknown:
            words = [f"`{name}` is missing" for name in missing] + [f"`{name[:80]}` is not known" for name in unknown]
            return "", f"{', '.join(words)}; `{self.name}` takes {self._spelt}"
        for name, value in given.items():
            if (wrong := self.parameters[name].shape.fault(value)) is not None:
                return f".{name}", wrong
        return None

    @property
    def _spelt(self) -> str:
        each = (
            f"{name}: {one.shape.spelt}{'' if one.needed else ' (optional)'}" for name, one in self.parameters.items()
        )
        return ", ".join(each) or "no parameters"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one call may use, as the author asks; the gateway caps it."""

    timeout_s: float | None = None
    memory_mb: int | None = None
    disk_mb: int | None = None
    cpu_percent: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A manifest that passed every check; `raw` is the JSON it was read from."""

    plugin_id: PluginId
    name: str
    version: str
    description: str
    author: str
    manifest_version: str
    permissions: tuple[RequestedPermission, ...]
    capabilities: tuple[Capability, ...]
    hooks: Mapping[str, str]  # lifecycle event -> function
    entry_point: str
    requirements: str | None  # a locked file in the plugin's folder, whose packages its code may import
    sandbox: bool
    limits: Limits
    file_access: tuple[str, ...]  # canonical paths that the plugin wants to open by itself
    declared_tier: Tier | None  # None: the author said none
    code_review_required: bool
    security_scan: bool
    depends_on: Mapping[str, str]  # plugin id -> range of versions
    monitored: bool  # its calls are benchmarked without being asked
    raw: Mapping[str, Json]
    isolation: Isolation | None = None  # a wish; the policy decides
    runtime: Runtime = Runtime.PYTHON
    command: tuple[str, ...] = ()  # of an MCP server: the name of a program, and its arguments
    warnings: tuple[Problem, ...] = ()  # what may not be as the author thinks

    def capability(self, name: str) -> Capability | None:
        """Find a capability by its name."""
        return next((each for each in self.capabilities if each.name == name), None)
