"""The problems found while a policy is read, each at its place."""

from collections.abc import Iterable

from gateway.errors import Place, Problem
from gateway.policy.pauses import Pause, never, paced


class Problems:
    """Every problem of every file, in the order in which a person would go through them."""

    def __init__(self) -> None:
        # WHY: as plain values, which are found again and sorted several times faster.
        self._found: dict[tuple[str, int, int, str, str], None] = {}

    def error(self, file: str, message: str, line: int | None = None, column: int | None = None) -> None:
        """Note something that keeps the policy from taking effect."""
        self._found[file, line or 0, column or 0, message, "error"] = None

    def warning(self, file: str, message: str, line: int | None = None) -> None:
        """Note something that is allowed but hardly meant."""
        self._found[file, line or 0, 0, message, "warning"] = None

    def extend(self, found: Iterable[Problem]) -> None:
        """Note problems that were found before."""
        for each in found:
            place = each.place
            self._found[place.file, place.line or 0, place.column or 0, each.message, each.severity] = None

    def sorted(self, pause: Pause = never) -> tuple[Problem, ...]:
        """Give all of them by file, line and column."""
        return tuple(
            Problem(place=Place(file=file, line=line or None, column=column or None), message=text, severity=severity)
            for file, line, column, text, severity in paced(sorted(self._found), pause)
        )
