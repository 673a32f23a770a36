"""Names of plugins, users and subjects, parsed once at the doors."""

import re
from typing import NewType

from gateway.errors import MalformedError

PluginId = NewType("PluginId", str)
UserId = NewType("UserId", str)
Subject = NewType("Subject", str)  # namespaced: `plugin:notes`, `user:alice`, `role:owner`

# SECURITY: a plugin of one of these names could be mistaken for a part of the gateway.
RESERVED_PLUGIN_IDS = frozenset(
    {
        "gateway",
        "hearthgate",
        "system",
        "core",
        "vault",
        "network",
        "file",
        "api",
        "plugin",
        "user",
        "policy",
        "audit",
    }
)
SUBJECT_PREFIXES = ("plugin", "user", "group", "tier", "role", "key")
PLUGINS_GROUP = Subject("group:plugins")
USERS_GROUP = Subject("group:users")  # everybody who holds a key
OWNER = Subject("role:owner")

_PLUGIN_ID = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*\Z")
_USER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}\Z")
_MIN_PLUGIN_ID = 2
_MAX_PLUGIN_ID = 64


def parse_plugin_id(text: str) -> PluginId:
    """Take `text` as a plugin id: 2 to 64 of `a-z 0-9 -`, beginning with a letter.

    Raises:
        MalformedError: it is not one, or is reserved.

    """
    if not (_MIN_PLUGIN_ID <= len(text) <= _MAX_PLUGIN_ID and _PLUGIN_ID.match(text)):
        raise MalformedError(
            f"`{text[:80]}` is not a plugin id",
            way_out="2 to 64 of a-z, 0-9 and single hyphens, beginning with a letter",
        )
    if text in RESERVED_PLUGIN_IDS:
        raise MalformedError(f"the plugin id `{text}` is reserved", way_out="choose another id")
    return PluginId(text)


def parse_user_id(text: str) -> UserId:
    """Take `text` as a user id: 1 to 128 of letters, digits and `. _ @ + -`.

    Raises:
        MalformedError: it is not one.

    """
    if not _USER_ID.match(text):
        raise MalformedError(f"`{text[:80]}` is not a user id", way_out="1 to 128 letters, digits and . _ @ + -")
    return UserId(text)


def plugin_subject(plugin_id: PluginId) -> Subject:
    """Give the subject as which a plugin asks."""
    return Subject(f"plugin:{plugin_id}")


def user_subject(user_id: UserId) -> Subject:
    """Give the subject as which a user asks."""
    return Subject(f"user:{user_id}")


def same_person(one: str | None, other: str | None) -> bool:
    """Tell whether two user ids may be one person's: they are spelt alike, capitals aside.

    SECURITY: an issuer of tokens may spell a person as the person did; where two people are needed, that makes no two.
    """
    return one is not None and other is not None and one.casefold() == other.casefold()


def split_subject(subject: str) -> tuple[str, str]:
    """Give the prefix and the name of a namespaced subject; the prefix is empty if there is none."""
    prefix, colon, name = subject.partition(":")
    return (prefix, name) if colon else ("", subject)
