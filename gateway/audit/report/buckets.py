"""A period, and its parts of equal length in which things are counted."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gateway.domain.decision import timestamp

MAX_BUCKETS = 62
_STEPS = (
    timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=15), timedelta(hours=1), timedelta(hours=3),
    timedelta(hours=6), timedelta(days=1), timedelta(days=7), timedelta(days=28), timedelta(days=364),
)  # fmt: skip
_EPOCH = datetime(1970, 1, 5, tzinfo=UTC)  # a Monday: weeks begin on it


@dataclass(frozen=True, slots=True)
class Period:
    """From a moment up to, but not including, another."""

    since: datetime
    until: datetime

    def __contains__(self, at: datetime) -> bool:
        return self.since <= at < self.until


class Buckets:
    """The parts of a period."""

    def __init__(self, period: Period) -> None:
        length = max(period.until - period.since, _STEPS[0])
        self.step = next((step for step in _STEPS if length / step <= MAX_BUCKETS - 2), length)
        self.begin = period.since - (period.since - _EPOCH) % self.step
        self.count = (period.until - self.begin) // self.step + 1
        if self.begin + self.step * (self.count - 1) >= period.until:
            self.count -= 1

    def number(self, at: datetime) -> int:
        """Give the number of the part that a moment lies in."""
        return min(max(0, (at - self.begin) // self.step), self.count - 1)

    def starts(self) -> list[str]:
        """Give the beginning of each part."""
        return [timestamp(self.begin + self.step * number) for number in range(self.count)]

    @property
    def name(self) -> str:
        """How long a part is, as people say it."""
        minutes = int(self.step.total_seconds() // 60)
        for unit, length in (("days", 1440), ("hours", 60)):
            if minutes >= length and minutes % length == 0:
                return f"{minutes // length} {unit}" if minutes > length else unit[:-1]
        return f"{minutes} minutes" if minutes > 1 else "minute"
