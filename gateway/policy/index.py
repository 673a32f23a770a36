"""The index: rule numbers under the values that a request looks them up by, step for step."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from gateway.policy.pauses import Pause, never, paced

Row = Sequence[Any]
Spread = Callable[[Row], Sequence[str]]
# One dict a step, a subject, a kind ...; under the last one the numbers of the rules, ascending.
Tree = dict[str, Any]


def build_tree(rows: Iterable[tuple[int, Row]], spread: Spread, pause: Pause = never) -> Tree:
    """Build the index of numbered rows; `spread` gives the values under which a row lies."""
    tree: Tree = {}
    for number, row in paced(rows, pause):
        *path, last = spread(row)
        branch = tree
        for value in path:
            below = branch.get(value)
            if below is None:
                below = branch[value] = {}
            branch = below
        known = branch.get(last)
        # WHY: most leaves hold one rule, and adding tuples is dear only where there are many.
        if known is None:
            branch[last] = [number]
        else:
            known.append(number)
    return tree


def changed(
    tree: Tree, spread: Spread, *, added: Iterable[tuple[int, Row]], dropped: Iterable[tuple[int, Row]]
) -> Tree:
    """Give the index with some rows more and some less; `tree` stays as it is, and what is alike is shared."""
    new = dict(tree)
    own: set[int] = {id(new)}

    def leaf(row: Row) -> tuple[Tree, str, list[int]]:
        *path, last = spread(row)
        branch = new
        for value in path:
            below = branch.get(value, {})
            if id(below) not in own:
                below = dict(below)
                own.add(id(below))
                branch[value] = below
            branch = below
        return branch, last, branch.get(last, [])

    for number, row in dropped:
        branch, last, numbers = leaf(row)
        branch[last] = [each for each in numbers if each != number]
        if not branch[last]:
            del branch[last]
    for number, row in added:
        branch, last, numbers = leaf(row)
        branch[last] = [*numbers, number]
    return new
