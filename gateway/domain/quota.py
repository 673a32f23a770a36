"""How often a credential may be used: so many requests in each window of so many seconds."""

import re
from dataclasses import dataclass

from gateway.errors import MalformedError

_QUOTA = re.compile(r"([1-9][0-9]{0,8})/([1-9][0-9]{0,4})s\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """At most so many requests in each window."""

    requests: int
    per_s: int

    def __str__(self) -> str:
        """Spell it as it is written."""
        return f"{self.requests}/{self.per_s}s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is left of a quota, and in how many whole seconds all of it is there again."""

    quota: Quota
    left: int
    again_s: int


def parse_quota(text: str) -> Quota:
    """Read a quota such as `600/60s`.

    Raises:
        MalformedError: it is none.
    """
    match = _QUOTA.match(text)
    if match is None:
        raise MalformedError(f"`{text[:80]}` is no rate", way_out="write requests and seconds, as 600/60s")
    return Quota(requests=int(match[1]), per_s=int(match[2]))


class Window:
    """The requests of one credential in its window, which begins with the first of them."""

    __slots__ = ("_began", "_taken")

    def __init__(self) -> None:
        self._began, self._taken = float("-inf"), 0

    def take(self, quota: Quota, now: float) -> tuple[bool, Standing]:
        """Take one request at a moment of a clock that never goes back; tells whether there was one left."""
        if now - self._began >= quota.per_s:
            self._began, self._taken = now, 0
        may = self._taken < quota.requests
        self._taken += may
        # WHY: rounded up, so that who waits that long is not refused again.
        again_s = max(1, int(-((now - self._began - quota.per_s) // 1)))
        return may, Standing(quota=quota, left=quota.requests - self._taken, again_s=again_s)
