"""The problems found while a policy is read, each at its place."""

from collections.abc import Iterable

from gateway.errors import Place, Problem


class Problems:
    """Every problem of every file, in the order in which a person would go through them."""

    def __init__(self) -> None:
        self._found: dict[Problem, None] = {}

    def error(self, file: str, message: str, line: int | None = None, column: int | None = None) -> None:
        """Note something that keeps the policy from taking effect."""
        self._add(Problem(place=Place(file=file, line=line, column=column), message=message))

    def warning(self, file: str, message: str, line: int | None = None) -> None:
        """Note something that is allowed but hardly meant."""
        self._add(Problem(place=Place(file=file, line=line), message=message, severity="warning"))

    def _add(self, problem: Problem) -> None:
        self._found.setdefault(problem)

    def extend(self, found: Iterable[Problem]) -> None:
        """Note problems that were found before."""
        self._found.update(dict.fromkeys(found))

    def sorted(self) -> tuple[Problem, ...]:
        """Give all of them by file, line and column."""
        return tuple(
            sorted(self._found, key=lambda p: (p.place.file, p.place.line or 0, p.place.column or 0, p.message))
        )
