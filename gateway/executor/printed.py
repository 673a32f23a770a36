"""What a cell prints: its beginning is kept, the rest thrown away, so that a plugin that prints much never waits."""

import asyncio
import contextlib
import socket

_KEPT_BYTES = 64 << 10
_READ_BYTES = 64 << 10
_READS = 32  # at one go; whoever prints more than that waits for the next turn of the loop


class Printed:
    """Reads what a cell prints until it is closed."""

    def __init__(self, output: socket.socket) -> None:
        self._output = output
        self._kept = bytearray()
        self._open = True
        asyncio.get_running_loop().add_reader(output, self._read)

    def take(self) -> str:
        """Give what was printed since the last time; what was written before this is called is in it."""
        self._read()
        text = self._kept.decode("utf-8", "replace")
        self._kept.clear()
        return text

    def close(self) -> None:
        """Read no more."""
        if self._open:
            self._open = False
            asyncio.get_running_loop().remove_reader(self._output)

    def _read(self) -> None:
        if not self._open:
            return
        with contextlib.suppress(BlockingIOError):
            for _ in range(_READS):
                try:
                    data = self._output.recv(_READ_BYTES)
                except ConnectionError:
                    data = b""
                if not data:
                    self.close()
                    return
                self._kept += data[: max(0, _KEPT_BYTES - len(self._kept))]
