"""To build a large set of rules without keeping those who decide meanwhile from their turn."""

import gc
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

_TURN_S = 0.0002
_WORK_S = 0.001  # what may be worked between two turns of others
_MANY_RULES = 20_000
_MANY_OBJECTS = 200_000
_AT_ONCE = 100


class _LastTurn(threading.local):
    at = 0.0


_last_turn = _LastTurn()


def breathe() -> None:
    """Let other threads have their turn, once a millisecond; only for threads that nobody waits for."""
    if time.perf_counter() - _last_turn.at >= _WORK_S:
        # WHY: a sleep of nothing gives the interpreter back before anybody has woken up to take it.
        time.sleep(_TURN_S)
        _last_turn.at = time.perf_counter()


@contextmanager
def collector_resting() -> Iterator[None]:
    """Keep the garbage collector from walking over a growing set again and again."""
    gc.collect(1)  # what is garbage already, before what is built is put beyond the collector's reach
    gc.disable()
    try:
        yield
    finally:
        # WHY: a set has no cycles, and the first round over 100,000 rules stops every thread for a tenth of a second.
        if gc.get_count()[0] > _MANY_OBJECTS:
            gc.freeze()
        gc.enable()


def settle(rules: int) -> None:
    """Take a large set that came into force out of the collector's rounds; it is freed all the same when it goes."""
    # WHY: as above, for what a set was changed to by a grant.
    if rules > _MANY_RULES:
        gc.freeze()


def let_go(pieces: Iterable[list[Any]]) -> None:
    """Free what a set consisted of, piece by piece; only for threads that nobody waits for."""
    # WHY: 100,000 rules that go with their last owner go at once, and nobody decides for that long.
    for piece in pieces:
        while piece:
            del piece[-_AT_ONCE:]
            breathe()
