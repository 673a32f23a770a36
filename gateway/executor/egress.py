"""The relay of one cell: its connections are taken, at most so many at once, and each carried or refused."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from gateway.domain.request import Json
from gateway.executor.far import Budget
from gateway.executor.line import READ_BYTES, Line, Refusal

_BREATH_S = 0.1
_FAREWELL_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What became of one connection; `note` is what the outcome's record keeps of it."""

    refusal: Refusal | None = None
    note: Mapping[str, Json] = field(default_factory=dict)


Carry = Callable[[Line], Awaitable[Carried]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Passing:
    """How the connections of one call are passed on, and how much of it there may be."""

    carry: Carry
    connections: int  # at once; more wait in the kernel
    egress_bytes: int


class Relay:
    """Takes what one cell's door lets through, until it is stopped."""

    # SECURITY: who speaks is known from which cell's door it came through; nothing identifying is read.

    def __init__(self, door: socket.socket, passing: Passing, note: Callable[[Mapping[str, Json]], None]) -> None:
        self._door, self._passing, self._note = door, passing, note
        self._budget = Budget(passing.egress_bytes)
        self._tasks: set[asyncio.Task[None]] = set()
        self._lines: set[Line] = set()
        self._loop = asyncio.get_running_loop()
        self._open = True
        door.settimeout(0)
        self._listen()

    def stop(self) -> None:
        """Let go of every connection now, and take no more."""
        self._shut()
        for task in self._tasks:
            task.cancel()

    async def finish(self) -> None:
        """Let what a cell that is gone has sent go on, for a moment, then close."""
        self._shut()
        for line in self._lines:
            line.desert()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_FAREWELL_S)
        await self.close()

    async def close(self) -> None:
        """Stop, and wait until nothing is left of it."""
        self.stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _shut(self) -> None:
        if self._open:
            self._open = False
            self._loop.remove_reader(self._door)
            self._door.close()

    def _listen(self) -> None:
        if self._open and len(self._tasks) < self._passing.connections:
            self._loop.add_reader(self._door, self._take_one)

    def _take_one(self) -> None:
        try:
            sock, _ = self._door.accept()
        except BlockingIOError:
            return  # WHY: it left before it was taken
        except OSError:
            # WHY: out of descriptors, or the like: it may not end the relay, and not make it spin.
            self._loop.remove_reader(self._door)
            self._loop.call_later(_BREATH_S, self._listen)
            return
        task = self._loop.create_task(self._take(sock))
        self._tasks.add(task)
        task.add_done_callback(self._let_go)
        if len(self._tasks) >= self._passing.connections:
            self._loop.remove_reader(self._door)

    def _let_go(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self._listen()

    async def _take(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(sock=sock, limit=READ_BYTES)
            await self._serve(Line(reader, writer, self._budget))

    async def _serve(self, line: Line) -> None:
        self._lines.add(line)
        try:
            carried = await self._passing.carry(line)
            if carried.note:
                self._note(carried.note)
            if carried.refusal is None:
                await line.close()
            elif self._open:
                await line.refuse(carried.refusal)
        finally:
            self._lines.discard(line)
            line.abort()
