"""Permissions: a kind of resource and a level, spelt `vault_read` on the wire."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from gateway.errors import MalformedError


class Kind(StrEnum):
    """The eight families of resources, and the gateway itself."""

    VAULT = "vault"
    CORE = "core"
    NETWORK = "network"
    FILE = "file"
    SYSTEM = "system"
    API = "api"
    PLUGIN = "plugin"
    USER = "user"
    GATEWAY = "gateway"


FAMILIES = tuple(kind for kind in Kind if kind is not Kind.GATEWAY)
KNOWN_KINDS = frozenset(kind.value for kind in Kind)


class Level(IntEnum):
    """How much: each level includes the ones below it."""

    READ = 1
    WRITE = 2
    EXECUTE = 3
    ADMIN = 4

    @property
    def word(self) -> str:
        """The wire spelling."""
        return self.name.lower()


LEVELS = {level.word: level for level in Level}

_EXECUTABLE = (Kind.FILE, Kind.SYSTEM, Kind.PLUGIN)


@dataclass(frozen=True, slots=True, order=True)
class Permission:
    """A kind and a level; `str()` gives the wire spelling."""

    kind: Kind
    level: Level

    def __str__(self) -> str:
        """Give the wire spelling, as `vault_read`."""
        return f"{self.kind.value}_{self.level.word}"


PERMISSIONS: dict[str, Permission] = {
    str(permission): permission
    for permission in (
        Permission(kind, level)
        for kind in FAMILIES
        for level in Level
        if level is not Level.EXECUTE or kind in _EXECUTABLE
    )
}


def includes(permission: Permission, other: Permission) -> bool:
    """Tell whether whoever may do `permission` may do `other` on the same scope: each level includes the lower ones."""
    return permission.kind is other.kind and permission.level >= other.level


def included(permission: Permission) -> tuple[Permission, ...]:
    """Give the permissions that come with one, the lowest first."""
    return tuple(each for each in PERMISSIONS.values() if each != permission and includes(permission, each))


def parse_permission(text: str) -> Permission:
    """Take `text` as one of the 27 permissions.

    Raises:
        MalformedError: it is none of them.

    """
    permission = PERMISSIONS.get(text)
    if permission is None:
        raise MalformedError(f"`{text[:80]}` is not a permission", way_out="one of " + ", ".join(PERMISSIONS))
    return permission


def parse_level(text: str) -> Level:
    """Take `text` as a level.

    Raises:
        MalformedError: it is none.

    """
    level = LEVELS.get(text)
    if level is None:
        raise MalformedError(f"level `{text[:80]}`: the levels are {', '.join(LEVELS)}")
    return level
