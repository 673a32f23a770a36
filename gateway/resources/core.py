"""Facts about the gateway itself that a plugin may be told: none names the host or a path."""

import time
from collections.abc import Callable, Mapping
from datetime import datetime

from gateway.domain.request import Json
from gateway.errors import NotFoundError


class Core:
    """The gateway's own facts, by topic."""

    def __init__(
        self, *, version: str, now: Callable[[], datetime], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        began = monotonic()
        self._topics: Mapping[str, Callable[[], Json]] = {
            "version": lambda: version,
            "time": lambda: now().isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "uptime": lambda: round(monotonic() - began, 3),
            "topics": lambda: [*self._topics],
        }

    def get(self, topic: str) -> Json:
        """Give the fact named `topic`.

        Raises:
            NotFoundError: there is no such topic.

        """
        fact = self._topics.get(topic)
        if fact is None:
            raise NotFoundError(f"no topic `{topic}`", way_out="one of " + ", ".join(self._topics))
        return fact()
