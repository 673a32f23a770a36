"""A cell as the one who ordered it holds it: three sockets and a handle on its first process."""

import contextlib
import json
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from sandbox import disk, pause, relay
from sandbox.errors import SandboxError
from sandbox.meter import Meter

LINE_BYTES = 64 << 10
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a cell ended; nothing of it is left when this is known."""

    exit: int | None = None
    signal: int | None = None
    cpu_s: float = 0.0
    memory_peak_bytes: int | None = None
    oom: bool = False  # the kernel killed for want of memory
    timed_out: bool = False  # the sandbox's own clock ended it


class Cell:
    """A confined process that waits for one call.

    `channel` carries frames, `output` what it prints, `status` a last line when it is gone; `door`, where its
    specification says so, listens for connections that its processes make; `disk` is what it wrote.
    """

    door: socket.socket | None = None
    disk = disk.NO_DISK
    meter = Meter({})

    def __init__(
        self, channel: socket.socket, output: socket.socket, status: socket.socket, handle: int, heard: bytes = b""
    ) -> None:
        self.channel = channel
        self.output = output
        self.status = status
        self._handle: int | None = handle
        self._lock = threading.Lock()
        self._ending: Ending | None = None
        self._refused: list[Mapping[str, object]] = []
        self._heard = bytearray(heard)

    def kill(self) -> None:
        """End every process of the cell, whatever it does; harmless when it is gone."""
        self._signal(signal.SIGKILL)

    def pause(self) -> None:
        """Let every process of the cell stand still, if it runs a program of the host; the others know no pause."""
        self._signal(pause.PAUSE)

    def resume(self) -> None:
        """Let every process of the cell go on."""
        self._signal(pause.RESUME)

    def _signal(self, which: int) -> None:
        with self._lock:
            if self._handle is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._handle, which)

    def wait(self, timeout_s: float) -> Ending:
        """Wait until everything in the cell is gone.

        Raises:
            TimeoutError: it is not gone yet.
        """
        deadline = time.monotonic() + timeout_s
        ending = self.ending
        while ending is None:
            ending = self.hear(_receive(self.status, deadline))
        return ending

    def memory_bytes(self) -> int | None:
        """Measure what is resident of the cell's processes, shared pages counted in each; None if nobody can tell."""
        with self._lock:
            if self._handle is None:
                return None
            try:
                with open(f"/proc/self/fdinfo/{self._handle}", encoding="ascii") as file:
                    pid = next(int(line.split()[1]) for line in file if line.startswith("Pid:"))
                return sum(map(_resident_bytes, _tree(pid)))
            except (OSError, StopIteration, ValueError):
                return None

    def hear(self, data: bytes) -> Ending | None:
        """Take in what `status` told, nothing if it was closed; gives how the cell ended as soon as that is known."""
        self._heard += data
        ending = self.ending
        if ending is None and not data:
            # WHY: a zygote that died took the cell with it; the kernel sees to that.
            ending = self._ending = Ending(signal=int(signal.SIGKILL))
            self._release()
        return ending

    @property
    def ending(self) -> Ending | None:
        """How the cell ended, as far as it was told."""
        while (end := self._heard.find(b"\n")) >= 0:
            told = json.loads(self._heard[:end])
            del self._heard[: end + 1]
            match told.pop("t", None):
                case "end":
                    self._ending = Ending(**told)
                    self._release()
                case "refused":
                    self._refused.append(told)
        return self._ending

    def take_refused(self) -> list[Mapping[str, object]]:
        """Give what the kernel told of tries that the cell refuses, and nobody took yet: kind, level and scope."""
        found, self._refused = self._refused, []
        return found

    def close(self) -> None:
        """End the cell and let go of every descriptor."""
        self.kill()
        for end in (self.channel, self.output, self.status, self.disk, self.meter):
            end.close()
        self._release()

    def _release(self) -> None:
        with self._lock:
            if self._handle is not None:
                os.close(self._handle)
                self._handle = None
        self.status.close()
        if self.door is not None:
            self.door.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


class Birth:
    """A cell that was ordered: when `status` can be read, `finish` gives it or the reason why there is none."""

    def __init__(self, ends: tuple[socket.socket, socket.socket, socket.socket], *, has_door: bool) -> None:
        self._ends = ends
        self._has_door = has_door

    @property
    def status(self) -> socket.socket:
        """The socket to wait for."""
        return self._ends[2]

    def finish(self) -> Cell:
        """Take the cell.

        Raises:
            SandboxError: a barrier could not be raised; nothing ran.
        """
        try:
            handle, heard, meters = _await_ready(self.status)
        except BaseException:
            self.give_up()
            raise
        cell = Cell(*self._ends, handle, heard)
        cell.meter = Meter(meters)
        try:
            cell.door = relay.receive(cell.channel) if self._has_door else None
            cell.disk = disk.receive(cell.channel)
        except SandboxError:
            cell.close()
            raise
        return cell

    def give_up(self) -> None:
        """Let go of it; a cell whose channel is closed ends by itself."""
        for sock in self._ends:
            sock.close()


def _await_ready(status: socket.socket) -> tuple[int, bytes, Mapping[str, str]]:
    """Take the line that says all barriers are up; gives the cell's handle, what was said after it, and its meters."""
    data, descriptors, _flags, _address = socket.recv_fds(status, LINE_BYTES, 1)
    if not data:
        raise SandboxError("zygote", "it died while the cell was made")
    line, _, heard = data.partition(b"\n")
    told = json.loads(line)
    if told.get("t") == "ready" and descriptors:
        return descriptors[0], heard, told.get("meters", {})
    for descriptor in descriptors:
        os.close(descriptor)
    raise SandboxError.from_json(told) if told.get("t") == "error" else SandboxError("cell", "it ended at once")


def _receive(sock: socket.socket, deadline: float) -> bytes:
    if not is_readable(sock, deadline):
        raise TimeoutError("the cell is not gone yet")
    try:
        return sock.recv(LINE_BYTES)
    except ConnectionResetError:
        return b""


def is_readable(sock: socket.socket, deadline: float) -> bool:
    """Wait until something can be read, or for the deadline; tells which."""
    # WHY: poll, for select cannot watch a descriptor above 1023.
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    return bool(poller.poll(max(0.0, deadline - time.monotonic()) * 1000))


def _tree(pid: int) -> list[int]:
    found = [pid]
    for each in found:
        with open(f"/proc/{each}/task/{each}/children", encoding="ascii") as file:
            found += [int(child) for child in file.read().split()]
    return found


def _resident_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * _PAGE_BYTES
