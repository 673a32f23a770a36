"""Versions as semver.org 2.0.0 spells and orders them."""

import re
from dataclasses import dataclass
from functools import total_ordering

from gateway.errors import MalformedError

_VERSION = re.compile(r"(\d{1,15})\.(\d{1,15})\.(\d{1,15})(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?\Z", re.ASCII)


@total_ordering
@dataclass(frozen=True, slots=True)
class Version:
    """A version; what stands behind `+` does not count."""

    numbers: tuple[int, int, int]
    before: tuple[str, ...] = ()  # the words of a pre-release, none for a release

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
    if found is None:
        raise MalformedError(f"`{text[:80]}` is not a version like 1.0.0")
    major, minor, patch, before = found.groups()
    return Version((int(major), int(minor), int(patch)), tuple(before.split(".")) if before else ())
