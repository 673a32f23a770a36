"""conditions.toml: calendars, whose names are terms of a condition."""

from collections.abc import Mapping
from datetime import date

from gateway.domain.condition import Hours, Window
from gateway.errors import MalformedError
from gateway.policy.hours import parse_window, parse_zone
from gateway.policy.problems import Problems
from gateway.policy.terms import NAME, WORDS
from gateway.policy.toml_file import TomlFile, parse_toml


def parse_calendars(file: str, data: bytes, problems: Problems) -> dict[str, Hours]:
    """Give the calendars of a conditions file by name; one with a problem is noted and left out."""
    toml = parse_toml(file, data, problems)
    if toml is None:
        return {}
    toml.only(toml.content, ["calendar"])
    found: dict[str, Hours] = {}
    for name, value in toml.table(toml.content.get("calendar", {}), "calendar").items():
        calendar = _calendar(toml, name, toml.table(value, "calendar", name))
        if calendar is not None:
            found[name] = calendar
    return found


def _calendar(toml: TomlFile, name: str, table: Mapping[str, object]) -> Hours | None:
    path = ("calendar", name)
    if not NAME.match(name) or name in WORDS:
        toml.error(f"calendar '{name}': a name is small letters, digits and _, and no word of conditions", *path)
        return None
    toml.only(table, ["zone", "hours", "holidays"], *path)
    zone = toml.text(table, "zone", *path)
    windows = _windows(toml, table, path)
    holidays = _holidays(toml, table, path)
    if zone is None or not windows or holidays is None:
        return None
    try:
        return Hours(zone=parse_zone(zone), windows=windows, holidays=holidays, name=name)
    except MalformedError as error:
        toml.error(str(error), *path, "zone")
        return None


def _windows(toml: TomlFile, table: Mapping[str, object], path: tuple[str, str]) -> tuple[Window, ...]:
    texts = toml.texts(table, "hours", *path)
    if not texts:
        toml.error(f"calendar '{path[1]}' needs `hours`, as [\"09:00-17:00 Mon-Fri\"]", *path)
    windows = []
    for text in texts:
        try:
            windows.append(parse_window(text))
        except MalformedError as error:
            toml.error(str(error), *path, "hours")
            return ()
    return tuple(windows)


def _holidays(toml: TomlFile, table: Mapping[str, object], path: tuple[str, str]) -> frozenset[str] | None:
    days = table.get("holidays", [])
    found = []
    for day in days if isinstance(days, list) else [days]:
        try:
            # WHY: a bare TOML date is as good as its text; a date with a time is not a day.
            found.append(date.fromisoformat(day.isoformat() if type(day) is date else str(day)).isoformat())
        except (TypeError, ValueError):
            toml.error(f"holiday '{day}': write a day as 2026-12-25", *path, "holidays")
            return None
    return frozenset(found)
