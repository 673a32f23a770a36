"""Versions as semver.org 2.0.0 spells and orders them, and ranges of them."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import total_ordering

from gateway.errors import MalformedError

VERSION_PATTERN = (
    r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    r"(-(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)(\.(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*))*)?"
    r"(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?"
)
_VERSION = re.compile(VERSION_PATTERN + r"\Z")
_MAX_DIGITS = 15
_MAX_RANGE = 200
_COMPARATOR = re.compile(r"(\^|~|>=|<=|>|<|=)?(.+)\Z", re.DOTALL)
_PARTIAL = re.compile(r"(0|[1-9][0-9]{0,14})(?:\.(0|[1-9][0-9]{0,14}))?\Z")


@total_ordering
@dataclass(frozen=True, slots=True)
class Version:
    """A version; what stands behind `+` does not count."""

    numbers: tuple[int, int, int]
    before: tuple[str, ...] = ()  # the words of a pre-release, none for a release

    def __str__(self) -> str:
        """Give the version without what does not count."""
        return ".".join(map(str, self.numbers)) + ("-" + ".".join(self.before) if self.before else "")

    def __lt__(self, other: "Version") -> bool:
        return self._rank() < other._rank()

    def _rank(self) -> tuple[tuple[int, int, int], bool, tuple[tuple[bool, int, str], ...]]:
        # WHY: a release is above its pre-releases, a number below a word, fewer words below more.
        words = tuple((not word.isdigit(), int(word) if word.isdigit() else 0, word) for word in self.before)
        return self.numbers, not self.before, words


def parse_version(text: str) -> Version:
    """Take `text` as a version.

    Raises:
        MalformedError: it is none.
    """
    found = _VERSION.match(text)
    if found is None or any(len(word) > _MAX_DIGITS for word in re.findall(r"[0-9]+", text.partition("+")[0])):
        raise MalformedError(f"`{text[:80]}` is not a version like 1.0.0")
    major, minor, patch, before = (found.group(number) for number in (1, 2, 3, 4))
    words = tuple(before[1:].split(".")) if before else ()
    return Version((int(major), int(minor), int(patch)), words)


@dataclass(frozen=True, slots=True)
class VersionRange:
    """Which versions will do: each of one of the alternatives' bounds must hold."""

    text: str
    _alternatives: tuple[tuple[Callable[[Version], bool], ...], ...]

    def __contains__(self, version: Version) -> bool:
        return any(all(holds(version) for holds in each) for each in self._alternatives)


def parse_range(text: str) -> VersionRange:
    """Take `text` as a range: `^1.2.0`, `~1.2.0`, `>=1.0.0 <2.0.0`, `1.2`, `*`, alternatives between `||`.

    A pre-release is in a range only where one of its bounds names a pre-release of the same numbers.

    Raises:
        MalformedError: it is none.
    """
    if not text.strip() or len(text) > _MAX_RANGE:
        raise MalformedError(f"`{text[:80]}` is not a range of versions", way_out="as ^1.2.0, >=1.0.0 <2.0.0 or *")
    return VersionRange(text, tuple(_alternative(each) for each in text.split("||")))


def _alternative(text: str) -> tuple[Callable[[Version], bool], ...]:
    words = text.split()
    if not words:
        raise MalformedError("a range has an alternative that says nothing", way_out="as ^1.2.0 || ^2.0.0")
    bounds = [bound for word in words for bound in _bounds(word)]
    named = {version.numbers for _, version in bounds if version.before}

    def released(version: Version) -> bool:
        return not version.before or version.numbers in named

    return (released, *(_comparison(operator, version) for operator, version in bounds))


def _bounds(word: str) -> list[tuple[str, Version]]:
    if word == "*":
        return []
    found = _COMPARATOR.match(word)
    operator, spelt = (found.group(1) or "", found.group(2)) if found else ("", word)
    partial = _PARTIAL.match(spelt)
    if partial is not None and operator in {"", "^", "~"}:
        major, minor = int(partial.group(1)), partial.group(2)
        if minor is None or (operator == "^" and major):
            return [(">=", Version((major, int(minor or 0), 0))), ("<", Version((major + 1, 0, 0), ("0",)))]
        return [(">=", Version((major, int(minor), 0))), ("<", Version((major, int(minor) + 1, 0), ("0",)))]
    version = parse_version(spelt)
    if operator in {"^", "~"}:
        return [(">=", version), ("<", Version(_next(version, operator), ("0",)))]
    return [(operator or "=", version)]


def _next(version: Version, operator: str) -> tuple[int, int, int]:
    major, minor, patch = version.numbers
    if operator == "^" and major:
        return major + 1, 0, 0
    if operator == "~" or minor:
        return major, minor + 1, 0
    return major, minor, patch + 1


def _comparison(operator: str, bound: Version) -> Callable[[Version], bool]:
    comparisons: dict[str, Callable[[Version], bool]] = {
        "=": lambda version: version == bound,
        ">": lambda version: version > bound,
        ">=": lambda version: version >= bound,
        "<": lambda version: version < bound,
        "<=": lambda version: version <= bound,
    }
    return comparisons[operator]
