"""The gateway's side of the sandbox: starts the zygote, orders cells, ends them."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any, NoReturn, Self

from sandbox.errors import SandboxError
from sandbox.held import LINE_BYTES, Birth, Cell, Ending, is_readable
from sandbox.spec import MAX_ORDER_BYTES, Spec

__all__ = ["Birth", "Cell", "Ending", "Launcher"]

_ZYGOTE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "zygote.py")
_START_S = 20.0
_SPAWN_S = 15.0
_END_S = 10.0
_SILENCE_S = 12.0  # the zygote itself ends a cell that is not ready after ten


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
        self.asks = False  # whether the kernel tells of raw calls that a cell refuses

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
        order = _written(spec)
        ours, theirs = _ends()
        birth = Birth(ours, has_door=spec.relay)
        try:
            try:
                self._order(order, theirs)
            finally:
                _close_all(theirs)
            if not is_readable(birth.status, deadline):
                self._give_up(timeout_s)
        except BaseException:
            birth.give_up()
            raise
        return birth.finish()

    def order(self, spec: Spec) -> Birth | None:
        """Order a cell without waiting for anything; None where that is not possible now: `spawn` waits."""
        order = spec.to_json().encode()
        if len(order) > MAX_ORDER_BYTES or not self._lock.acquire(blocking=False):
            return None
        try:
            if self._control is None or not self.is_running:
                return None
            ours, theirs = _ends()
            try:
                descriptors = [each.fileno() for each in theirs]
                socket.send_fds(self._control, [order], descriptors, socket.MSG_DONTWAIT)
            except OSError:
                _close_all(ours)
                return None
            finally:
                _close_all(theirs)
        finally:
            self._lock.release()
        return Birth(ours, has_door=spec.relay)

    def close(self) -> None:
        """End every cell and the zygote."""
        with self._lock:
            self._closed = True
            self._stop()

    @property
    def is_running(self) -> bool:
        """Whether a zygote takes orders."""
        return self._control is not None and self._process is not None and self._process.poll() is None

    @property
    def zygote_pid(self) -> int | None:
        """The process that a host's own watchdog may look at."""
        return None if self._process is None else self._process.pid

    def _order(self, order: bytes, theirs: tuple[socket.socket, ...]) -> None:
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
        self.asks = bool(told.get("asks"))
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


def _written(spec: Spec) -> bytes:
    # SECURITY: one that is not taken for its size would look like a zygote that takes none, which is ended with all.
    order = spec.to_json().encode()
    if len(order) > MAX_ORDER_BYTES:
        told = f"too large: {len(order)} bytes, {MAX_ORDER_BYTES} at most"
        raise SandboxError("spec", told, fix="fewer or shorter words and paths")
    return order


def _ends() -> tuple[tuple[socket.socket, socket.socket, socket.socket], tuple[socket.socket, ...]]:
    channel, their_channel = socket.socketpair()
    output, their_output = socket.socketpair()
    status, their_status = socket.socketpair()
    output.shutdown(socket.SHUT_WR)
    return (channel, output, status), (their_channel, their_output, their_status)


def _close_all(sockets: tuple[socket.socket, ...]) -> None:
    for sock in sockets:
        sock.close()


def _hello(control: socket.socket) -> Mapping[str, Any]:
    data = _receive_within(control, _START_S, "it did not start in time")
    if not data:
        raise SandboxError("zygote", "it ended before it was ready", fix="`python3 -I -S -c pass` must work here")
    told: Mapping[str, Any] = json.loads(data)
    if told.get("t") != "ready":
        raise SandboxError.from_json(told)
    return told


def _receive_within(sock: socket.socket, timeout_s: float, complaint: str) -> bytes:
    if not is_readable(sock, time.monotonic() + timeout_s):
        raise SandboxError("zygote", complaint)
    return sock.recv(LINE_BYTES)
