"""What a cell uses while a call runs: the processor's time and the peak of memory, as its control groups count them."""

import os
from collections.abc import Mapping
from contextlib import suppress

_MOST_BYTES = 4096
_RESET = {"memory.max_usage_in_bytes": "0"}  # a group of the first kind begins its peak anew when told


class Meter:
    """Reads the files that count for one cell; None where the host does not count, or no longer."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self._files = files
        self._cpu_s: float | None = None
        self._is_reset = False

    def begin(self) -> None:
        """Count from now on."""
        self._cpu_s = self.total_cpu_s()
        path = self._files.get("memory", "")
        self._is_reset = False
        with suppress(KeyError, OSError):
            word = _RESET[path.rpartition("/")[2]]
            descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(descriptor, word.encode())
            finally:
                os.close(descriptor)
            self._is_reset = True

    def end(self) -> tuple[float | None, int | None]:
        """Give seconds of the processor and bytes of memory since `begin`; the whole tree of processes."""
        cpu_s = self.total_cpu_s()
        spent = None if cpu_s is None or self._cpu_s is None else max(0.0, cpu_s - self._cpu_s)
        text = read(self._files.get("memory", "")).strip() if self._is_reset else ""
        return spent, int(text) if text.isdigit() else None

    def total_cpu_s(self) -> float | None:
        """Give the seconds of the processor that were used in all."""
        text = read(self._files.get("cpu", ""))
        if text.strip().isdigit():
            return int(text) / 1e9
        found = [line.split()[1] for line in text.splitlines() if line.startswith("usage_usec ")]
        return int(found[0]) / 1e6 if found else None


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
