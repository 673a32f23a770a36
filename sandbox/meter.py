"""What a cell uses while a call runs: the processor's time and the peak of memory, as its control groups count them."""

from collections.abc import Mapping
from contextlib import suppress

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
            with open(path, "w", encoding="ascii") as file:
                file.write(word)
            self._is_reset = True

    def end(self) -> tuple[float | None, int | None]:
        """Give seconds of the processor and bytes of memory since `begin`; the whole tree of processes."""
        cpu_s = self.total_cpu_s()
        spent = None if cpu_s is None or self._cpu_s is None else max(0.0, cpu_s - self._cpu_s)
        text = _read(self._files.get("memory", "")).strip() if self._is_reset else ""
        return spent, int(text) if text.isdigit() else None

    def total_cpu_s(self) -> float | None:
        """Give the seconds of the processor that were used in all."""
        text = _read(self._files.get("cpu", ""))
        if text.strip().isdigit():
            return int(text) / 1e9
        found = [line.split()[1] for line in text.splitlines() if line.startswith("usage_usec ")]
        return int(found[0]) / 1e6 if found else None


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""
