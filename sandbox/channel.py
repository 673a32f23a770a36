"""A plugin's one line to the gateway, for one call."""

import os
import socket
import threading
from collections.abc import Mapping
from typing import Any

from sandbox import frames


class PermissionDenied(PermissionError):  # noqa: N818  # the name that plugins are promised
    """The gateway answered no."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        self.decision_id: str | None = told.get("decision_id")
        self.reason: str = str(told.get("reason", "denied"))
        self.near_misses: list[Any] = list(told.get("near_misses") or ())
        super().__init__(str(told.get("message") or f"denied: {self.reason} (decision {self.decision_id})"))


class ResourceError(OSError):
    """The gateway said yes, and it could not be done: no such file, no such host, too large."""


class Cancelled(BaseException):  # what it is, and no error: a plugin's `except Exception` must not stop it
    """Nobody waits for this call any more."""

    def __init__(self) -> None:
        super().__init__("nobody waits for this call any more")


class Channel:
    """Asks the gateway, one question at a time; may be used from any thread of the plugin's own process.

    It belongs to one call, whose number it puts on every frame, and ends with it.
    """

    def __init__(self, sock: socket.socket, call: object = None) -> None:
        self._socket = sock
        self._mark = {} if call is None else {"call": call}
        self._lock = threading.Lock()
        self._asked = 0
        self._owner = os.getpid()
        self._over = False

    def send(self, header: Mapping[str, object], blob: bytes = b"") -> None:
        """Tell the gateway something that needs no answer."""
        self._check_owner()
        with self._lock:
            self._check_open()
            frames.write_frame(self._socket, {**header, **self._mark}, blob)

    def send_if_free(self, header: Mapping[str, object]) -> bool:
        """Tell the gateway something if nobody is speaking with it; tells whether it was said."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            if self._over:
                return False
            frames.write_frame(self._socket, {**header, **self._mark})
        except OSError:
            return True  # WHY: nobody listens any more, so there is nobody to tell it later either
        finally:
            self._lock.release()
        return True

    def finish(self, header: Mapping[str, object]) -> None:
        """Tell the gateway the last of this call; whatever still holds the channel gets nothing more through it."""
        with self._lock:
            self._over = True
            frames.write_frame(self._socket, {**header, **self._mark})

    def ask(self, op: str, arguments: Mapping[str, object], blob: bytes = b"") -> tuple[Any, bytes]:
        """Ask the gateway and wait.

        Raises:
            PermissionDenied: the policy says no.
            ResourceError: it could not be done.
        """
        self._check_owner()
        with self._lock:
            self._check_open()
            self._asked += 1
            number = self._asked
            header = {"t": "ask", "id": number, "op": op, "args": arguments, **self._mark}
            frames.write_frame(self._socket, header, blob)
            header, answer = self._read_answer(number)
        if header.get("ok") is True:
            return header.get("value"), answer
        if header.get("error") == "denied":
            raise PermissionDenied(header)
        raise ResourceError(str(header.get("message") or header.get("error") or "it failed"))

    def _read_answer(self, number: int) -> frames.Frame:
        while True:
            frame = frames.read_frame(self._socket)
            if frame is None:
                raise ResourceError("the gateway went away")
            if frame[0].get("call") != self._mark.get("call"):
                continue  # meant for a call that is over
            if frame[0].get("t") == "cancel":
                raise Cancelled
            if frame[0].get("t") == "answer" and frame[0].get("id") == number:
                return frame

    def _check_open(self) -> None:
        if self._over:
            raise ResourceError("the call is over")

    def _check_owner(self) -> None:
        if os.getpid() != self._owner:
            raise ResourceError("only the plugin's first process speaks with the gateway")
