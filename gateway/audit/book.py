"""The file of checkpoints beside the database: what the log said of itself, one signed note after the other.

It can be shipped elsewhere while it grows; whoever holds an older copy can tell whether history was rewritten.
"""

import mmap
import os
from collections.abc import Callable
from pathlib import Path

from gateway.audit.checkpoint import Note, parse_note, split_notes
from gateway.errors import VerificationError

FILE = "checkpoints.txt"
_TAIL_BYTES = 64 * 1024


class CheckpointBook:
    """Appends notes to checkpoints.txt; what cannot be written now is written with the next."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._waiting: list[str] = []

    def add(self, notes: list[str]) -> None:
        """Append `notes`; a disk that does not take them loses none, for the database has them too."""
        self._waiting += notes
        if not self._waiting:
            return
        text = "".join(f"{note}\n" for note in self._waiting).encode()
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                self._append(descriptor, text)
            finally:
                os.close(descriptor)
        except OSError:
            return
        self._waiting.clear()

    def keep(self, note: str, newest: str) -> None:
        """See to it that `note` is in the file; where it must be added `newest` follows, for the last is the newest.

        Raises:
            OSError: it cannot be read or written.

        """
        wanted = f"{note}\n".encode()
        if self._path.exists() and self._path.stat().st_size:
            with self._path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
                if text.rfind(wanted) >= 0:
                    return
        self.add([note, newest])
        if self._waiting:
            raise OSError(f"{self._path.name} takes no more checkpoints")

    @staticmethod
    def _append(descriptor: int, text: bytes) -> None:
        before = os.fstat(descriptor).st_size
        if os.write(descriptor, text) != len(text):
            os.ftruncate(descriptor, before)
            raise OSError("the disk took only a part")
        os.fdatasync(descriptor)

    def last(self, name: str, signed: Callable[[Note], bool]) -> Note | None:
        """Give the newest note of the log with this name, None if there is none.

        Raises:
            VerificationError: it is not `signed`.

        """
        try:
            with self._path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _TAIL_BYTES))
                text = file.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return None
        if size > _TAIL_BYTES:
            text = text[text.find(f"\n\n{name}\n") + 2 :]
        notes = split_notes(text)
        if not notes:
            return None
        note = parse_note(notes[-1])
        if not signed(note):
            raise VerificationError(f"the last checkpoint of `{self._path}` is not signed by this log's key")
        return note
