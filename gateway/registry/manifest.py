"""Manifests: JSON read strictly, every problem named with its place, turned into a domain value."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from gateway.domain.isolation import Isolation
from gateway.domain.manifest import PARAMETER_TYPES, Capability, Limits, Manifest, RequestedPermission
from gateway.domain.names import parse_plugin_id
from gateway.domain.permission import PERMISSIONS, Kind, Level, Permission
from gateway.domain.request import Json
from gateway.domain.risk import Tier
from gateway.domain.scope import canonical_pattern
from gateway.errors import MalformedError, Place, Problem

MANIFEST_FILE = "manifest.json"
LIFECYCLE_EVENTS = (
    "registered",
    "approved",
    "activated",
    "suspended",
    "updated",
    "reloaded",
    "revoked",
    "uninstalled",
)
_SUBTREE_KINDS = frozenset({Kind.VAULT, Kind.CORE, Kind.USER, Kind.PLUGIN, Kind.SYSTEM, Kind.FILE})
_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?\Z"
)  # semver.org 2.0.0
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")
_CAPABILITY = re.compile(r"[a-z][a-z0-9_]*\Z")
_DAY_NAMES = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _listed(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


Text = Annotated[str, Field(max_length=2000)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_listed), Field(max_length=200)]
Clock = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]


class TimeRestriction(_Part):
    """Hours of some days in a zone."""

    days: Annotated[tuple[Literal["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"], ...], BeforeValidator(_listed)]
    from_: Annotated[Clock, Field(alias="from")]
    to: Clock
    tz: Text = "UTC"


class RateLimit(_Part):
    """At most `max` in `per` seconds."""

    max: Annotated[int, Field(ge=1)]
    per: Annotated[int, Field(ge=1)] = 60


class Conditions(_Part):
    """Conditions the author puts on a permission; an unknown one is an error, for ignoring it would widen access."""

    time_restriction: TimeRestriction | Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] | None = None
    user_consent: bool = False
    rate_limit: RateLimit | Annotated[int, Field(ge=1)] | None = None
    valid_until: Text | None = None


class PermissionPart(_Part):
    """One entry of `requested_permissions`."""

    permission: Text
    level: Literal["read", "write", "execute", "admin"] | None = None
    scope: Text | None = None
    conditions: Conditions = Conditions()
    purpose: Text = ""


class RequirePart(_Part):
    """A permission that each call of a capability is asked for besides `plugin_execute`."""

    permission: Text
    scope: Text


class CapabilityPart(_Part):
    """One entry of `capabilities`."""

    name: Text
    description: Text = ""
    version: Text = "1.0.0"
    parameters: dict[str, Text] = Field(default_factory=dict)
    return_type: Text = "any"
    async_support: bool = False
    batch_support: bool = False
    requires: Annotated[tuple[RequirePart, ...], BeforeValidator(_listed)] = ()
    idempotent: bool = False


Positive = Annotated[float, Field(gt=0, le=86_400)]
Megabytes = Annotated[int, Field(ge=1, le=1 << 20)]
Memory = Annotated[int, Field(ge=16, le=1 << 20)]  # in MB; no interpreter starts in less
Percent = Annotated[float, Field(gt=0, le=100)]


class SandboxConfig(_Part):
    """What the author wants of the sandbox."""

    timeout: Positive | None = None
    max_execution_time: Positive | None = None
    memory_limit: Memory | None = None
    max_memory_mb: Memory | None = None
    max_disk_mb: Megabytes | None = None
    max_cpu_percent: Percent | None = None
    network_access: Texts = ()
    file_access: Texts = ()
    system_commands: Texts = ()
    live_reload: bool = False
    watch_paths: Texts = ()
    reload_timeout: Annotated[int, Field(ge=1, le=300)] = 30


class ResourceLimits(_Part):
    """What the author says one call needs at most."""

    max_execution_time: Positive | None = None
    max_memory_usage: Memory | None = None
    max_cpu_percent: Percent | None = None


class ManifestFile(_Part):
    """The JSON of a plugin's manifest.json."""

    schema_: Annotated[Text | None, Field(alias="$schema")] = None
    plugin_id: Text
    name: Text
    version: Text
    description: Text = ""
    author: Text = ""
    manifest_version: Text = "1.0.0"
    requested_permissions: Annotated[tuple[PermissionPart, ...], BeforeValidator(_listed), Field(max_length=200)] = ()
    optional_permissions: Annotated[tuple[PermissionPart, ...], BeforeValidator(_listed), Field(max_length=200)] = ()
    capabilities: Annotated[tuple[CapabilityPart, ...], BeforeValidator(_listed), Field(max_length=200)] = ()
    lifecycle_hooks: dict[
        Literal["registered", "approved", "activated", "suspended", "updated", "reloaded", "revoked", "uninstalled"],
        Text,
    ] = Field(default_factory=dict)
    sandbox: bool = True
    sandbox_config: SandboxConfig = SandboxConfig()
    risk_tier: Literal["low", "moderate", "high", "critical"] = "low"
    security_scan: bool = False
    code_review_required: bool = False
    performance_monitoring: bool = True
    resource_limits: ResourceLimits = ResourceLimits()
    approved_by_user: bool = False
    auto_approve: bool = False
    entry_point: Text = "main.py"
    runtime: Literal["python", "mcp-stdio"] = "python"
    command: Texts = ()
    isolation: Literal["pristine", "fork", "shared"] | None = None
    requirements: Text | None = None
    depends_on: dict[str, Text] = Field(default_factory=dict)
    self_test: Text | None = None


def manifest_schema() -> dict[str, Any]:
    """Give the JSON Schema (2020-12) of a manifest, for editors."""
    schema = ManifestFile.model_json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:hearthgate:schema:manifest",
        **schema,
    }


def parse_manifest(raw: Json) -> Manifest:
    """Take a manifest's JSON as a manifest.

    Raises:
        MalformedError: with every problem found, each at its place in manifest.json.
    """
    if not isinstance(raw, dict):
        raise MalformedError("a manifest is a JSON object")
    try:
        file = ManifestFile.model_validate(raw)
    except ValidationError as error:
        raise MalformedError(
            "the manifest is not valid",
            problems=[
                _problem(_place(each["loc"]), each["msg"][:300]) for each in error.errors(include_input=False)[:50]
            ],
        ) from None
    reading = _Reading(file)
    manifest = reading.manifest(raw)
    if reading.problems or manifest is None:
        raise MalformedError("the manifest is not valid", problems=reading.problems)
    return manifest


def _place(location: Sequence[int | str]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _problem(place: str, message: str) -> Problem:
    return Problem(place=Place(file=MANIFEST_FILE), message=f"{place}: {message}")


class _Reading:
    """The semantic rules, applied to a file of the right shape; problems are collected."""

    def __init__(self, file: ManifestFile) -> None:
        self.file = file
        self.problems: list[Problem] = []

    def manifest(self, raw: Mapping[str, Json]) -> Manifest | None:
        file = self.file
        self._check_names()
        permissions = tuple(self._permissions("requested_permissions", file.requested_permissions, optional=False))
        optional = tuple(self._permissions("optional_permissions", file.optional_permissions, optional=True))
        capabilities = tuple(self._capabilities())
        self._check_sandbox(permissions)
        file_access = tuple(dict.fromkeys(self._file_access()))
        if self.problems:
            return None
        return Manifest(
            plugin_id=parse_plugin_id(file.plugin_id),
            name=file.name,
            version=file.version,
            description=file.description,
            author=file.author,
            manifest_version=file.manifest_version,
            permissions=permissions + optional,
            capabilities=capabilities,
            hooks={str(event): function for event, function in file.lifecycle_hooks.items()},
            entry_point=file.entry_point,
            requirements=file.requirements,
            sandbox=file.sandbox,
            limits=self._limits(),
            file_access=file_access,
            declared_tier=Tier(file.risk_tier),
            code_review_required=file.code_review_required,
            monitored=file.performance_monitoring,
            raw=raw,
            isolation=None if file.isolation is None else Isolation(file.isolation),
        )

    def wrong(self, place: str, message: str) -> None:
        self.problems.append(_problem(place, message))

    def _check_names(self) -> None:
        file = self.file
        try:
            parse_plugin_id(file.plugin_id)
        except MalformedError as error:
            self.wrong("plugin_id", str(error))
        for place, version in (("version", file.version), ("manifest_version", file.manifest_version)):
            if not _SEMVER.match(version):
                self.wrong(place, f"`{version}` is not a version like 1.0.0")
        for event, function in file.lifecycle_hooks.items():
            if not _IDENTIFIER.match(function):
                self.wrong(f"lifecycle_hooks.{event}", f"`{function}` is not a function's name")
        # SECURITY: the entry point is joined to the plugin's folder.
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,99}\.py", file.entry_point):
            self.wrong("entry_point", f"`{file.entry_point}` is not a Python file inside the plugin's folder")
        if file.sandbox_config.live_reload and file.manifest_version.startswith(("0.", "1.")):
            self.wrong("sandbox_config.live_reload", "needs manifest_version 2.0.0 or later")
        if file.runtime != "python" or file.command:
            self.wrong("runtime", "this gateway runs `python` plugins")

    def _permissions(
        self, place: str, parts: Sequence[PermissionPart], *, optional: bool
    ) -> Iterator[RequestedPermission]:
        for index, part in enumerate(parts):
            here = f"{place}[{index}]"
            permission = PERMISSIONS.get(part.permission)
            if permission is None:
                self.wrong(
                    f"{here}.permission",
                    f"`{part.permission}` is not a permission: one of {', '.join(PERMISSIONS)}",
                )
                continue
            if part.level is not None and part.level != permission.level.word:
                self.wrong(f"{here}.level", f"`{part.level}` is not the level of `{permission}`")
                continue
            if permission == Permission(Kind.PLUGIN, Level.EXECUTE) and part.scope in {None, self.file.plugin_id}:
                self.wrong(
                    f"{here}.permission", "`plugin_execute` on itself comes with activation and is not requested"
                )
                continue
            try:
                scope = None if part.scope is None else manifest_scope(permission.kind, part.scope)
                condition = condition_text(part.conditions)
            except MalformedError as error:
                self.wrong(here, str(error))
                continue
            yield RequestedPermission(
                permission=permission, scope=scope, condition=condition, purpose=part.purpose, optional=optional
            )

    def _capabilities(self) -> Iterator[Capability]:
        seen: set[str] = set()
        for index, part in enumerate(self.file.capabilities):
            here = f"capabilities[{index}]"
            if not _CAPABILITY.match(part.name):
                self.wrong(f"{here}.name", f"`{part.name}`: a-z, 0-9 and _, beginning with a letter")
            if part.name in seen:
                self.wrong(f"{here}.name", f"`{part.name}` is named twice")
            seen.add(part.name)
            types = {"return_type": part.return_type, **{f"parameters.{n}": t for n, t in part.parameters.items()}}
            for where, word in types.items():
                if word not in PARAMETER_TYPES:
                    self.wrong(f"{here}.{where}", f"`{word}`: one of {', '.join(PARAMETER_TYPES)}")
            for name in part.parameters:
                if not _IDENTIFIER.match(name) or name in {"ctx", "action", "batch"}:
                    self.wrong(f"{here}.parameters.{name}", "not a parameter's name")
            yield Capability(
                name=part.name,
                description=part.description,
                parameters=part.parameters,
                return_type=part.return_type,
                asynchronous=part.async_support,
                batch=part.batch_support,
                requires=tuple(self._requires(here, part)),
                idempotent=part.idempotent,
            )

    def _requires(self, here: str, part: CapabilityPart) -> Iterator[tuple[Permission, str]]:
        for index, require in enumerate(part.requires):
            permission = PERMISSIONS.get(require.permission)
            if permission is None:
                self.wrong(f"{here}.requires[{index}].permission", f"`{require.permission}` is not a permission")
                continue
            try:
                scope = canonical_pattern(permission.kind, require.scope)
            except MalformedError as error:
                self.wrong(f"{here}.requires[{index}].scope", str(error))
                continue
            if "*" in scope:
                self.wrong(f"{here}.requires[{index}].scope", "name one scope, without `*`")
                continue
            yield permission, scope

    def _check_sandbox(self, permissions: Sequence[RequestedPermission]) -> None:
        config = self.file.sandbox_config
        kinds = {each.permission.kind for each in permissions}
        if config.network_access and not kinds & {Kind.NETWORK, Kind.API}:
            self.wrong("sandbox_config.network_access", "needs a network permission for each host")
        if config.system_commands and not kinds & {Kind.SYSTEM, Kind.FILE}:
            self.wrong("sandbox_config.system_commands", "needs `system_execute` or `file_execute`")
        for index, path in enumerate(config.watch_paths):
            if path.startswith("/") or ".." in path.split("/"):
                self.wrong(f"sandbox_config.watch_paths[{index}]", f"`{path}`: a path inside the plugin's folder")

    def _file_access(self) -> Iterator[str]:
        for index, text in enumerate(self.file.sandbox_config.file_access):
            try:
                yield manifest_scope(Kind.FILE, text).removesuffix("/*") or "/"
            except MalformedError as error:
                self.wrong(f"sandbox_config.file_access[{index}]", str(error))

    def _limits(self) -> Limits:
        config, limits = self.file.sandbox_config, self.file.resource_limits
        percent = _least(config.max_cpu_percent, limits.max_cpu_percent)
        return Limits(
            timeout_s=_least(config.timeout, config.max_execution_time, limits.max_execution_time),
            memory_mb=cast("int | None", _least(config.memory_limit, config.max_memory_mb, limits.max_memory_usage)),
            disk_mb=config.max_disk_mb,
            cpu_percent=None if percent is None else max(1, int(percent)),
        )


def _least(*values: float | None) -> float | None:
    given = [value for value in values if value is not None]
    return min(given) if given else None


def manifest_scope(kind: Kind, text: str) -> str:
    """Give a rule's scope for what a manifest names: `x` stands for all below it where there is a below.

    Raises:
        MalformedError: it is no scope of that kind.
    """
    if kind in _SUBTREE_KINDS and "*" not in text:
        text = text.rstrip("/") + "/*" if text != "/" else "/*"
    return canonical_pattern(kind, text)


def condition_text(conditions: Conditions) -> str:
    """Spell a manifest's conditions as the condition of a rule.

    Raises:
        MalformedError: a time cannot be read.
    """
    terms: list[str] = []
    match conditions.time_restriction:
        case str(name):
            terms.append(name)
        case TimeRestriction() as window:
            terms.append(_hours(window))
        case None:
            pass
    if conditions.user_consent:
        terms.append("consent")
    match conditions.rate_limit:
        case int(count):
            terms.append(f"rate({count}/60s)")
        case RateLimit(max=count, per=per_s):
            terms.append(f"rate({count}/{per_s}s)")
        case None:
            pass
    if conditions.valid_until is not None:
        terms.append(f"until({_moment(conditions.valid_until)})")
    return "; ".join(terms) or "-"


def _hours(window: TimeRestriction) -> str:
    days = "+".join(day for day in _DAY_NAMES if day in window.days)
    if not days:
        raise MalformedError("conditions.time_restriction.days: name at least one day")
    try:
        ZoneInfo(window.tz)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        # SECURITY: nothing but a zone's name may become part of a rule's line.
        raise MalformedError(f"conditions.time_restriction.tz: `{window.tz[:80]}` is not a time zone") from None
    return f"hours({window.from_}-{window.to} {days} {window.tz})"


def _moment(text: str) -> str:
    try:
        at = datetime.fromisoformat(text)
        spelt = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError):
        at = None
    # SECURITY: a time that cannot be read must never mean "for ever".
    if at is None or at.tzinfo is None:
        raise MalformedError(f"conditions.valid_until: `{text[:80]}` is not a time like 2026-12-31T00:00:00Z")
    return spelt
