"""What a manifest says of reloading, and how a generation follows another."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

from gateway.domain.manifest import Manifest
from gateway.domain.names import UserId
from gateway.domain.request import Json
from gateway.domain.version import parse_version

DEFAULT_RELOAD_TIMEOUT_S = 30.0
# SECURITY: no user id begins like this, so code that is only tried acts for nobody: it meets no consent and no data.
NOBODY = UserId("~self-test")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadWish:
    """How a plugin wants to be reloaded."""

    live: bool  # by itself, when its files change
    watch_paths: tuple[str, ...]  # inside its folder, besides the manifest and the entry point
    timeout_s: float  # for trying a new generation
    self_test: str | None  # the function `f(ctx)` that a new generation must pass


def reload_wish(manifest: Manifest) -> ReloadWish:
    """Read what a manifest, which passed every check, says of reloading."""
    config = manifest.raw.get("sandbox_config")
    given: Mapping[str, Json] = config if isinstance(config, Mapping) else {}
    watched = given.get("watch_paths")
    self_test = manifest.raw.get("self_test")
    return ReloadWish(
        live=given.get("live_reload") is True,
        watch_paths=tuple(map(str, watched)) if isinstance(watched, list | tuple) else (),
        timeout_s=float(cast("int", given.get("reload_timeout") or DEFAULT_RELOAD_TIMEOUT_S)),
        self_test=self_test if isinstance(self_test, str) else None,
    )


class Trigger(StrEnum):
    """What began a reload."""

    PERSON = "person"
    WATCH = "watch"  # its files changed
    APPROVAL = "approval"  # a person approved what had been held back


class Flag(StrEnum):
    """What a person should see of a reload that is none of its errors."""

    SAME_VERSION = "same_version"  # the content changed, the version did not
    DOWNGRADE = "downgrade"
    NARROWED = "narrowed"  # grants were taken back or made narrower
    REVIVED = "revived"  # it had failed, and the host can keep its promise again


def version_flags(before: str, after: str) -> tuple[Flag, ...]:
    """Say what is odd about the version of changed content."""
    one, other = parse_version(before), parse_version(after)
    if other == one:
        return (Flag.SAME_VERSION,)
    return (Flag.DOWNGRADE,) if other < one else ()
