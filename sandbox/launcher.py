"""The gateway's side of the sandbox: starts the zygote, orders cells, ends them."""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, Self

from sandbox import disk, relay
from sandbox.errors import SandboxError
from sandbox.spec import Spec

_ZYGOTE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "zygote.py")
_START_S = 20.0
_SPAWN_S = 15.0
_END_S = 10.0
_SILENCE_S = 12.0  # the zygote itself ends a cell that is not ready after ten
_LINE_BYTES = 64 << 10


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

    def __init__(
        self, channel: socket.socket, output: socket.socket, status: socket.socket, handle: int, heard: bytes = b""
    ) -> None:
        self.channel = channel
        self.output = output
        self.status = status
        self._handle: int | None = handle
        self._lock = threading.Lock()
        self._ending: Ending | None = None
        self._heard = bytearray(heard)

    def kill(self) -> None:
        """End every process of the cell, whatever it does; harmless when it is gone."""
        with self._lock:
            if self._handle is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    def wait(self, timeout_s: float) -> Ending:
        """Wait until everything in the cell is gone.

        Raises:
            TimeoutError: it is not gone yet.
        """
        deadline = time.monotonic() + timeout_s
        while self._ending is None:
            data = _receive(self.status, deadline)
            self._heard += data
            if not data:
                self._ending = _ending_of(bytes(self._heard))
        self._release()
        return self._ending

    def close(self) -> None:
        """End the cell and let go of every descriptor."""
        self.kill()
        for end in (self.channel, self.output, self.status, self.disk):
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


class Launcher:
    """Makes cells; safe to use from several threads.

    A zygote that died is started anew by the next `spawn`; its cells died with it.
    """

    def __init__(self, *, interpreter: str | None = None) -> None:
        self._interpreter = interpreter or os.path.realpath(sys.executable)
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        self.landlock_abi = 0
        self.controllers: frozenset[str] = frozenset()

    def start(self) -> None:
        """Start the zygote, unless it runs.

        Raises:
            SandboxError: it cannot be started here.
        """
        with self._lock:
            self._ensure_running()

    def spawn(self, spec: Spec, *, timeout_s: float = _SPAWN_S) -> Cell:
        """Make a cell in which every barrier is up and the plugin waits for its call.

        Raises:
            SandboxError: a barrier could not be raised; nothing ran.
        """
        deadline = time.monotonic() + timeout_s
        ours, theirs = _ends()
        try:
            try:
                self._order(spec, theirs)
            finally:
                for sock in theirs:
                    sock.close()
            if not _is_readable(ours[2], deadline):
                self._give_up(timeout_s)
            handle, heard = _await_ready(ours[2])
        except BaseException:
            for sock in ours:
                sock.close()
            raise
        cell = Cell(*ours, handle, heard)
        try:
            cell.door = relay.receive(cell.channel) if spec.relay else None
            cell.disk = disk.receive(cell.channel)
        except SandboxError:
            cell.close()
            raise
        return cell

    def close(self) -> None:
        """End every cell and the zygote."""
        with self._lock:
            self._closed = True
            self._stop()

    @property
    def zygote_pid(self) -> int | None:
        """The process that a host's own watchdog may look at."""
        return None if self._process is None else self._process.pid

    def _order(self, spec: Spec, theirs: tuple[socket.socket, ...]) -> None:
        order = spec.to_json().encode()
        descriptors = [each.fileno() for each in theirs]
        with self._lock:
            control = self._ensure_running()
            try:
                socket.send_fds(control, [order], descriptors)
            except (BrokenPipeError, ConnectionResetError):
                self._stop()
                socket.send_fds(self._ensure_running(), [order], descriptors)
            except OSError as error:
                self._stop()
                raise SandboxError.from_os("zygote", error, detail="the order was not taken") from None

    def _give_up(self, waited_s: float) -> NoReturn:
        """Tell of a cell that is not ready; a zygote silent for longer than it gives a cell is ended."""
        if waited_s < _SILENCE_S:
            raise SandboxError("cell", f"it was not ready in {waited_s:g} s")
        with self._lock:
            if self._process is not None:
                self._process.kill()
            self._stop()
        raise SandboxError("zygote", f"it stood still for {waited_s:g} s, so it and every cell were ended")

    def _ensure_running(self) -> socket.socket:
        if self._closed:
            raise SandboxError("zygote", "the launcher is closed")
        if self._control is not None and self._process is not None and self._process.poll() is None:
            return self._control
        self._stop()
        return self._start()

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603  # our own file, by our own interpreter
                    [self._interpreter, "-I", "-S", "-X", "utf8", _ZYGOTE, str(theirs.fileno())],
                    env={},
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                )
            told = _hello(ours)
        except OSError as error:
            ours.close()
            self._stop()
            raise SandboxError.from_os("zygote", error, detail=f"`{self._interpreter}` did not start") from None
        except SandboxError:
            ours.close()
            self._stop()
            raise
        # INVARIANT: no wait without an end: a zygote that stands still takes no more orders.
        ours.settimeout(_SPAWN_S)
        self._control = ours
        self.landlock_abi = int(told.get("landlock_abi", 0))
        self.controllers = frozenset(told.get("controllers", ()))
        return ours

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            try:
                self._process.wait(_END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def _ends() -> tuple[tuple[socket.socket, socket.socket, socket.socket], tuple[socket.socket, ...]]:
    channel, their_channel = socket.socketpair()
    output, their_output = socket.socketpair()
    status, their_status = socket.socketpair()
    output.shutdown(socket.SHUT_WR)
    return (channel, output, status), (their_channel, their_output, their_status)


def _hello(control: socket.socket) -> Mapping[str, Any]:
    data = _receive_within(control, _START_S, "it did not start in time")
    if not data:
        raise SandboxError("zygote", "it ended before it was ready", fix="`python3 -I -S -c pass` must work here")
    told: Mapping[str, Any] = json.loads(data)
    if told.get("t") != "ready":
        raise SandboxError.from_json(told)
    return told


def _await_ready(status: socket.socket) -> tuple[int, bytes]:
    """Take the line that says all barriers are up; gives the cell's handle and what was said after it."""
    data, descriptors, _flags, _address = socket.recv_fds(status, _LINE_BYTES, 1)
    if not data:
        raise SandboxError("zygote", "it died while the cell was made")
    line, _, heard = data.partition(b"\n")
    told = json.loads(line)
    if told.get("t") == "ready" and descriptors:
        return descriptors[0], heard
    for descriptor in descriptors:
        os.close(descriptor)
    raise SandboxError.from_json(told) if told.get("t") == "error" else SandboxError("cell", "it ended at once")


def _receive_within(sock: socket.socket, timeout_s: float, complaint: str) -> bytes:
    if not _is_readable(sock, time.monotonic() + timeout_s):
        raise SandboxError("zygote", complaint)
    return sock.recv(_LINE_BYTES)


def _receive(sock: socket.socket, deadline: float) -> bytes:
    if not _is_readable(sock, deadline):
        raise TimeoutError("the cell is not gone yet")
    try:
        return sock.recv(_LINE_BYTES)
    except ConnectionResetError:
        return b""


def _is_readable(sock: socket.socket, deadline: float) -> bool:
    # WHY: poll, for select cannot watch a descriptor above 1023.
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    return bool(poller.poll(max(0.0, deadline - time.monotonic()) * 1000))


def _ending_of(heard: bytes) -> Ending:
    for line in heard.splitlines():
        told = json.loads(line)
        if told.pop("t", None) == "end":
            return Ending(**told)
    # WHY: a zygote that died took the cell with it; the kernel sees to that.
    return Ending(signal=int(signal.SIGKILL))
