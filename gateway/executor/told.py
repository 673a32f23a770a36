"""What a cell's own init tells while a call runs: the tries that the kernel asked it about and a barrier refuses."""

import asyncio
from collections.abc import Callable, Mapping

from sandbox.launcher import Cell

_READ_BYTES = 64 << 10
Take = Callable[[Mapping[str, object]], None]


class Told:
    """Hears a cell's status until it is closed; how the cell ended is left for whoever waits for that."""

    def __init__(self, cell: Cell, take: Take) -> None:
        self._cell = cell
        self._take = take
        self._is_open = False
        self._open()

    def hear(self) -> None:
        """Take what is told already: all that a call tried before it answered."""
        while self._is_open and (data := self._receive()) is not None:
            # WHY: not watched meanwhile, for with the cell's end its status is closed.
            self._unwatch()
            self._cell.hear(data)
            self.take()
            self._open()

    def close(self) -> None:
        """Hear no more, and take what was heard."""
        self._unwatch()
        self.take()

    def take(self) -> None:
        """Take what was heard, also by whoever waited for the end."""
        for each in self._cell.take_refused():
            self._take(each)

    def _receive(self) -> bytes | None:
        """Give what is there, nothing at the end; None if there is only to wait."""
        try:
            return self._cell.status.recv(_READ_BYTES)
        except BlockingIOError:
            return None
        except ConnectionError:
            return b""

    def _open(self) -> None:
        if self._cell.ending is None:
            self._is_open = True
            asyncio.get_running_loop().add_reader(self._cell.status, self.hear)

    def _unwatch(self) -> None:
        if self._is_open:
            self._is_open = False
            asyncio.get_running_loop().remove_reader(self._cell.status)
