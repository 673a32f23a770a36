"""Hours: windows of a zone's local time, as `09:00-17:00 Mon-Fri Europe/Berlin`."""

import re
from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from gateway.domain.condition import Hours, Window
from gateway.errors import MalformedError
from gateway.policy.spelling import did_you_mean

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_SPAN = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)\Z", re.ASCII)
_TO_MIDNIGHT = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-24:00\Z", re.ASCII)
_DAYS = re.compile(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun)(?:-(Mon|Tue|Wed|Thu|Fri|Sat|Sun))?\Z")
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+){0,2}\Z")
_HOST_ZONES = frozenset({"localtime", "posixrules", "Factory"})


def parse_hours(text: str) -> Hours:
    """Give the hours written as `HH:MM-HH:MM [days] Zone/Name`.

    Raises:
        MalformedError: they cannot be read.

    """
    words = text.split()
    if len(words) < 2 or _DAYS.match(words[-1]):  # noqa: PLR2004 (hours and zone)
        raise MalformedError(f"hours '{text[:80]}': write them as `09:00-17:00 Mon-Fri Europe/Berlin`")
    return Hours(zone=parse_zone(words[-1]), windows=(parse_window(" ".join(words[:-1])),))


def parse_zone(name: str) -> ZoneInfo:
    """Give the time zone of that name.

    Raises:
        MalformedError: there is none.

    """
    # SECURITY: these mean another zone on every host, so a decision could not be replayed.
    if _ZONE.match(name) and name not in _HOST_ZONES:
        try:
            return ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            pass
    raise MalformedError(f"unknown time zone '{name[:80]}': write it as `Europe/Berlin` or `UTC`")


def parse_window(text: str) -> Window:
    """Give the window written as `HH:MM-HH:MM [days]`; without days it is every day.

    Raises:
        MalformedError: it cannot be read, or is empty.

    """
    span, *words = text.split() or [""]
    start, end = _span(span)
    return Window(start=start, end=end, days=frozenset(_days(words)))


def _span(text: str) -> tuple[time, time]:
    if found := _TO_MIDNIGHT.match(text):
        return time(int(found[1]), int(found[2])), time(0)
    found = _SPAN.match(text)
    if found is None:
        raise MalformedError(f"hours '{text[:80]}': write them as `09:00-17:00`")
    start, end = time(int(found[1]), int(found[2])), time(int(found[3]), int(found[4]))
    if start == end:
        raise MalformedError(f"hours '{text}' begin and end at once: the whole day is `00:00-24:00`")
    return start, end


def _days(words: list[str]) -> Iterable[int]:
    for word in words:
        found = _DAYS.match(word)
        if found is None:
            hint = did_you_mean(word, DAYS) or f": the days are {', '.join(DAYS)}"
            raise MalformedError(f"day '{word[:80]}'{hint}")
        first = DAYS.index(found[1])
        last = DAYS.index(found[2] or found[1])
        yield from ((first + i) % 7 for i in range((last - first) % 7 + 1))
    if not words:
        yield from range(7)


def within(hours: Hours, at: datetime) -> bool:
    """Tell whether `at` lies in one of the windows, by the clock on the wall of that zone."""
    local = at.astimezone(hours.zone)
    return any(_covers(window, hours.holidays, local) for window in hours.windows)


def _covers(window: Window, holidays: frozenset[str], local: datetime) -> bool:
    clock = local.time()
    overnight = window.end <= window.start
    if clock >= window.start and (overnight or clock < window.end):
        return _is_open(window, holidays, local.date())
    if overnight and clock < window.end:
        return _is_open(window, holidays, local.date() - timedelta(days=1))
    return False


def _is_open(window: Window, holidays: frozenset[str], begun: date) -> bool:
    return begun.weekday() in window.days and begun.isoformat() not in holidays
