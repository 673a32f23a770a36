"""Places for work that is under way: so many in all, and of those so many for one plugin."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.errors import OverloadedError

_RETRY_AFTER_S = 1


class Places:
    """Counts `what` is under way; one plugin takes at most `share`, so that it leaves places for the others."""

    def __init__(self, most: int, share: int, what: str) -> None:
        self._most, self._share, self._what = most, share, what
        self._taken: Counter[str] = Counter()

    @contextmanager
    def take(self, asker: str) -> Iterator[None]:
        """Take a place until the body ends; nobody's (`""`) count in all alone.

        Raises:
            OverloadedError: none is free, or the asker has its share.
        """
        if self._taken.total() >= self._most:
            raise OverloadedError(f"{self._most} {self._what} of plugins are under way", retry_after_s=_RETRY_AFTER_S)
        if asker and self._taken[asker] >= self._share:
            raise OverloadedError(
                f"{self._share} {self._what} of `{asker}` are under way, which is its share",
                way_out="wait for one of them to end",
                retry_after_s=_RETRY_AFTER_S,
            )
        self._taken[asker] += 1
        try:
            yield
        finally:
            self._taken[asker] -= 1
            if not self._taken[asker]:
                del self._taken[asker]
