"""Manifests: JSON read strictly, every problem named with its place, turned into a domain value."""

import re
from collections.abc import Iterator, Mapping, Sequence

from gateway.domain.isolation import Isolation
from gateway.domain.manifest import SERVER_PARAMETER, Capability, Manifest, Parameter, RequestedPermission, Runtime
from gateway.domain.names import parse_plugin_id
from gateway.domain.permission import PERMISSIONS, Kind, Level, Permission
from gateway.domain.request import Json
from gateway.domain.risk import Tier
from gateway.domain.scope import canonical_pattern, covers_pattern
from gateway.domain.shape import Shape, parse_shape
from gateway.domain.version import parse_range, parse_version
from gateway.errors import MalformedError, Place, Problem
from gateway.registry.manifest_conditions import condition_text, manifest_scope
from gateway.registry.manifest_file import OF_PARAMETERS, CapabilityPart, ManifestFile, PermissionPart
from gateway.registry.manifest_limits import limits_of
from gateway.registry.manifest_server import server_faults
from gateway.registry.manifest_shape import is_at, read_shape
from gateway.registry.manifest_warnings import warnings_of

MANIFEST_FILE = "manifest.json"
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")
_CAPABILITY = re.compile(r"[a-z][a-z0-9_]*\Z")
_LIVE_RELOAD_SINCE = parse_version("2.0.0")
MOST_SCHEMAS = 1000  # in one manifest, those within others not counted
_RIGHTS = ("requested_permissions", "optional_permissions")
_OF_HOSTS = frozenset({Kind.NETWORK, Kind.API})
_RUNNING = frozenset({Kind.SYSTEM, Kind.FILE})


def parse_manifest(raw: Json) -> Manifest:
    """Take a manifest's JSON as a manifest.

    Raises:
        MalformedError: with every problem found, each at its place in manifest.json.
    """
    if not isinstance(raw, dict):
        raise MalformedError("a manifest is a JSON object")
    file, misshapen = read_shape(raw)
    problems = [_problem(place, said) for place, said in misshapen]
    manifest = None
    if file is not None:
        reading = _Reading(file, tuple(place for place, _ in misshapen))
        manifest = reading.manifest(raw)
        problems += reading.problems
    if problems or manifest is None:
        raise MalformedError("the manifest is not valid", problems=problems)
    return manifest


def _problem(place: str, message: str, severity: str = "error") -> Problem:
    return Problem(place=Place(file=MANIFEST_FILE), message=f"{place}: {message}", severity=severity)


class _Reading:
    """The semantic rules, applied to a file of the right shape; problems are collected.

    What lies at the places `unread` was told to be wrong already, and no word of it is the author's.
    """

    def __init__(self, file: ManifestFile, unread: Sequence[str] = ()) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self._unread = unread
        self._schemas = 0
        self._unclear_rights = any(each.startswith(_RIGHTS) for each in unread)

    def manifest(self, raw: Mapping[str, Json]) -> Manifest | None:
        file = self.file
        self._check_names()
        permissions = tuple(self._permissions("requested_permissions", file.requested_permissions, optional=False))
        optional = tuple(self._permissions("optional_permissions", file.optional_permissions, optional=True))
        capabilities = tuple(self._capabilities())
        self._check_sandbox(permissions)
        file_access = tuple(self._file_access())
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
            # WHY: where no code of the plugin's own is called, what must be there and is watched is the manifest.
            entry_point=MANIFEST_FILE if self._is_server else file.entry_point,
            requirements=file.requirements,
            sandbox=file.sandbox,
            limits=limits_of(file),
            file_access=tuple(dict.fromkeys(file_access)),
            declared_tier=None if file.risk_tier is None else Tier(file.risk_tier),
            code_review_required=file.code_review_required,
            security_scan=file.security_scan,
            depends_on=file.depends_on,
            monitored=file.performance_monitoring,
            raw=raw,
            isolation=None if file.isolation is None else Isolation(file.isolation),
            runtime=Runtime(file.runtime),
            command=file.command,
            warnings=tuple(
                _problem(place, message, "warning")
                for place, message in warnings_of(file, permissions + optional, file_access)
            ),
        )

    def wrong(self, place: str, message: str) -> None:
        if not any(is_at(place, each) for each in self._unread):
            self.problems.append(_problem(place, message))
            self._unclear_rights |= place.startswith(_RIGHTS)

    def _check_names(self) -> None:
        file = self.file
        try:
            parse_plugin_id(file.plugin_id)
        except MalformedError as error:
            self.wrong("plugin_id", str(error))
        # SECURITY: who approves a plugin looks for it by this name.
        if not any(char.isprintable() and not char.isspace() for char in file.name):
            self.wrong("name", "there is nothing in it that a person can see")
        self._check_versions()
        for event, function in file.lifecycle_hooks.items():
            if not _IDENTIFIER.match(function):
                self.wrong(f"lifecycle_hooks.{event}", f"`{function}` is not a function's name")
        # SECURITY: the entry point is joined to the plugin's folder.
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,99}\.py", file.entry_point):
            self.wrong("entry_point", f"`{file.entry_point}` is not a Python file inside the plugin's folder")
        if file.self_test is not None and not _IDENTIFIER.match(file.self_test):
            self.wrong("self_test", f"`{file.self_test}` is not a function's name")
        for place, message in server_faults(file):
            self.wrong(place, message)

    @property
    def _is_server(self) -> bool:
        return Runtime(self.file.runtime) is Runtime.MCP_STDIO

    def _check_versions(self) -> None:
        file = self.file
        versions = {"version": file.version, "manifest_version": file.manifest_version}
        versions |= {f"capabilities[{index}].version": each.version for index, each in enumerate(file.capabilities)}
        for place, text in versions.items():
            try:
                version = parse_version(text)
            except MalformedError as error:
                self.wrong(place, str(error))
                continue
            if place == "manifest_version" and file.sandbox_config.live_reload and version < _LIVE_RELOAD_SINCE:
                self.wrong("sandbox_config.live_reload", "needs manifest_version 2.0.0 or later")
        for plugin_id, text in file.depends_on.items():
            try:
                parse_range(text)
                if parse_plugin_id(plugin_id) == file.plugin_id:
                    self.wrong(f"depends_on.{plugin_id}", "a plugin does not depend on itself")
            except MalformedError as error:
                self.wrong(f"depends_on.{plugin_id[:80]}", str(error))

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
            yield Capability(
                name=part.name,
                description=part.description,
                parameters=dict(self._parameters(f"{here}.parameters", part.parameters)),
                return_type=self._shape(f"{here}.return_type", part.return_type),
                asynchronous=part.async_support,
                batch=part.batch_support,
                requires=tuple(self._requires(here, part)),
                idempotent=part.idempotent,
                tool=(part.tool or part.name) if self._is_server else "",
                definition=part.definition or "",
            )

    def _parameters(self, here: str, written: Mapping[str, Json]) -> Iterator[tuple[str, Parameter]]:
        named, needed, more = written, set(written), ""
        properties = written.get("properties")
        if written.get("type") == "object" and isinstance(properties, dict):
            required, more = written.get("required", []), ".properties"
            needed = {str(each) for each in required} if isinstance(required, list) else set()
            for name in sorted(needed - set(properties)):
                self.wrong(f"{here}.required", f"`{name[:80]}` is none of the properties")
            for member in sorted(set(written) - OF_PARAMETERS):
                self.wrong(f"{here}.{member}", "is not understood beside `properties`")
            if written.get("additionalProperties", False) is not False:
                self.wrong(f"{here}.additionalProperties", "a function takes the parameters that it names alone")
            named = properties
        for name, each in named.items():
            place = f"{here}{more}.{name}"
            fits = SERVER_PARAMETER.fullmatch if self._is_server else _IDENTIFIER.match
            # WHY: a server gets no `ctx`, so one of its tools may take something of that name.
            taken = {"action", "batch"} if self._is_server else {"ctx", "action", "batch"}
            if not fits(name) or name in taken:
                self.wrong(place, "not a parameter's name")
            yield name, Parameter(shape=self._shape(place, each), needed=name in needed)

    def _shape(self, place: str, written: Json) -> Shape:
        if isinstance(written, dict):
            # SECURITY: each is compiled, and a pattern takes a thousand times the room that it is written in.
            self._schemas += 1
            if self._schemas > MOST_SCHEMAS:
                if self._schemas == MOST_SCHEMAS + 1:
                    self.wrong(place, f"more than {MOST_SCHEMAS} JSON Schemas in one manifest")
                return Shape("any")
        try:
            return parse_shape(written)
        except MalformedError as error:
            self.wrong(place, error.message)
            return Shape("any")

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
        hosts = [
            str(each.scope) for each in permissions if each.permission.kind in _OF_HOSTS and each.scope is not None
        ]
        for index, host in enumerate(config.network_access):
            place = f"sandbox_config.network_access[{index}]"
            try:
                wanted = canonical_pattern(Kind.NETWORK, host)
            except MalformedError as error:
                self.wrong(place, str(error))
                continue
            if not self._unclear_rights and not any(covers_pattern(scope, wanted) for scope in hosts):
                self.wrong(place, f"`{host}` needs a network permission whose scope covers it")
        levels = {each.permission.level for each in permissions if each.permission.kind in _RUNNING}
        runs = self._unclear_rights or max(levels, default=Level.READ) >= Level.EXECUTE
        if config.system_commands and not runs:
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
