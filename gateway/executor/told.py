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

    def close(self) -> None:
        """Hear no more, and take what was heard."""
        if self._is_open:
            self._is_open = False
            asyncio.get_running_loop().remove_reader(self._cell.status)
        self.take()

    def take(self) -> None:
        """Take what was heard, also by whoever waited for the end."""
        for each in self._cell.take_refused():
            self._take(each)

    def _open(self) -> None:
        if self._cell.ending is None:
            self._is_open = True
            asyncio.get_running_loop().add_reader(self._cell.status, self._read)

    def _read(self) -> None:
        # WHY: not watched meanwhile, for with the cell's end its status is closed.
        self.close()
        try:
            self._cell.hear(self._cell.status.recv(_READ_BYTES))
        except BlockingIOError:
            pass
        except ConnectionError:
            self._cell.hear(b"")
        self.take()
        self._open()
