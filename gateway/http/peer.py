"""One connection: who is at its other end, and how long it may take to say something."""

import asyncio
import socket
import struct

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.http.identity import PEER

_MAX_CONNECTIONS = 256  # of strangers too, at each TCP address
_MAX_HEAD_BYTES = 64 << 10
_HEAD_S = 10.0
_UCRED = struct.Struct("3i")


class PeerProtocol(HttpToolsProtocol):
    """HTTP whose client, on a unix socket, is the uid that the kernel names; a head has a size and a time to come."""

    _look: asyncio.TimerHandle | None = None
    _waiting_since: float | None = None  # None while a request is received or answered
    _in_head = True
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # uvicorn's own spelling
        """Ask the kernel who is at the other end."""
        super().connection_made(transport)
        raw = transport.get_extra_info("socket")
        if raw is not None and raw.family == socket.AF_UNIX:
            _, uid, _ = _UCRED.unpack(raw.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
            self.client = (f"{PEER}{uid}", 0)
        elif len(self.connections) > _MAX_CONNECTIONS:
            # SECURITY: nobody needs a key to connect, and descriptors that run out would stop everything.
            transport.abort()
            return
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of a client that went away."""
        self._waiting_since = None
        if self._look is not None:
            self._look.cancel()
            self._look = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in what came, but of a head no more than a head has."""
        if self._in_head:
            if self._head_bytes > _MAX_HEAD_BYTES:
                # SECURITY: the parser keeps a head, of whatever size, before it is known who sends it.
                self.transport.abort()
                return
            self._head_bytes += len(data)
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Begin to count a head."""
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Wait no longer: the head is there."""
        self._in_head, self._waiting_since = False, None
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Go on with what was sent meanwhile, or wait for the next head."""
        if self.pipeline:
            super().on_response_complete()
            return
        # WHY: as it is inherited, but for a timer that would be set and taken back for every request.
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            self.flow.resume_reading()
            self._wait_for_head()

    @property
    def _patience_s(self) -> float:
        return _HEAD_S if self._in_head else min(_HEAD_S, self.timeout_keep_alive)

    def _wait_for_head(self) -> None:
        self._waiting_since = self.loop.time()
        if self._look is None:
            self._look = self.loop.call_later(min(_HEAD_S, self.timeout_keep_alive), self._look_after)

    def _look_after(self) -> None:
        """Let go of who has not sent a head in time, or nothing at all."""
        self._look = None
        if self._waiting_since is None:
            return
        left_s = self._waiting_since + self._patience_s - self.loop.time()
        if left_s > 0:
            self._look = self.loop.call_later(left_s, self._look_after)
        elif self._in_head:
            self.transport.abort()
        else:
            self.transport.close()
