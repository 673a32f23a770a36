"""The policy set in force: got once per call, swapped by one assignment."""

from collections.abc import Callable, Sequence

from gateway.domain.request import Json
from gateway.errors import ConflictError, Problem
from gateway.policy.engine import PolicySet
from gateway.policy.pauses import Pause, never
from gateway.policy.reach import check_reach


class CurrentPolicy:
    """The policy set in force, and what was wrong with the last edit that did not come into force.

    `get` hands out the set that a call keeps until it ends. `swap` is one reference assignment, so any
    thread may call `get` at any time; calls of `swap` come one after the other, from one writer. `on_swap` is
    called when another set is in force.
    """

    def __init__(self, on_swap: Callable[[], None] = lambda: None) -> None:
        self._on_swap = on_swap
        self._active: PolicySet | None = None
        self._problems: tuple[Problem, ...] = ()
        self._vain: tuple[str, tuple[Problem, ...]] | None = None

    def get(self) -> PolicySet | None:
        """Give the set in force, None if there never was one: then everything is denied."""
        return self._active

    def swap(self, policy_set: PolicySet) -> None:
        """Put `policy_set` in force.

        Raises:
            ConflictError: a set of the same or a later generation is in force.

        """
        # INVARIANT: generations only grow, so an older set can never come back by a late builder.
        active = self._active
        if active is not None and policy_set.generation <= active.generation:
            raise ConflictError(f"generation {active.generation} is in force, {policy_set.generation} is not newer")
        self._active = policy_set
        self._problems = ()
        self._on_swap()

    def reject(self, problems: Sequence[Problem]) -> None:
        """Note why the last edit did not come into force; what is in force stays."""
        self._problems = tuple(problems)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What was wrong with the last edit, empty if it is in force."""
        return self._problems

    def vain(self, pause: Pause = never) -> tuple[Problem, ...]:
        """Warn of what the set in force says in vain; looked for once for each text, for it takes its time."""
        active, known = self._active, self._vain
        if active is None:
            return ()
        if known is None or known[0] != active.version:
            known = self._vain = active.version, check_reach(active.parsed, pause)
        return known[1]

    def status(self) -> dict[str, Json]:
        """Give what is in force and what is wrong, in the wire shape."""
        active = self._active
        warnings = () if active is None else active.parsed.problems
        return {
            "in_force": active is not None,
            "last_good": active is not None and bool(self._problems),  # the files say something else, and are broken
            "version": None if active is None else active.version,
            "generation": 0 if active is None else active.generation,
            "rules": 0 if active is None else len(active.rules),
            "model": None if active is None else "shipped" if active.parsed.model.is_shipped else "own",
            "memberships": {} if active is None else {who: list(what) for who, what in active.memberships.items()},
            "problems": [problem.as_json() for problem in self._problems],  # type: ignore[misc] # its members are Json
            "warnings": [problem.as_json() for problem in warnings],  # type: ignore[misc] # same
        }
