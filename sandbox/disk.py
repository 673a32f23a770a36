"""The disk of a cell: all that it wrote, in its scratch folder and over the folders that it was shown as writable."""

import os
import socket
import threading

from sandbox import handed
from sandbox.errors import SandboxError


class Disk:
    """A descriptor of the file system that a cell writes to; it is there until it is closed, whatever the cell does."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def used_bytes(self) -> int | None:
        """Tell how many bytes lie on it; None where there is none, or it is closed."""
        with self._lock:
            if self._descriptor is None:
                return None
            room = os.fstatvfs(self._descriptor)
            return (room.f_blocks - room.f_bfree) * room.f_frsize

    def open_changed(self, number: int) -> int:
        """Open the folder of what the cell changed below its mount of that number.

        It is laid out as an overlay's upper layer: files and folders as they are now, a device 0/0 for what was
        removed, and a mark on folders that took another's place. Everything in it is a plugin's work.
        """
        with self._lock:
            if self._descriptor is None:
                raise SandboxError("cell", "its disk is gone")
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            return os.open(f"changed-{number}", flags, dir_fd=self._descriptor)

    def close(self) -> None:
        """Let go of it: when the cell is gone, too, so is all that it wrote."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None


NO_DISK = Disk(None)


def hand_over(disk: int, descriptor: int) -> None:
    """Send the open disk through a stream's descriptor, before anybody else can write there, and let go of it."""
    try:
        handed.hand_over(disk, descriptor, "disk")
    finally:
        os.close(disk)


def receive(channel: socket.socket) -> Disk:
    """Take the disk that `hand_over` sent; it has arrived when the cell is ready."""
    return Disk(handed.take(channel, "disk"))
