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
        self._places = asyncio.Semaphore(passing.connections)
        self._tasks: set[asyncio.Task[None]] = set()
        self._lines: set[Line] = set()
        self._open = True
        door.settimeout(0)
        self._taking = asyncio.create_task(self._take_all())

    def stop(self) -> None:
        """Let go of every connection now, and take no more."""
        self._open = False
        for task in (self._taking, *self._tasks):
            task.cancel()

    async def finish(self) -> None:
        """Let what a cell that is gone has sent go on, for a moment, then close."""
        self._taking.cancel()
        for line in self._lines:
            line.desert()
        if self._open and self._tasks:
            await asyncio.wait(self._tasks, timeout=_FAREWELL_S)
        await self.close()

    async def close(self) -> None:
        """Stop, and wait until nothing is left of it."""
        self.stop()
        await asyncio.gather(self._taking, *self._tasks, return_exceptions=True)
        self._door.close()

    async def _take_all(self) -> None:
        loop = asyncio.get_running_loop()
        while self._open:
            await self._places.acquire()
            try:
                sock, _ = await loop.sock_accept(self._door)
            except OSError:
                # WHY: out of descriptors, or the connection is gone already; neither may end the relay or make it spin.
                self._places.release()
                await asyncio.sleep(_BREATH_S)
                continue
            except asyncio.CancelledError:
                self._places.release()
                raise
            task = asyncio.create_task(self._take(sock))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _take(self, sock: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(sock=sock, limit=READ_BYTES)
                await self._serve(Line(reader, writer, self._budget))
        finally:
            sock.close()
            self._places.release()

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
