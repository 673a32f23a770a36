"""The JSON of a manifest: its members, their types, and what each means."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, JsonValue

from gateway.domain.lifecycle import LIFECYCLE_EVENTS
from gateway.domain.manifest import SERVER_PARAMETER
from gateway.domain.permission import PERMISSIONS
from gateway.domain.shape import KEYWORDS, TYPE_WORDS
from gateway.domain.version import VERSION_PATTERN
from gateway.registry.manifest_conditions import Conditions, Part, Text, listed

_IDENTIFIER = "^[A-Za-z][A-Za-z0-9_]*$"
_PARAMETER = f"^{SERVER_PARAMETER.pattern}$"
_SHAPE: dict[str, object] = {
    "oneOf": [
        {"enum": [*TYPE_WORDS]},
        {"type": "object", "propertyNames": {"enum": sorted(KEYWORDS)}, "description": "A JSON Schema."},
    ]
}
_NAMED: dict[str, object] = {"propertyNames": {"pattern": _PARAMETER}, "additionalProperties": _SHAPE}
_OF_OBJECT: dict[str, object] = {
    "required": ["type", "properties"],
    "additionalProperties": False,
    "properties": {
        "type": {"const": "object"},
        "properties": {"type": "object", **_NAMED},
        "required": {"type": "array", "items": {"type": "string"}},
        "additionalProperties": {"const": False},
        "title": {"type": "string"},
        "description": {"type": "string"},
    },
}
OF_PARAMETERS = frozenset({"type", "properties", "required", "additionalProperties", "title", "description"})
_VERSION: dict[str, object] = {"pattern": f"^{VERSION_PATTERN}$"}
_PERMISSION: dict[str, object] = {"enum": [*PERMISSIONS]}
_HOOK = {"propertyNames": {"enum": [*LIFECYCLE_EVENTS]}, "additionalProperties": {"pattern": _IDENTIFIER}}

Texts = Annotated[tuple[Text, ...], BeforeValidator(listed), Field(max_length=200)]
PermissionName = Annotated[
    Text, Field(description="As vault_read: a family and a level.", json_schema_extra=_PERMISSION)
]


class PermissionPart(Part):
    """One entry of `requested_permissions`."""

    permission: PermissionName
    level: Annotated[
        Literal["read", "write", "execute", "admin"] | None,
        Field(description="The level that the permission's name ends with; it need not be said."),
    ] = None
    scope: Annotated[
        Text | None,
        Field(description="What it is about, as notes, api.example.com or /srv/data; without one nothing is granted."),
    ] = None
    conditions: Annotated[Conditions, Field(description="What must hold at each use.")] = Conditions()
    purpose: Annotated[Text, Field(description="Why it is needed, in a person's words; shown to who approves.")] = ""


class RequirePart(Part):
    """A permission that each call of a capability is asked for besides `plugin_execute`."""

    permission: PermissionName
    scope: Annotated[Text, Field(description="One scope, without `*`.")]


class CapabilityPart(Part):
    """One entry of `capabilities`: a function of the code that callers may call."""

    name: Annotated[Text, Field(description="The function's name.", json_schema_extra={"pattern": "^[a-z][a-z0-9_]*$"})]
    description: Annotated[Text, Field(description="What it does, in a sentence.")] = ""
    version: Annotated[Text, Field(description="The capability's own version.", json_schema_extra=_VERSION)] = "1.0.0"
    parameters: Annotated[
        dict[str, JsonValue],
        Field(
            description="Each parameter's type or JSON Schema, every one needed; or one JSON Schema of an object of "
            "them, with `properties` and `required`. Nothing else is taken.",
            json_schema_extra={"additionalProperties": True, "anyOf": [_NAMED, _OF_OBJECT]},
        ),
    ] = Field(default_factory=dict)
    return_type: Annotated[
        JsonValue,
        Field(description="The result's type or JSON Schema; any other is a failed call.", json_schema_extra=_SHAPE),
    ] = "any"
    async_support: Annotated[bool, Field(description="The function may be an `async def`.")] = False
    batch_support: Annotated[bool, Field(description="One call may hold up to 100 sets of parameters.")] = False
    requires: Annotated[
        tuple[RequirePart, ...],
        BeforeValidator(listed),
        # SECURITY: each is a question and a record of each call.
        Field(max_length=50, description="Permissions without which a call is denied before it begins."),
    ] = ()
    idempotent: Annotated[bool, Field(description="Calling it again does no harm, so it may be benchmarked.")] = False
    tool: Annotated[
        Text | None, Field(max_length=128, description="Of an MCP server: the tool's own name, where it is another.")
    ] = None
    definition: Annotated[
        Text | None,
        Field(
            description="Of an MCP server: the digest of the tool's definition; `hearthgate plugin tools` writes it.",
            json_schema_extra={"pattern": "^sha256:[0-9a-f]{64}$"},
        ),
    ] = None


Seconds = Annotated[float, Field(gt=0, le=86_400)]
Megabytes = Annotated[int, Field(ge=1, le=1 << 20)]
Memory = Annotated[int, Field(ge=16, le=1 << 20)]  # in MB; no interpreter starts in less
Percent = Annotated[float, Field(gt=0, le=100)]
_LEAST = "The least of all that limit it, and of the gateway's own, holds."


class SandboxConfig(Part):
    """What the author wants of the sandbox."""

    timeout: Annotated[Seconds | None, Field(description=f"Seconds that one call may take. {_LEAST}")] = None
    max_execution_time: Annotated[Seconds | None, Field(description="The same as `timeout`.")] = None
    memory_limit: Annotated[Memory | None, Field(description=f"MB of memory for one call. {_LEAST}")] = None
    max_memory_mb: Annotated[Memory | None, Field(description="The same as `memory_limit`.")] = None
    max_disk_mb: Annotated[Megabytes | None, Field(description="MB that one call may write.")] = None
    max_cpu_percent: Annotated[Percent | None, Field(description="Percent of one core.")] = None
    network_access: Annotated[
        Texts, Field(description="Hosts it speaks with; each must be covered by a network or api permission.")
    ] = ()
    file_access: Annotated[
        Texts, Field(description="Folders to be opened with `open()`, where a file permission covers them.")
    ] = ()
    system_commands: Annotated[Texts, Field(description="Programs it runs; they need system_execute.")] = ()
    live_reload: Annotated[
        bool, Field(description="Changed code is taken over while it runs; needs manifest_version 2.0.0.")
    ] = False
    watch_paths: Annotated[Texts, Field(description="Paths inside the plugin's folder that are watched.")] = ()
    reload_timeout: Annotated[int, Field(ge=1, le=300, description="Seconds that a reload may take.")] = 30


class ResourceLimits(Part):
    """What the author says one call needs at most."""

    max_execution_time: Annotated[Seconds | None, Field(description="The same as `sandbox_config.timeout`.")] = None
    max_memory_usage: Annotated[Memory | None, Field(description="The same as `sandbox_config.memory_limit`.")] = None
    max_cpu_percent: Annotated[Percent | None, Field(description="Percent of one core.")] = None


class ManifestFile(Part):
    """What a plugin's author says of it and asks for: manifest.json."""

    schema_: Annotated[Text | None, Field(alias="$schema", description="For editors; it decides nothing.")] = None
    plugin_id: Annotated[
        Text,
        Field(
            description="The name of the plugin's folder: 2 to 64 of a-z, 0-9 and single hyphens.",
            json_schema_extra={"pattern": "^[a-z][a-z0-9]*(-[a-z0-9]+)*$", "minLength": 2, "maxLength": 64},
        ),
    ]
    name: Annotated[Text, Field(description="The name that people read.", json_schema_extra={"pattern": r"\S"})]
    version: Annotated[Text, Field(description="A version of semver.org, as 1.0.0.", json_schema_extra=_VERSION)]
    description: Annotated[Text, Field(description="What it is for.")] = ""
    author: Annotated[Text, Field(description="Who wrote it.")] = ""
    manifest_version: Annotated[
        Text, Field(description="The version of this format; 2.0.0 for live reload.", json_schema_extra=_VERSION)
    ] = "1.0.0"
    requested_permissions: Annotated[
        tuple[PermissionPart, ...],
        BeforeValidator(listed),
        Field(max_length=200, description="What it may not work without; an approval grants them."),
    ] = ()
    optional_permissions: Annotated[
        tuple[PermissionPart, ...],
        BeforeValidator(listed),
        Field(max_length=200, description="What it may ask for later."),
    ] = ()
    capabilities: Annotated[
        tuple[CapabilityPart, ...],
        BeforeValidator(listed),
        Field(max_length=200, description="What callers may call; without any, `execute(ctx, payload)` takes it all."),
    ] = ()
    lifecycle_hooks: Annotated[
        dict[
            Literal[
                "registered", "approved", "activated", "suspended", "updated", "reloaded", "revoked", "uninstalled"
            ],
            Text,
        ],
        Field(description="Functions of the code that are called after an event.", json_schema_extra=_HOOK),
    ] = Field(default_factory=dict)
    sandbox: Annotated[
        bool, Field(description="false is refused, unless the operator's hearthgate.toml names the plugin.")
    ] = True
    sandbox_config: Annotated[SandboxConfig, Field(description="What it wants of the sandbox.")] = SandboxConfig()
    risk_tier: Annotated[
        Literal["low", "moderate", "high", "critical"] | None,
        Field(description="What the author thinks; the gateway computes its own, and that one holds."),
    ] = None
    security_scan: Annotated[bool, Field(description="Its code must pass a security scan before it is approved.")] = (
        False
    )
    code_review_required: Annotated[
        bool, Field(description="Another person must have reviewed its code before it is approved.")
    ] = False
    performance_monitoring: Annotated[bool, Field(description="Every ten calls are graded.")] = True
    resource_limits: Annotated[ResourceLimits, Field(description="What one call needs at most.")] = ResourceLimits()
    approved_by_user: Annotated[bool, Field(description="Taken, and never believed.")] = False
    auto_approve: Annotated[bool, Field(description="Taken, and never believed.")] = False
    entry_point: Annotated[
        Text,
        Field(
            description="The Python file with its functions.",
            json_schema_extra={"pattern": "^[A-Za-z_][A-Za-z0-9_]{0,99}\\.py$"},
        ),
    ] = "main.py"
    runtime: Annotated[
        Literal["python", "mcp-stdio"],
        Field(description="python: functions of its code; mcp-stdio: a program that is an MCP server."),
    ] = "python"
    command: Annotated[
        Texts,
        Field(
            description="Of an MCP server: `python`, or a program's name in the operator's hearthgate.toml, and its "
            "arguments; it is started in the plugin's folder."
        ),
    ] = ()
    isolation: Annotated[
        Literal["pristine", "fork", "shared"] | None,
        Field(description="How far its calls are kept apart, a wish; the policy decides."),
    ] = None
    requirements: Annotated[
        Text | None, Field(description="A locked requirements file in its folder, whose packages it may import.")
    ] = None
    depends_on: Annotated[
        dict[str, Text],
        Field(
            max_length=50,
            description="The plugins that it calls, with the versions that will do, as ^1.2.0.",
            json_schema_extra={"propertyNames": {"pattern": "^[a-z][a-z0-9]*(-[a-z0-9]+)*$"}},
        ),
    ] = Field(default_factory=dict)
    self_test: Annotated[
        Text | None,
        Field(
            description="The function `f(ctx)` that a new generation must pass.",
            json_schema_extra={"pattern": _IDENTIFIER},
        ),
    ] = None
