"""Rules compiled for one matcher: a request finds the few that matter, in their order."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TypeVar

from gateway.policy.anchors import Known, as_written
from gateway.policy.expression import Unproven, Values
from gateway.policy.index import Row, Tree, build_tree, changed
from gateway.policy.matcher import Lookup, Matcher
from gateway.policy.pauses import Pause, never

MOST_KEPT = 65_536  # answers kept of each kind, so that no stream of requests fills the memory
Question = TypeVar("Question")
Closure = Callable[[str], Iterable[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """Rules under one matcher, never changed once made; what is kept of earlier requests only saves time."""

    matcher: Matcher
    known: Mapping[str, Known]
    closures: Mapping[str, Closure]  # of each role definition: all that a subject belongs to, itself included
    rows: Sequence[tuple[str, ...]]  # by number; a dropped rule leaves its number unused
    count: int  # of the rules that are in force
    tree: Tree
    # Both kept by what is asked: the branches of all that a subject belongs to, and those below them to the last step.
    _roots: dict[str, tuple[Tree, ...]] = field(init=False, repr=False, default_factory=dict)
    _branches: dict[Values, tuple[Tree, ...]] = field(init=False, repr=False, default_factory=dict)
    _head: Callable[[Values], Values] = field(init=False)

    def __post_init__(self) -> None:
        places = [key.asked for key in self.matcher.keys[:-1]]
        object.__setattr__(self, "_head", _taking(places))

    def matching(self, asked: Values) -> list[int]:
        """Give the numbers of the rules whose lasting conjuncts hold, ascending."""
        rows, keys, tests = self.rows, self.matcher.keys, self.matcher.lasting
        if not keys:
            found: list[int] = list(range(len(rows)))
        else:
            head = self._head(asked)
            branches = self._branches.get(head)
            if branches is None:
                branches = self._find_branches(head, asked)
            found = []
            if branches:
                probes = self._probes(len(keys) - 1, asked)
                for branch in branches:
                    for probe in probes:
                        numbers = branch.get(probe)
                        if numbers is not None:
                            found += numbers
                if len(found) > 1:
                    found.sort()
        for test in tests:
            found = [number for number in found if test(asked + rows[number])]
        return found

    def knows(self, subject: str) -> bool:
        """Tell whether rules were found for whom or what is asked first, whatever else was asked."""
        return subject in self._roots

    def _find_branches(self, head: Values, asked: Values) -> tuple[Tree, ...]:
        branches: Sequence[Tree] = self._find_roots(asked) if head else (self.tree,)
        for step in range(1, len(head)):
            if not branches:
                return ()
            probes = self._probes(step, asked)
            branches = [below for branch in branches for probe in probes if (below := branch.get(probe))]
        return _keep(self._branches, head, tuple(branches))

    def _find_roots(self, asked: Values) -> tuple[Tree, ...]:
        subject = asked[self.matcher.keys[0].asked]
        roots = self._roots.get(subject)
        if roots is None:
            get = self.tree.get
            roots = tuple([below for probe in self._probes(0, asked) if (below := get(probe))])
            _keep(self._roots, subject, roots)
        return roots

    def _probes(self, step: int, asked: Values) -> Iterable[str]:
        key = self.matcher.keys[step]
        value = asked[key.asked]
        if key.lookup is Lookup.SAME:
            return (value,)
        if key.lookup is Lookup.ROLE:
            return self.closures[key.name](value)
        probes = self.known[key.name].probes
        return () if probes is None else probes(value)

    def with_closures(self, closures: Mapping[str, Closure]) -> "Compiled":
        """Give the same rules with other roles."""
        return Compiled(
            matcher=self.matcher, known=self.known, closures=closures, rows=self.rows, count=self.count, tree=self.tree
        )

    def with_rows(self, rows: Sequence[tuple[str, ...]], *, added: Iterable[int], dropped: Iterable[int]) -> "Compiled":
        """Give the set in which some numbers of `rows` are new and some of today's are gone."""
        new = [(number, rows[number]) for number in added]
        gone = [(number, self.rows[number]) for number in dropped]
        tree = changed(self.tree, _spread(self.matcher, self.known), added=new, dropped=gone)
        count = self.count + len(new) - len(gone)
        return Compiled(
            matcher=self.matcher, known=self.known, closures=self.closures, rows=rows, count=count, tree=tree
        )


def _keep(kept: dict[Question, tuple[Tree, ...]], question: Question, found: tuple[Tree, ...]) -> tuple[Tree, ...]:
    # SECURITY: strangers find nothing, and nothing is kept of them.
    if found:
        if len(kept) >= MOST_KEPT:
            kept.clear()
        kept[question] = found
    return found


def compile_rows(
    matcher: Matcher,
    rows: Sequence[tuple[str, ...]],
    *,
    known: Mapping[str, Known],
    closures: Mapping[str, Closure],
    pause: Pause = never,
) -> Compiled:
    """Compile rules for a matcher.

    Raises:
        Unproven: a rule holds what cannot be looked up.

    """
    tree: Tree = {}
    if matcher.keys:
        try:
            tree = build_tree(enumerate(rows), _spread(matcher, known), pause)
        except Exception as error:  # noqa: BLE001 (stock Casbin answers instead, and meets it again)
            raise Unproven(f"a rule cannot be looked up: {error}") from None
    return Compiled(matcher=matcher, known=known, closures=closures, rows=rows, count=len(rows), tree=tree)


def _spread(matcher: Matcher, known: Mapping[str, Known]) -> Callable[[Row], Sequence[str]]:
    """Give what tells under which values of the index a row lies."""
    anchors = [known[key.name].anchor if key.lookup is Lookup.ANCHOR else None for key in matcher.keys]
    others = [(at, anchor) for at, anchor in enumerate(anchors) if anchor is not None and anchor is not as_written]
    take = _taking([key.ruled for key in matcher.keys])

    def spread(row: Row) -> Sequence[str]:
        values = list(take(tuple(row)))
        for at, anchor in others:
            values[at] = anchor(values[at])
        return values

    return spread


def _taking(places: Sequence[int]) -> Callable[[Values], Values]:
    if len(places) > 1:
        return itemgetter(*places)
    if places:
        only = places[0]
        return lambda values: (values[only],)
    return lambda _values: ()
