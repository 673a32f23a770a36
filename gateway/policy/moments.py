"""The truths that terms of time can have together: hours, and moments from which and until which."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import pairwise

from gateway.domain.condition import From, Hours, Until
from gateway.policy.hours import within
from gateway.policy.openings import EARLIEST, LATEST, LOOKED_AT

_SOME_DAY = datetime(2026, 1, 1, tzinfo=UTC)
_HALF_HOURS = [timedelta(minutes=30 * n) for n in range(-28, 80)]


@lru_cache(maxsize=1024)
def truths_at_moments(terms: tuple[From | Until | Hours, ...]) -> frozenset[tuple[bool, ...]]:
    """Give the truths of `terms` at every moment that they can tell from another."""
    return frozenset(tuple(_holds_at(term, at) for term in terms) for at in _moments(terms))


def _holds_at(term: From | Until | Hours, at: datetime) -> bool:
    match term:
        case From():
            return at >= term.at
        case Until():
            return at < term.at
        case Hours():
            return within(term, at)


def _moments(terms: Sequence[From | Until | Hours]) -> Iterator[datetime]:
    """Give moments between which nothing changes: hours repeat by the week, but for holidays and changed clocks."""
    edges = sorted({min(max(term.at, EARLIEST), LATEST) for term in terms if isinstance(term, From | Until)})
    hours = [term for term in terms if isinstance(term, Hours)]
    holidays = [day for term in hours for day in _holidays(term)]
    named = sorted([*edges, *holidays]) or [_SOME_DAY]
    starts = [named[0] - LOOKED_AT, *edges]
    for start, end in pairwise([*starts, named[-1] + LOOKED_AT]):
        yield start
        for term in hours:
            for day in _days(start, end, term):
                yield from (at for at in _changes(day, term) if start <= at < end)


def _days(start: datetime, end: datetime, term: Hours) -> Iterator[date]:
    begin, last = start.date() - timedelta(days=2), min(end, start + LOOKED_AT).date() + timedelta(days=2)
    found = {begin + timedelta(days=number) for number in range((last - begin).days)}
    for holiday in _holidays(term):
        found.update(holiday.date() + timedelta(days=number) for number in (-1, 0, 1))
    yield from found


def _holidays(term: Hours) -> Iterator[datetime]:
    days = (datetime.fromisoformat(day).replace(tzinfo=UTC) for day in term.holidays)
    return (day for day in days if EARLIEST < day < LATEST)


def _changes(day: date, term: Hours) -> Iterator[datetime]:
    clocks = {time(0), *(window.start for window in term.windows), *(window.end for window in term.windows)}
    for clock in clocks:
        yield datetime.combine(day, clock, term.zone).astimezone(UTC)
    noons = [datetime.combine(day + timedelta(days=n), time(12), term.zone) for n in (-1, 0, 1)]
    if len({noon.utcoffset() for noon in noons}) > 1:
        yield from (noons[1].astimezone(UTC) + each for each in _HALF_HOURS)
