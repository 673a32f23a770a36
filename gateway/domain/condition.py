"""Conditions of a rule: a closed set of terms, all of which must hold."""

from dataclasses import dataclass
from datetime import datetime, time
from enum import StrEnum
from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True)
class Consent:
    """The user on whose behalf the call runs has consented."""


@dataclass(frozen=True, slots=True)
class Approval:
    """A person has approved this exact call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Hours of some days; if `end` is not after `start` they run overnight and belong to the day they begin."""

    start: time
    end: time
    days: frozenset[int]  # Monday is 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """Within windows of a zone's local time, holidays excepted."""

    zone: ZoneInfo
    windows: tuple[Window, ...]
    holidays: frozenset[str] = frozenset()  # ISO dates of that zone
    name: str | None = None  # of the calendar in conditions.toml, None for `hours(...)`


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """At most `count` in any `per_s` seconds, for each rule, subject and user."""

    count: int
    per_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskAtMost:
    """The risk score is at most this."""

    score: int


@dataclass(frozen=True, slots=True, kw_only=True)
class From:
    """Not before this moment."""

    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Until:
    """Before this moment."""

    at: datetime


class Operator(StrEnum):
    """Comparisons of attributes."""

    EQUAL = "=="
    UNEQUAL = "!="
    LESS = "<"
    AT_MOST = "<="
    GREATER = ">"
    AT_LEAST = ">="
    IN = "in"
    STARTS_WITH = "startswith"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """A path like `resource.owner` into what is known of a request."""

    path: tuple[str, ...]


Literal = str | int | float | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Compare:
    """An attribute compared with a literal, literals (`in`), or another attribute."""

    left: Attribute
    operator: Operator
    right: Literal | tuple[Literal, ...] | Attribute


Term = Consent | Approval | Hours | Rate | RiskAtMost | From | Until | Compare


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """The terms of a rule with the text each was written as."""

    terms: tuple[tuple[str, Term], ...] = ()

    @property
    def rate(self) -> Rate | None:
        """The rate term, if there is one."""
        return next((term for _, term in self.terms if isinstance(term, Rate)), None)
