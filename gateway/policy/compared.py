"""The truths that comparisons of the same attributes can have together."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise, product
from math import prod

from gateway.domain.condition import Attribute, Compare, Operator
from gateway.domain.request import Json
from gateway.policy.comparisons import UnknownAttributeError, holds

MAX_TRIED = 1 << 12
Path = tuple[str, ...]
_TEXTS = frozenset(  # what the gateway itself says of every request
    {("subject", "id"), ("subject", "type"), ("resource", "id"), ("resource", "type"), ("action", "name")}
)
_MISSING = object()


@lru_cache(maxsize=1024)
def truths_of_values(
    terms: tuple[Compare, ...], _types: tuple[object, ...]
) -> frozenset[tuple[bool | None, ...]] | None:
    """Give the truths that comparisons have together, None where they cannot all be tried.

    A truth is None where it cannot be told. `_types` tells `== 1` from `== true`, which Python takes for equal.
    """
    if any(term.operator is Operator.IN and isinstance(term.right, Attribute) for term in terms):
        return None
    paths = sorted({path for term in terms for path in paths_of(term)})
    candidates = [_candidates(path, terms, len(paths)) for path in paths]
    if prod(map(len, candidates)) > MAX_TRIED:
        return None
    worlds = (_world(paths, values) for values in product(*candidates))
    return frozenset(tuple(_truth(term, world) for term in terms) for world in worlds if world is not None)


def _candidates(path: Path, terms: Iterable[Compare], paths: int) -> list[object]:
    """Give a value of every sort that comparisons can tell apart; several where attributes are compared."""
    literals = [
        literal
        for term in terms
        if not isinstance(term.right, Attribute)
        for literal in (term.right if isinstance(term.right, tuple) else (term.right,))
    ]
    texts = {each for each in literals if isinstance(each, str)}
    texts |= {f"{text}\x00{n}" for text in (*texts, "") for n in range(paths)}
    if path in _TEXTS:
        return [*sorted(texts)]
    edges = sorted({each for each in literals if isinstance(each, int | float) and not isinstance(each, bool)})
    numbers = {*edges, *_between(edges or [0], paths)}
    return [*sorted(texts), *sorted(numbers), True, False, _MISSING]


def _between(edges: Sequence[float], count: int) -> Iterator[float]:
    """Give some numbers before, between and behind `edges`."""
    for one, other in pairwise([edges[0] - 1, *edges, edges[-1] + 1]):
        yield from (one + (other - one) * n / (count + 1) for n in range(1, count + 1))


def _world(paths: Sequence[Path], values: Sequence[object]) -> dict[str, Mapping[str, Json]] | None:
    """Give attributes with these values, None where one would have to be a text and a table at once."""
    world: dict[str, object] = {}
    for path, value in zip(paths, values, strict=True):
        if value is _MISSING:
            continue
        inside = world
        for name in path[:-1]:
            below = inside.setdefault(name, {})
            if not isinstance(below, dict):
                return None
            inside = below
        if path[-1] in inside:
            return None
        inside[path[-1]] = value
    return world  # type: ignore[return-value] # every path has two names or more


def _truth(term: Compare, world: Mapping[str, Mapping[str, Json]]) -> bool | None:
    try:
        return holds(term, world)
    except UnknownAttributeError:
        return None


def paths_of(term: Compare) -> Iterator[Path]:
    """Give the attributes that a comparison asks for."""
    yield term.left.path
    if isinstance(term.right, Attribute):
        yield term.right.path
