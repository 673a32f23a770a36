"""The cells that wait for a call: bounded in number, memory and time, and ended when what made them changes."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from gateway.domain.isolation import Isolation
from gateway.executor.broker import Job
from gateway.executor.resident import Resident
from sandbox.launcher import Cell
from sandbox.spec import Spec

LIFETIME_S = 3600.0  # however busy it is, a cell does not get older
_LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class Key:
    """What must be the same for a call to be served by a cell that waits."""

    spec: Spec
    generation: int  # of the plugin's registration
    epoch: int  # of the policy
    isolation: Isolation
    user_id: str | None  # None: no line of the plugin has run in it, so it may serve anybody


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How many cells may wait, how long, and how large each may be."""

    cells: int
    idle_s: float
    memory_bytes: int
    server_bytes: int = 0  # of one that runs a program of the host


class Resting:
    """The cells that wait, by what they can be used for; the longest unused one makes room."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._cells: OrderedDict[Key, Resident] = OrderedDict()
        self._keys: dict[Resident, Key] = {}
        self._clocks: dict[Resident, asyncio.TimerHandle] = {}
        self._ending: set[Resident] = set()

    def __len__(self) -> int:
        return len(self._cells)

    @property
    def idle_s(self) -> float:
        """How long a cell waits before it is ended."""
        return self._bounds.idle_s

    @property
    def enabled(self) -> bool:
        """Whether any cell may wait."""
        return self._bounds.cells > 0

    def owners(self) -> list[Job]:
        """Give, for each cell that waits, the call that it was made for."""
        return [each.owner for each in self._cells.values()]

    def find(self, key: Key) -> Resident | None:
        """Give the cell that can serve such a call; it does not grow older while it is used."""
        resident = self._cells.get(key)
        if resident is None or not resident.is_alive:
            return None
        self._cells.move_to_end(key)
        self._stop_clock(resident)
        return resident

    def add(self, key: Key, cell: Cell, owner: Job) -> Resident:
        """Take in a cell."""
        # SECURITY: a program may go on by itself, so it stands still while no call of it runs.
        resident = Resident(cell, owner, self._forget, pauses=key.spec.program is not None)
        if (other := self._cells.get(key)) is not None:
            other.end()
        self._cells[key] = resident
        self._keys[resident] = key
        while len(self._cells) > self._bounds.cells:
            unused = next((each for each in self._cells.values() if not each.is_busy and each is not resident), None)
            if unused is None:
                break
            unused.end()
        return resident

    def rest(self, resident: Resident) -> None:
        """Let a cell wait for its next call, if it may have one."""
        if not resident.is_alive:
            return
        if resident.is_stale or len(self._cells) > self._bounds.cells or _age(resident) > LIFETIME_S:
            resident.end()
            return
        loop = asyncio.get_running_loop()
        self._stop_clock(resident)
        self._clocks[resident] = loop.call_later(min(_LOOK_S, self._bounds.idle_s), partial(self._look, resident))

    def end(self, which: Callable[[Job], bool]) -> int:
        """End every cell that `which` names by its owner, also one that is in use; gives how many."""
        found = [each for each in self._cells.values() if which(each.owner)]
        for each in found:
            each.end()
        return len(found)

    def end_stale(self, which: Callable[[Job], bool] = lambda _owner: True) -> None:
        """End every cell that `which` names, for what made it has changed; one in use ends with its call."""
        for each in [each for each in self._cells.values() if which(each.owner)]:
            each.is_stale = True
            if not each.is_busy:
                each.end()

    async def close(self) -> None:
        """End every cell, and wait until nothing of them is left."""
        self.end(lambda _owner: True)
        await asyncio.gather(*(each.until_gone() for each in list(self._ending)))

    def _look(self, resident: Resident) -> None:
        """Look at a cell that has begun to wait; one that has grown too large does not stay."""
        memory = resident.cell.memory_bytes()
        key = self._keys.get(resident)
        runs_program = key is not None and key.spec.program is not None
        most = self._bounds.server_bytes if runs_program else self._bounds.memory_bytes
        if memory is None or memory > most:
            resident.end()
            return
        left_s = max(0.0, self._bounds.idle_s - _LOOK_S)
        self._clocks[resident] = asyncio.get_running_loop().call_later(left_s, resident.end)

    def _stop_clock(self, resident: Resident) -> None:
        clock = self._clocks.pop(resident, None)
        if clock is not None:
            clock.cancel()

    def _forget(self, resident: Resident) -> None:
        self._stop_clock(resident)
        key = self._keys.pop(resident, None)
        if key is not None and self._cells.get(key) is resident:
            del self._cells[key]
        if resident.is_ending:
            self._ending.add(resident)
            resident.when_gone(self._ending.discard)


def _age(resident: Resident) -> float:
    return time.monotonic() - resident.born
