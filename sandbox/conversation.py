"""Messages of JSON, a line each, with a program over its standard streams, which may be called off at any time.

Source: Model Context Protocol, revision 2025-11-25 (stdio transport); JSON-RPC 2.0.
"""

import json
import os
import select
import signal
import socket
from collections.abc import Mapping
from typing import Any

from sandbox import frames
from sandbox.channel import Cancelled

MAX_LINE_BYTES = 8 << 20
_READ_BYTES = 64 << 10
_LAST_WORDS_S = 0.5


class ServerError(Exception):
    """The program answered with an error, or with what is no result of a tool."""


class LostServerError(ServerError):
    """The program ended, or what it says is no conversation any more: nothing further can be asked of it."""


class Conversation:
    """What is said to a program, and what it says, while the gateway may call it off."""

    def __init__(self, pid: int, to_it: int, from_it: int) -> None:
        self._pid = pid
        self._to_it = to_it
        self._from_it = from_it
        self._pending = bytearray()
        self._unsent = bytearray()
        self._sock: socket.socket | None = None

    def attend(self, sock: socket.socket | None) -> None:
        """Take the channel on which the gateway would call off what is waited for."""
        self._sock = sock

    def receive(self) -> Mapping[str, Any]:
        """Wait for its next message.

        Raises:
            LostServerError: it ended, or what it says is no message.
            Cancelled: nobody waits for it any more.
        """
        line = self._line(wait=True)
        if line is None:
            raise LostServerError(f"it ended {_how(self._pid)} before it answered")
        return _message(line)

    def heard(self) -> Mapping[str, Any] | None:
        """Give what it said when nobody listened; None if there is no more of it."""
        line = self._line(wait=False)
        return None if line is None else _message(line)

    def _line(self, *, wait: bool) -> bytes | None:
        """Give its next line; None where it ended, or where there is none and nobody waits."""
        while (end := self._pending.find(b"\n")) < 0:
            if len(self._pending) > MAX_LINE_BYTES:
                raise LostServerError(f"it wrote a line of more than {MAX_LINE_BYTES} bytes")
            if not self._await(self._from_it, select.POLLIN, wait=wait):
                return None
            data = os.read(self._from_it, _READ_BYTES)
            if not data:
                return None
            self._pending += data
        line = bytes(self._pending[:end])
        del self._pending[: end + 1]
        return line

    def send(self, message: Mapping[str, Any], *, wait: bool = True) -> None:
        """Say something to it; without `wait`, as much of it as it takes now, and the rest before what comes next.

        Raises:
            LostServerError: it ended, or does not read.
            Cancelled: nobody waits for it any more.
        """
        text = json.dumps({"jsonrpc": "2.0", **message}, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        if self._unsent and len(self._unsent) + len(text) > MAX_LINE_BYTES:
            raise LostServerError("it does not read what it is asked")
        # INVARIANT: what is begun is sent to its end, also when nobody waits for it: else the next line is none.
        self._unsent += text
        while self._unsent and self._await(self._to_it, select.POLLOUT, wait=wait):
            try:
                del self._unsent[: os.write(self._to_it, self._unsent)]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise LostServerError(f"it ended {_how(self._pid)}, or closed its input") from None

    def _await(self, descriptor: int, event: int, *, wait: bool) -> bool:
        """Wait until it can be spoken with; tells whether it can."""
        poller = select.poll()
        poller.register(descriptor, event)
        if self._sock is not None:
            poller.register(self._sock, select.POLLIN)
        while True:
            ready = dict(poller.poll(None if wait else 0))
            if self._sock is not None and self._sock.fileno() in ready:
                self._hear_gateway(self._sock)
            if descriptor in ready:
                return True
            if not wait:
                return False

    def _hear_gateway(self, sock: socket.socket) -> None:
        frame = frames.read_frame(sock)
        if frame is None or frame[0].get("t") == "cancel":
            raise Cancelled


def _message(line: bytes) -> Mapping[str, Any]:
    try:
        return frames.decode_header(line)
    except frames.ProtocolError as error:
        raise LostServerError(f"it wrote a line that is no message: {error}") from None


def _how(pid: int) -> str:
    """Say how it ended, if it did."""
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended == 0 and select.select([os.pidfd_open(pid)], [], [], _LAST_WORDS_S)[0]:
            ended, status = os.waitpid(pid, os.WNOHANG)
    except OSError:
        return "(nobody knows how)"
    if ended == 0:
        return "its output"
    code = os.waitstatus_to_exitcode(status)
    return f"with exit status {code}" if code >= 0 else f"by signal {signal.Signals(-code).name}"
