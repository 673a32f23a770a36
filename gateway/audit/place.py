"""The files at the log's path, and whether they are the ones that were opened."""

import os
from pathlib import Path

FILE = "audit.db"
Identity = tuple[int, int]


class Place:
    """Where the live file lies.

    INVARIANT: a file that is not the one that was opened is never written to and believed; `wrong` tells when the
    path leads elsewhere.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._wal = folder / f"{FILE}-wal"
        self._identity: Identity | None = None
        self._wal_identity: Identity | None = None
        self.least_bytes = 0

    @property
    def is_known(self) -> bool:
        """Whether it is known which file has to lie here."""
        return self._identity is not None

    def opened(self) -> None:
        """Note which files were opened."""
        self._wal_identity = identity(self._wal)
        self._identity = self._identity or identity(self.path)
        self.least_bytes = max(self.least_bytes, self.path.stat().st_size)

    def follows(self, coming: Identity) -> None:
        """Note that another file was put here by ourselves, where it was."""
        if self.path.exists() and identity(self.path) == coming:
            self._identity, self.least_bytes = coming, 0

    def wrong(self) -> str | None:
        """Tell what is wrong with the files at the log's path, None if they are the ones that were opened."""
        for path, known in ((self.path, self._identity), (self._wal, self._wal_identity)):
            try:
                status = os.stat(path)  # noqa: PTH116 (twice for every commit: half the time of `Path.stat`)
            except OSError as error:
                return f"{path.name}: {error.strerror}; put the file back"
            if (status.st_dev, status.st_ino) != known:
                return f"{path.name} was replaced; put the file back"
            if path is self.path:
                if status.st_size < self.least_bytes:
                    return f"{path.name} was cut short; restore it and restart"
                self.least_bytes = status.st_size
        return None

    def is_of_wal(self, problem: str) -> bool:
        """Tell whether a problem is one of the file that SQLite puts beside it."""
        return problem.startswith(self._wal.name)


def identity(path: Path) -> Identity:
    """Tell one file from another that may lie at its path."""
    status = path.stat()
    return status.st_dev, status.st_ino
