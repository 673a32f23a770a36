"""What a cell uses while a call runs: the processor's time and the peak of memory, as its control groups count them."""

import os
from collections.abc import Mapping
from contextlib import suppress

_MOST_BYTES = 4096
_RESET = {"memory.max_usage_in_bytes": b"0"}  # a group of the first kind begins its peak anew when told


class Meter:
    """Reads the files that count for one cell; None where the host does not count, or no longer."""

    # WHY: each is opened once, for opening a file of the kernel's costs more than reading it, and each call reads some.

    def __init__(self, files: Mapping[str, str]) -> None:
        self._files = files
        self._opened: dict[str, int | None] = {}
        self._cpu_s: float | None = None
        self._is_reset = False

    def begin(self) -> None:
        """Count from now on."""
        self._cpu_s = self.total_cpu_s()
        self._is_reset = False
        descriptor = self._open("memory")
        with suppress(KeyError, OSError):
            word = _RESET[self._files.get("memory", "").rpartition("/")[2]]
            self._is_reset = descriptor is not None and os.pwrite(descriptor, word, 0) > 0

    def end(self) -> tuple[float | None, int | None]:
        """Give seconds of the processor and bytes of memory since `begin`; the whole tree of processes."""
        cpu_s = self.total_cpu_s()
        spent = None if cpu_s is None or self._cpu_s is None else max(0.0, cpu_s - self._cpu_s)
        text = self._read("memory").strip() if self._is_reset else ""
        return spent, int(text) if text.isdigit() else None

    def total(self) -> tuple[float, int] | None:
        """Give seconds of the processor and the peak of memory in bytes in all; None where one is not counted."""
        cpu_s, peak = self.total_cpu_s(), self._read("memory").strip()
        return None if cpu_s is None or not peak.isdigit() else (cpu_s, int(peak))

    def total_cpu_s(self) -> float | None:
        """Give the seconds of the processor that were used in all."""
        text = self._read("cpu")
        if text.strip().isdigit():
            return int(text) / 1e9
        found = [line.split()[1] for line in text.splitlines() if line.startswith("usage_usec ")]
        return int(found[0]) / 1e6 if found else None

    def close(self) -> None:
        """Read no more."""
        opened, self._opened, self._files = self._opened, {}, {}
        for descriptor in opened.values():
            if descriptor is not None:
                os.close(descriptor)

    def _read(self, name: str) -> str:
        descriptor = self._open(name)
        try:
            return "" if descriptor is None else os.pread(descriptor, _MOST_BYTES, 0).decode("ascii", "replace")
        except OSError:
            return ""

    def _open(self, name: str) -> int | None:
        if name not in self._opened:
            path = self._files.get(name, "")
            writes = path.rpartition("/")[2] in _RESET
            try:
                self._opened[name] = os.open(path, (os.O_RDWR if writes else os.O_RDONLY) | os.O_CLOEXEC)
            except OSError:
                self._opened[name] = None
        return self._opened[name]


def read(path: str) -> str:
    """Read a small file of the kernel's; nothing where it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        # WHY: not `open`, which asks the kernel four more questions; every call reads some of these files.
        return os.read(descriptor, _MOST_BYTES).decode("ascii", "replace")
    except OSError:
        return ""
    finally:
        os.close(descriptor)
