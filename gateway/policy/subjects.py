"""Subjects as rules and roles name them: a known prefix, a name that can exist."""

import re
from collections.abc import Callable

from gateway.domain.names import SUBJECT_PREFIXES, parse_plugin_id, parse_user_id, split_subject
from gateway.domain.risk import Tier
from gateway.errors import MalformedError
from gateway.policy.encode import decode_field, encode_field
from gateway.policy.spelling import did_you_mean, nearest

_PREFIX = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}\Z")


def check_subject(text: str, error: Callable[[str], None]) -> bool:
    """Tell whether somebody could ask as the subject written as `text`; if not say why."""
    prefix, name = split_subject(text)
    try:
        _check_prefix(text, prefix)
        _check_name(prefix, name, text)
    except MalformedError as wrong:
        error(f"subject '{text[:80]}': {wrong}")
        return False
    return True


def _check_prefix(text: str, prefix: str) -> None:
    if prefix in SUBJECT_PREFIXES:
        return
    known = ", ".join(f"{known}:" for known in SUBJECT_PREFIXES)
    if not prefix:
        raise MalformedError(f"it needs one of the prefixes {known}" if text != "*" else "name a group or a role")
    near = nearest(prefix, SUBJECT_PREFIXES)
    if near is not None:
        raise MalformedError(f"did you mean `{near}:`?")
    if not _PREFIX.match(prefix):
        raise MalformedError("a prefix is a letter, then letters, digits and . _ -")


def _check_name(prefix: str, name: str, text: str) -> None:
    decoded = decode_field(name)
    if encode_field(decode_field(text)) != text:
        raise MalformedError(f"write it as `{encode_field(decode_field(text))}`")
    if not decoded or decoded == "*":
        raise MalformedError("a name is missing" if not decoded else "`*` is no name: every plugin is `group:plugins`")
    if prefix == "plugin":
        parse_plugin_id(decoded)
    elif prefix == "user":
        parse_user_id(decoded)
    elif prefix == "tier" and decoded not in {tier.value for tier in Tier}:
        tiers = ", ".join(tier.value for tier in Tier)
        raise MalformedError(f"unknown tier{did_you_mean(decoded, Tier) or ': the tiers are ' + tiers}")
    elif prefix in {"group", "role", "key"} and not _NAME.match(decoded):
        raise MalformedError("1 to 128 letters, digits and . _ @ + -")
