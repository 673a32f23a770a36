"""What the rules that cover a request mean together: when they allow it, whatever they are called.

Both are tried out in every circumstance; where there are more than can be tried they are compared as written.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from gateway.domain.condition import Compare, Hours, Rate, RiskAtMost
from gateway.domain.decision import Effect
from gateway.domain.risk import MAX_SCORE
from gateway.policy.circumstances import Atom, Values, circumstances
from gateway.policy.rule import Rule

Terms = frozenset[Atom]


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


@lru_cache(maxsize=4096)
def same(one: Meaning, other: Meaning) -> bool:
    """Tell whether both allow in the same circumstances."""
    if one == other:
        return True
    tried = circumstances(one.atoms | other.atoms)
    return tried is not None and all(one.holds(values) == other.holds(values) for values in tried)


@lru_cache(maxsize=4096)
def allows_more(one: Meaning, other: Meaning) -> bool:
    """Tell whether `other` allows in some circumstance in which `one` does not."""
    tried = circumstances(one.atoms | other.atoms)
    return one != other if tried is None else any(other.holds(values) and not one.holds(values) for values in tried)


def _atoms(rule: Rule, number: int) -> Iterator[Atom]:
    for text, term in rule.condition.terms:
        match term:
            case RiskAtMost(score=score) if score >= MAX_SCORE:
                continue
            case Rate():
                others = frozenset(other for _, other in rule.condition.terms)
                yield term, number, rule.kind, rule.level, rule.scope, others, _Text(text)
            case Hours():
                yield replace(term, name=None), _Text(text)
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
