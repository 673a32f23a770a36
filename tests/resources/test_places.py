"""One plugin cannot take every place."""

from contextlib import ExitStack

import pytest

from gateway.errors import OverloadedError
from gateway.resources.places import Places


def test_one_asker_takes_its_share_and_leaves_the_rest_to_others() -> None:
    places = Places(4, 2, "requests")
    with ExitStack() as held:
        first = ExitStack()
        held.enter_context(first)
        first.enter_context(places.take("a"))
        held.enter_context(places.take("a"))
        with pytest.raises(OverloadedError, match="of `a` are under way, which is its share"), places.take("a"):
            pass
        held.enter_context(places.take("b"))
        first.close()
        held.enter_context(places.take("a"))
        held.enter_context(places.take("c"))
        with pytest.raises(OverloadedError, match="4 requests of plugins are under way"), places.take("d"):
            pass


def test_a_place_is_free_again_however_its_work_ends() -> None:
    places = Places(1, 1, "programs")
    for _ in range(3):
        with pytest.raises(ValueError, match="x"), places.take("a"):
            raise ValueError("x")
