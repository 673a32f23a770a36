"""Scopes that stand for all others: what a set of patterns can tell apart."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from gateway.domain.permission import KNOWN_KINDS, Kind
from gateway.domain.scope import canonical_scope
from gateway.errors import MalformedError

FRESH = "anything-else"
SHOWN = "…"
_ROOTS: Mapping[str, tuple[str, ...]] = {
    Kind.FILE: ("/",),
    Kind.SYSTEM: ("", "/"),
    Kind.API: ("", f"{FRESH}/"),
}

Found = TypeVar("Found")


def patterns_over(scope: str) -> Iterator[str]:
    """Give every pattern that covers `scope`."""
    yield "*"
    yield scope
    for i, char in enumerate(scope):
        if char == "/":
            yield scope[:i] + "/*"
        elif char == "." and i > 0:
            yield "*" + scope[i:]
    yield scope + "/*"


def covering(scope: str, by_pattern: Mapping[str, Sequence[Found]]) -> list[Found]:
    """Give what is filed under a pattern that covers `scope`."""
    return [each for pattern in patterns_over(scope) for each in by_pattern.get(pattern, ())]


def representatives(kind: str, patterns: Iterable[str]) -> tuple[str, ...]:
    """Give a scope of every class that `patterns` tell apart in requests of `kind`.

    A scope is covered by a chain of `a/*` and a chain of `*.b`, or is named itself. So it stands alike with the
    name itself, or with something fresh below the longest prefix and before the longest suffix that cover it.
    """
    patterns = set(patterns)
    prefixes = {pattern[:-2] for pattern in patterns if pattern.endswith("/*")}
    suffixes = {pattern[1:] for pattern in patterns if pattern.startswith("*.") and not pattern.endswith("/*")}
    named = (patterns | prefixes) - {"*", ""}
    below = {*_ROOTS.get(kind, ("",)), *(f"{prefix}/" for prefix in prefixes)}
    fresh = {before + FRESH + after for before in below for after in {"", *suffixes}}
    return tuple(sorted(scope for scope in named | fresh if is_askable(kind, scope)))


def is_askable(kind: str, scope: str) -> bool:
    """Tell whether a request of `kind` can be spelt `scope`."""
    if "*" in scope or not scope:
        return False
    try:
        return kind not in KNOWN_KINDS or canonical_scope(kind, scope) == scope
    except MalformedError:
        return False


def shown(scope: str) -> str:
    """Spell a representative so that a person sees what it stands for."""
    return scope.replace(FRESH, SHOWN)
