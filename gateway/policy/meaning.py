"""What the rules that cover a request mean together: when they allow it, whatever they are called.

Terms are taken as independent of each other, but for those that are not: scores of risk, moments, and attributes
that may be missing. More terms than can be tried out are compared as written.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from gateway.domain.condition import Compare, From, Hours, Rate, RiskAtMost, Until
from gateway.domain.decision import Effect
from gateway.domain.risk import MAX_SCORE
from gateway.policy.rule import Rule

MAX_TRIED = 1 << 15
Atom = tuple[object, ...]
Terms = frozenset[Atom]
Values = Mapping[Atom, tuple[bool, bool]]  # whether an allow, and whether a deny, finds the term met


@dataclass(frozen=True, slots=True)
class Meaning:
    """Allowed where one of `allows` holds whole and none of `denies` does."""

    allows: frozenset[Terms]
    denies: frozenset[Terms]

    @property
    def atoms(self) -> frozenset[Atom]:
        """Every term that it depends on."""
        return frozenset(atom for terms in self.allows | self.denies for atom in terms)

    def holds(self, values: Values) -> bool:
        """Tell whether it allows where the terms have these values."""
        return any(all(values[atom][0] for atom in terms) for terms in self.allows) and not any(
            all(values[atom][1] for atom in terms) for terms in self.denies
        )

    def __str__(self) -> str:
        if not self.allows:
            return "deny"
        when = _either(self.allows)
        unless = _either(self.denies)
        return "allow" + (f" if {when}" if when else "") + (f" unless {unless}" if unless else "")


NOTHING = Meaning(frozenset(), frozenset())


def meaning_of(rules: Iterable[Rule]) -> Meaning:
    """Give what rules that cover the same request mean together, in its shortest form."""
    alike: dict[tuple[object, ...], int] = {}
    found: dict[Effect, set[Terms]] = {Effect.ALLOW: set(), Effect.DENY: set()}
    for rule in rules:
        said = said_by(rule)
        # WHY: two rules of one wording count their rates apart, so the second is more than the first again.
        number = alike[said] = alike.get(said, 0) + 1
        found[rule.effect].add(frozenset(_atoms(rule, number)))
    denies = _shortest(found[Effect.DENY])
    allows = {terms for terms in _shortest(found[Effect.ALLOW]) if not any(deny <= terms for deny in denies)}
    return Meaning(frozenset(allows), frozenset(denies)) if allows else NOTHING


def said_by(rule: Rule) -> tuple[object, ...]:
    """Give what a rule says to whom it speaks of, leaving aside its names and its place."""
    return rule.kind, rule.level, rule.scope, rule.effect, frozenset(_atoms(rule, 1))


def same(one: Meaning, other: Meaning) -> bool:
    """Tell whether both allow in the same circumstances."""
    if one == other:
        return True
    tried = circumstances(one.atoms | other.atoms)
    return tried is not None and all(one.holds(values) == other.holds(values) for values in tried)


def allows_more(one: Meaning, other: Meaning) -> bool:
    """Tell whether `other` allows in some circumstance in which `one` does not."""
    tried = circumstances(one.atoms | other.atoms)
    return one != other if tried is None else any(other.holds(values) and not one.holds(values) for values in tried)


def circumstances(atoms: Iterable[Atom]) -> Iterator[Values] | None:
    """Give every combination of values that terms can have, None if there are too many to try."""
    free: list[list[dict[Atom, tuple[bool, bool]]]] = []
    scores: list[Atom] = []
    moments: list[Atom] = []
    for atom in atoms:
        match atom[0]:
            case RiskAtMost():
                scores.append(atom)
            case From() | Until():
                moments.append(atom)
            case Compare():
                # WHY: what cannot be told is unmet for an allow and met for a deny.
                free.append([{atom: (True, True)}, {atom: (False, False)}, {atom: (False, True)}])
            case _:
                free.append([{atom: (True, True)}, {atom: (False, False)}])
    choices = [*free, _by_score(scores), _by_moment(moments)]
    count = 1
    for choice in choices:
        count *= len(choice)
    if count > MAX_TRIED:
        return None
    return ({atom: value for part in parts for atom, value in part.items()} for parts in product(*choices))


def _by_score(atoms: list[Atom]) -> list[dict[Atom, tuple[bool, bool]]]:
    edges = sorted({term.score for term, *_ in atoms if isinstance(term, RiskAtMost)})
    return [
        {atom: (value := isinstance(atom[0], RiskAtMost) and score <= atom[0].score, value) for atom in atoms}
        for score in (*edges, MAX_SCORE)
    ]


def _by_moment(atoms: list[Atom]) -> list[dict[Atom, tuple[bool, bool]]]:
    edges = sorted({term.at for term, *_ in atoms if isinstance(term, From | Until)})
    found = []
    for reached in range(len(edges) + 1):
        passed = set(edges[:reached])
        values = {}
        for atom in atoms:
            term = atom[0]
            begun = isinstance(term, From | Until) and term.at in passed
            value = begun if isinstance(term, From) else not begun
            values[atom] = (value, value)
        found.append(values)
    return found


def _atoms(rule: Rule, number: int) -> Iterator[Atom]:
    for text, term in rule.condition.terms:
        match term:
            case RiskAtMost(score=score) if score >= MAX_SCORE:
                continue
            case Rate():
                others = frozenset(other for _, other in rule.condition.terms)
                yield term, number, rule.kind, rule.level, rule.scope, others, _Text(text)
            case Hours():
                yield "hours", term.zone.key, term.windows, term.holidays, _Text(text)
            case Compare(right=right):
                # WHY: to Python `true` and `1` are equal, to a comparison they are not.
                kinds = tuple(type(each) is bool for each in (right if isinstance(right, tuple) else (right,)))
                yield term, kinds, _Text(text)
            case _:
                yield term, _Text(text)


class _Text(str):
    """A term as written; two spellings of one term are the same."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Text)

    def __hash__(self) -> int:
        return 0


def _shortest(every: set[Terms]) -> set[Terms]:
    """Leave out what holds only where something shorter holds as well."""
    return {terms for terms in every if not any(other < terms for other in every)}


def _either(every: frozenset[Terms]) -> str:
    if frozenset() in every:
        return ""
    return " or ".join(sorted("; ".join(sorted(str.__str__(atom[-1]) for atom in terms)) for terms in every))
