"""Pauses: long work aside lets those who decide meanwhile have their turn."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Pause = Callable[[], None]
Item = TypeVar("Item")
Value = TypeVar("Value")
STRIDE = 50  # rules between two pauses: less than a millisecond of work


def never() -> None:
    """Go on without a pause."""


def paced(items: Iterable[Item], pause: Pause) -> Iterator[Item]:
    """Give `items`, with a pause after every so many."""
    return iter(items) if pause is never else _with_pauses(items, pause)


def _with_pauses(items: Iterable[Item], pause: Pause) -> Iterator[Item]:
    for count, item in enumerate(items, 1):
        yield item
        if count % STRIDE == 0:
            pause()


def emptied(found: dict[Item, Value], pause: Pause) -> None:
    """Take everything out of a dict, with pauses: freed at once, a large one keeps everybody waiting."""
    if pause is not never:
        while found:
            for _ in range(min(len(found), STRIDE)):
                found.popitem()
            pause()
