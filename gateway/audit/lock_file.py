"""The lock that keeps a second writer away from a log."""

import fcntl
import os
from pathlib import Path

from gateway.errors import HomeInUseError


class LockFile:
    """Keeps a second writer away for as long as it is held; the kernel lets go when the process ends."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._descriptor, 20, 0).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise HomeInUseError(
                f"another process (pid {holder or 'unknown'}) writes the decision log in `{path.parent}`",
                way_out="stop it, or talk to it through run/hearthgate.sock",
            ) from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let the next writer in."""
        os.close(self._descriptor)
