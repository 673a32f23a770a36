"""When hours open: the moments at which several of them may come to be open at once."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta

from gateway.domain.condition import Hours
from gateway.policy.hours import within

LOOKED_AT = timedelta(days=400)
EARLIEST, LATEST = datetime(1971, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)  # that anybody asks about


def first_open(terms: Sequence[Hours], first: datetime, until: datetime) -> datetime | None:
    """Give the earliest moment from `first` on and before `until` at which all of `terms` are open."""
    return min((at for at in _moments(terms, first, until) if all(within(term, at) for term in terms)), default=None)


def _moments(terms: Sequence[Hours], first: datetime, until: datetime) -> Iterator[datetime]:
    """Give every moment at which one of the windows begins; if all are open at once they are at one of these."""
    yield first
    days = (until - first).days + 3
    for term in terms:
        begun = first.astimezone(term.zone).date() - timedelta(days=1)
        starts = sorted({window.start for window in term.windows})
        for number in range(days):
            for start in starts:
                at = _local(begun + timedelta(days=number), start, term)
                if first <= at < until:
                    yield at


def _local(day: date, start: time, term: Hours) -> datetime:
    return datetime.combine(day, start, term.zone).astimezone(UTC)
