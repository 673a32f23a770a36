"""To build a large set of rules without keeping those who decide meanwhile from their turn."""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager

_TURN_S = 0.0002
_MANY_RULES = 20_000


def breathe() -> None:
    """Let other threads have their turn; only for threads that nobody waits for."""
    # WHY: a sleep of nothing gives the interpreter back before anybody has woken up to take it.
    time.sleep(_TURN_S)


@contextmanager
def collector_resting() -> Iterator[None]:
    """Keep the garbage collector from walking over a growing set again and again."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def settle(rules: int) -> None:
    """Take a large set that came into force out of the collector's rounds; it is freed all the same when it goes."""
    # WHY: a set has no cycles, and one round over 100,000 rules stops every thread for a tenth of a second.
    if rules > _MANY_RULES:
        gc.freeze()
