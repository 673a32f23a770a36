"""Rights compared: which covers which, and what is left where two meet."""

import re
from dataclasses import dataclass

from gateway.domain.permission import Permission
from gateway.domain.scope import covers_pattern

_RATE = re.compile(r"rate\(\s*(\d+)\s*/\s*(\d+)\s*([smhd])\s*\)\Z")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
# WHY: as the gateway itself spells a moment, in UTC; two such texts order as their moments do.
_UNTIL = re.compile(r"until\((\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?)Z\)\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """A permission on a scope under a condition, in the words of a rule."""

    permission: Permission
    scope: str
    condition: str = "-"

    def __str__(self) -> str:
        """Give the words that a person reads."""
        under = "" if self.condition == "-" else f" ({self.condition})"
        return f"{self.permission} on `{self.scope}`{under}"


def reaches(right: Right, other: Right) -> bool:
    """Tell whether `right` is of the other's permission or a higher level, on all of its scope; conditions aside."""
    one, two = right.permission, other.permission
    return one.kind is two.kind and one.level >= two.level and covers_pattern(right.scope, other.scope)


def covers_right(right: Right, other: Right) -> bool:
    """Tell whether whoever has `right` has all of `other`; in doubt no."""
    return reaches(right, other) and is_tighter(other.condition, right.condition)


def is_tighter(condition: str, than: str) -> bool:
    """Tell whether `condition` surely holds only where `than` holds."""
    terms = terms_of(condition)
    return all(any(_implies(term, wanted) for term in terms) for wanted in terms_of(than))


def meet(right: Right, other: Right) -> Right | None:
    """Give what both rights give, None where there is no single right for that, or nothing."""
    if right.permission.kind is not other.permission.kind:
        return None
    if covers_pattern(right.scope, other.scope):
        scope = other.scope
    elif covers_pattern(other.scope, right.scope):
        scope = right.scope
    else:
        return None
    condition = _both(right.condition, other.condition)
    permission = min(right.permission, other.permission, key=lambda each: each.level)
    return None if condition is None else Right(permission=permission, scope=scope, condition=condition)


def terms_of(condition: str) -> tuple[str, ...]:
    """Give the terms of a condition as they are written."""
    return () if condition == "-" else tuple(term.strip() for term in condition.split(";"))


def _both(one: str, other: str) -> str | None:
    terms = [*terms_of(one), *terms_of(other)]
    kept = [
        term
        for index, term in enumerate(terms)
        if not any(
            _implies(each, term) and (not _implies(term, each) or at < index)
            for at, each in enumerate(terms)
            if at != index
        )
    ]
    # WHY: a rule has one `rate(...)`; two that cannot be compared cannot both be kept.
    if sum(_RATE.match(term) is not None for term in kept) > 1:
        return None
    return "; ".join(kept) or "-"


def _implies(term: str, wanted: str) -> bool:
    if term == wanted:
        return True
    rate, other_rate = _RATE.match(term), _RATE.match(wanted)
    if rate and other_rate:
        return int(rate[1]) <= int(other_rate[1]) and _span(rate) >= _span(other_rate)
    until, other_until = _UNTIL.match(term), _UNTIL.match(wanted)
    return bool(until and other_until) and until[1] <= other_until[1]  # type: ignore[index] # both matched


def _span(rate: re.Match[str]) -> int:
    return int(rate[2]) * _SECONDS[rate[3]]
