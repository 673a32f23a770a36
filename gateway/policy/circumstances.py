"""Every combination of truths that the terms of conditions can have together.

Terms that feed on the same fact depend on each other: scores of risk, moments, and comparisons of the same
attributes. Whatever else they are, they are taken as free, so that no combination is ever missed.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from math import prod

from gateway.domain.condition import Compare, From, Hours, RiskAtMost, Until
from gateway.domain.risk import MAX_SCORE
from gateway.policy.compared import Path, paths_of, truths_of_values
from gateway.policy.moments import truths_at_moments

MAX_TRIED = 1 << 15
Atom = tuple[object, ...]  # a term and what else tells it from others
Truth = tuple[bool, bool]  # whether an allow, and whether a deny, finds the term met
Values = Mapping[Atom, Truth]
# WHY: what cannot be told is unmet for an allow and met for a deny.
_TRUTHS: Mapping[bool | None, Truth] = {True: (True, True), False: (False, False), None: (False, True)}


def circumstances(atoms: Iterable[Atom]) -> Iterator[Values] | None:
    """Give every combination of values that terms can have, None if there are too many to try."""
    free: list[Atom] = []
    scores: dict[Atom, RiskAtMost] = {}
    moments: dict[Atom, From | Until | Hours] = {}
    comparisons: dict[Atom, Compare] = {}
    for atom in atoms:
        match atom[0]:
            case RiskAtMost() as term:
                scores[atom] = term
            case (From() | Until() | Hours()) as term:
                moments[atom] = term
            case Compare() as term:
                comparisons[atom] = term
            case _:
                free.append(atom)
    choices = [
        *(_told([atom], [(True,), (False,)]) for atom in free),
        _told(scores, _truths_of_scores([*scores.values()])),
        _told(moments, truths_at_moments(tuple(moments.values()))),
        *_by_attribute(comparisons),
    ]
    if prod(map(len, choices)) > MAX_TRIED:
        return None
    return ({atom: value for part in parts for atom, value in part.items()} for parts in product(*choices))


def _told(atoms: Iterable[Atom], truths: Iterable[Sequence[bool | None]]) -> list[dict[Atom, Truth]]:
    atoms = [*atoms]
    return [dict(zip(atoms, (_TRUTHS[truth] for truth in each), strict=True)) for each in truths]


def _truths_of_scores(terms: Sequence[RiskAtMost]) -> list[list[bool]]:
    edges = sorted({term.score for term in terms})
    return [[score <= term.score for term in terms] for score in (*edges, MAX_SCORE)]


def _by_attribute(comparisons: Mapping[Atom, Compare]) -> Iterator[list[dict[Atom, Truth]]]:
    for atoms in _components(comparisons):
        truths = truths_of_values(tuple(comparisons[atom] for atom in atoms), tuple(atom[1] for atom in atoms))
        if truths is not None:
            yield _told(atoms, truths)
        else:
            yield from (_told([atom], [(True,), (False,), (None,)]) for atom in atoms)


def _components(comparisons: Mapping[Atom, Compare]) -> Iterator[list[Atom]]:
    """Put comparisons together that speak of the same attributes, directly or by others."""
    groups: list[tuple[set[Path], list[Atom]]] = []
    for atom, term in comparisons.items():
        paths, members = {*paths_of(term)}, [atom]
        apart = []
        for group in groups:
            if any(_meet(one, other) for one in paths for other in group[0]):
                paths |= group[0]
                members = [*group[1], *members]
            else:
                apart.append(group)
        groups = [*apart, (paths, members)]
    return (members for _, members in groups)


def _meet(one: Path, other: Path) -> bool:
    return one[: len(other)] == other[: len(one)]
