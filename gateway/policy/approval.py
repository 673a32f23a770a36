"""approval.toml: what is granted without asking a person, and what asks two."""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.domain.manifest import RequestedPermission
from gateway.domain.permission import PERMISSIONS, Level, Permission, includes
from gateway.domain.risk import TIER_ORDER, Tier
from gateway.domain.scope import canonical_pattern, covers_pattern
from gateway.errors import MalformedError
from gateway.policy.problems import Problems
from gateway.policy.spelling import did_you_mean
from gateway.policy.toml_file import TomlFile, parse_toml

CONSENT = "consent"
COOL_DOWN_MINUTES = 60
MOST_MINUTES = 31 * 24 * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoGrant:
    """A permission that a plugin of at most this tier is given as it asks; `plugin` None: any plugin."""

    permission: Permission
    scope: str
    max_tier: Tier
    plugin: str | None = None
    line: int = 1

    def __str__(self) -> str:
        """Name the entry, as a record tells it."""
        whose = "" if self.plugin is None else f" plugin={self.plugin}"
        return f"approval.toml:{self.line}: {self.permission} {self.scope} max_tier={self.max_tier.value}{whose}"

    def covers(self, asked: RequestedPermission, plugin_id: str, plugin_tier: Tier) -> bool:
        """Tell whether it gives a plugin what it asks for."""
        permission, scope = asked.permission, asked.scope
        # SECURITY: asked here again, whatever the file's own checks let through.
        if Level.ADMIN in {permission.level, self.permission.level} or scope in {None, "*"}:
            return False
        if self.plugin not in {None, plugin_id} or TIER_ORDER.index(plugin_tier) > TIER_ORDER.index(self.max_tier):
            return False
        if Level.EXECUTE in {permission.level, self.permission.level}:
            return (self.plugin, self.permission, self.scope) == (plugin_id, permission, scope) and _asks_consent(asked)
        return (
            self.permission.kind is permission.kind
            and permission.level <= self.permission.level
            and covers_pattern(self.scope, scope)
        )


def _asks_consent(asked: RequestedPermission) -> bool:
    return CONSENT in [term.strip() for term in asked.condition.split(";")]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRules:
    """Who must say yes to what."""

    autos: tuple[AutoGrant, ...] = ()
    two_people: frozenset[Permission] = frozenset()
    own_call_approval: bool = False
    two_for_erasure: bool = False
    cool_down_minutes: int = COOL_DOWN_MINUTES

    def auto(self, asked: RequestedPermission, *, plugin_id: str, plugin_tier: Tier) -> AutoGrant | None:
        """Give the entry by which this is granted without asking a person, None if a person must be asked."""
        if self.four_eyes(asked.permission):
            return None
        return next((each for each in self.autos if each.covers(asked, plugin_id, plugin_tier)), None)

    def four_eyes(self, permission: Permission) -> bool:
        """Tell whether two people must approve it: what approval.toml names, or what includes that."""
        return any(includes(permission, each) for each in self.two_people)


def parse_approval(file: str, data: bytes, problems: Problems) -> ApprovalRules:
    """Give the approval rules; with a problem nothing is automatic."""
    toml = parse_toml(file, data, problems)
    if toml is None:
        return ApprovalRules()
    toml.only(toml.content, ["auto", "four_eyes", "calls", "requests"])
    autos = [_auto(toml, number, table) for number, table in toml.tables("auto")]
    return ApprovalRules(
        autos=tuple(auto for auto in autos if auto is not None),
        two_people=_four_eyes(toml),
        own_call_approval=_own_calls(toml),
        two_for_erasure=_erasure(toml),
        cool_down_minutes=_cool_down(toml),
    )


def _auto(toml: TomlFile, number: int, table: Mapping[str, object]) -> AutoGrant | None:
    path = ("auto", number)
    toml.only(table, ["permission", "scope", "max_tier", "plugin"], *path)
    name, scope, tier = (toml.text(table, key, *path) for key in ("permission", "scope", "max_tier"))
    if name is None or scope is None or tier is None:
        return None
    permission = _permission(toml, name, *path, "permission")
    if tier not in {tier.value for tier in Tier}:
        toml.error(f"tier '{tier[:80]}'{did_you_mean(tier, Tier)}", *path, "max_tier")
        return None
    plugin = toml.text(table, "plugin", *path) if "plugin" in table else None
    if permission is None or not _may_be_automatic(toml, permission, scope, number):
        return None
    if permission.level is Level.EXECUTE and plugin is None:
        toml.error(f"`{permission}` is granted automatically to one plugin alone: name it (`plugin = ...`)", *path)
        return None
    return AutoGrant(permission=permission, scope=scope, max_tier=Tier(tier), plugin=plugin, line=toml.line(*path) or 1)


def _may_be_automatic(toml: TomlFile, permission: Permission, scope: str, number: int) -> bool:
    path = ("auto", number)
    if permission.level is Level.ADMIN:
        toml.error(f"`{permission}` is never granted automatically: admin asks a person", *path, "permission")
    elif scope == "*":
        toml.error("scope '*' is never granted automatically: name what may be had", *path, "scope")
    else:
        return _is_canonical(toml, permission, scope, number)
    return False


def _is_canonical(toml: TomlFile, permission: Permission, scope: str, number: int) -> bool:
    try:
        canonical = canonical_pattern(permission.kind, scope)
    except MalformedError as error:
        toml.error(str(error), "auto", number, "scope")
        return False
    if canonical != scope:
        toml.error(f"scope '{scope}': requests are spelt `{canonical}`: write it like that", "auto", number, "scope")
    return canonical == scope


def _four_eyes(toml: TomlFile) -> frozenset[Permission]:
    table = toml.table(toml.content.get("four_eyes", {}), "four_eyes")
    toml.only(table, ["permissions", "erasure"], "four_eyes")
    names = toml.texts(table, "permissions", "four_eyes")
    found = [_permission(toml, name, "four_eyes", "permissions") for name in names]
    return frozenset(permission for permission in found if permission is not None)


def _erasure(toml: TomlFile) -> bool:
    two = toml.table(toml.content.get("four_eyes", {}), "four_eyes").get("erasure", False)
    if not isinstance(two, bool):
        toml.error("`four_eyes.erasure` must be true or false", "four_eyes", "erasure")
    # SECURITY: what cannot be understood asks for more, not for less.
    return two is not False


def _own_calls(toml: TomlFile) -> bool:
    table = toml.table(toml.content.get("calls", {}), "calls")
    toml.only(table, ["own"], "calls")
    own = table.get("own", False)
    if not isinstance(own, bool):
        toml.error("`calls.own` must be true or false", "calls", "own")
    return own is True


def _cool_down(toml: TomlFile) -> int:
    table = toml.table(toml.content.get("requests", {}), "requests")
    toml.only(table, ["cool_down_minutes"], "requests")
    if "cool_down_minutes" not in table:
        return COOL_DOWN_MINUTES
    minutes = toml.number(table, "cool_down_minutes", MOST_MINUTES, "requests")
    # SECURITY: as above.
    return MOST_MINUTES if minutes is None else minutes


def _permission(toml: TomlFile, name: str, *path: str | int) -> Permission | None:
    permission = PERMISSIONS.get(name)
    if permission is None:
        hint = did_you_mean(name, PERMISSIONS) or ": one of " + ", ".join(PERMISSIONS)
        toml.error(f"permission '{name[:80]}'{hint}", *path)
    return permission
