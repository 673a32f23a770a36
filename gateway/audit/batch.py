"""Records that share one commit, and the counts of what became of records."""

import asyncio
import threading
from dataclasses import dataclass

from gateway.audit.leaf import Prepared
from gateway.domain.request import Json
from gateway.errors import LogUnavailableError


@dataclass(slots=True)
class LogCounts:
    """What the log did since it was opened, in records."""

    appended: int = 0
    commits: int = 0
    refused: int = 0  # not written, and their callers told so
    dropped: int = 0  # not written, and nobody there to be told: their event loop had ended
    waiting: int = 0
    waiting_bytes: int = 0

    def as_json(self) -> dict[str, Json]:
        """Give the wire shape."""
        return {
            "appended": self.appended,
            "commits": self.commits,
            "refused": self.refused,
            "dropped": self.dropped,
            "waiting": self.waiting,
        }


class Batch:
    """Records that share one commit, and those who wait for it."""

    __slots__ = ("error", "finished", "first", "items", "loop", "notes", "sign_end", "took_s", "waiters", "weight")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.waiters: list[asyncio.Future[None]] = []
        self.finished = threading.Event()
        self.items: list[Prepared] = []
        self.sign_end = False
        self.weight = 0
        self.first = 0
        self.notes: list[tuple[int, str]] = []
        self.error: Exception | None = None
        self.took_s = 0.0

    def durable(self) -> asyncio.Future[None]:
        """Give a future of one caller's own: who is cancelled takes nothing from the others."""
        waiter = self.loop.create_future()
        self.waiters.append(waiter)
        return waiter

    def accept(self) -> None:
        """Tell the callers that all is written."""
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)

    def refuse(self, error: LogUnavailableError) -> None:
        """Tell the callers that nothing was written."""
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_exception(error)
