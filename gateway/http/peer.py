"""One connection: who is at its other end, and how long it may take to say something.

SECURITY: nobody needs a key to connect. So a head and a body have a size and a time to come, of requests that are sent
without waiting few are taken apart before their turn, and where there is no room for another connection one that says
nothing, or reads nothing, makes room.
"""

import asyncio
import socket
import struct
import sys
from itertools import islice
from typing import Any

from httptools import HttpParserUpgrade
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.descriptors import MOST_CONNECTIONS
from gateway.http.identity import PEER

_MAX_HEAD_BYTES = 64 << 10
_HEAD_S = 10.0
_BODY_S = 30.0
_PIECE_BYTES = 1024  # that the parser is given at once: of requests behind one another it makes all that it is given
_LOOKED_AT = 64  # of those that might make room
_TOO_SLOW = (
    b'{"type":"urn:hearthgate:problem:too_slow","title":"The request did not come in time","status":408,'
    b'"detail":"the body did not come to its end in 30 seconds"}'
)
_LATE = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/problem+json\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(_TOO_SLOW), _TOO_SLOW)
)
_UCRED = struct.Struct("3i")


class PeerProtocol(HttpToolsProtocol):
    """HTTP whose client, on a unix socket, is the uid that the kernel names."""

    _look: asyncio.TimerHandle | None = None
    waiting_since: float | None = None  # what comes next is waited for since then; None while a request is answered
    _in_head, _in_body = True, False
    unread_since: float | None = None  # since then it has not taken what it is told
    _unparsed = b""  # what came behind a request that waits for its turn
    _beside_bytes = 0  # that came in a row and are of no body
    _wished_at: int | None = None  # in the piece that was read last, where a wish for another protocol ended

    def __init__(self, *given: Any, most_connections: int = MOST_CONNECTIONS, **named: Any) -> None:  # noqa: ANN401 (what uvicorn gives)
        super().__init__(*given, **named)
        self._most_connections = most_connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # uvicorn's own spelling
        """Ask the kernel who is at the other end."""
        super().connection_made(transport)
        raw = transport.get_extra_info("socket")
        if raw is not None and raw.family == socket.AF_UNIX:
            pid, uid, _ = _UCRED.unpack(raw.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
            self.client = (f"{PEER}{uid}", pid)
        elif len(self.connections) > self._most_connections and not self._make_room():
            transport.abort()
            return
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of a client that went away."""
        self.waiting_since = None
        if self._look is not None:
            self._look.cancel()
            self._look = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in what came, up to a request that has to wait for its turn; what is behind it waits as it came."""
        if self.pipeline:
            self.flow.pause_reading()
        self._parse(self._unparsed + data)

    def _parse(self, data: bytes) -> None:
        at = 0
        while at < len(data) and not self.pipeline and not self.transport.is_closing():
            if self._beside_bytes > _MAX_HEAD_BYTES:
                # SECURITY: the parser keeps a head, and fields behind a body, of whatever size, whoever sends them.
                self.transport.abort()
                return
            piece = data[at : at + _PIECE_BYTES]
            at += len(piece)
            self._beside_bytes += len(piece)
            self._wished_at = None
            super().data_received(piece)
            if self._wished_at is not None:
                at += self._wished_at - len(piece)
                self._read_without_wish()
        self._unparsed = data[at:]

    def _read_without_wish(self) -> None:
        """Read a head anew without its wish for another protocol, which is not granted (RFC 9110, 7.8)."""
        # SECURITY: the parser takes what is behind such a head for another request, though it may be its body.
        lines = [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        if method == b"CONNECT" or any(b"\r" in line or b"\n" in line for line in lines):
            self.send_400_response("Invalid HTTP request received.")
            return
        super().data_received(b"\r\n".join([b"%b %b HTTP/%b" % (method, self.url, version), *lines, b"", b""]))

    def pause_writing(self) -> None:
        """Note that the client does not read."""
        self.unread_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """Go on telling."""
        self.unread_since = None
        super().resume_writing()

    def _unsupported_upgrade_warning(self) -> None:
        """Note how far the parser came, up to a wish for another protocol; without a word, for anybody may have it."""
        wish = sys.exception()
        self._wished_at = wish.args[0] if isinstance(wish, HttpParserUpgrade) else None

    def on_message_begin(self) -> None:
        """Begin to count a head."""
        self._in_head, self._beside_bytes = True, 0
        self.waiting_since = self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Wait for the body from now on."""
        if self.parser.should_upgrade():
            return  # WHY: it is read anew, see `_read_without_wish`
        self._in_head, self._in_body, self._beside_bytes = False, True, 0
        self._wait()
        super().on_headers_complete()
        # SECURITY: fields behind a body (RFC 9110, 6.5.1) go nowhere: nobody's identity, host or media type is in them.
        self.headers = []

    def on_body(self, body: bytes) -> None:
        """Take in a part of the body."""
        self._beside_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Wait no longer: the request is there."""
        if self.parser.should_upgrade():
            return
        self._in_body, self.waiting_since, self._beside_bytes = False, None, 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with what was sent meanwhile, or wait for the next head."""
        # WHY: as it is inherited, but that it reads on only when nothing waits for its turn, and without a timer that
        # would be set and taken back for every request.
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._wait()
        if self._unparsed and not self.pipeline:
            self._parse(self._unparsed)
        if not self.pipeline:
            self.flow.resume_reading()

    @property
    def idle_since(self) -> float | None:
        """Since when it is the client who is waited for; None while a request is answered."""
        return self.waiting_since if self.unread_since is None else self.unread_since

    @property
    def _patience_s(self) -> float:
        if self._in_body:
            return _BODY_S
        return _HEAD_S if self._in_head else self.timeout_keep_alive

    def _wait(self) -> None:
        self.waiting_since = self.loop.time()
        if self._look is None:
            self._look = self.loop.call_later(_HEAD_S, self._look_after)

    def _look_after(self) -> None:
        """Let go of who has not sent a head or a body in time, or nothing at all."""
        self._look = None
        if self.waiting_since is None:
            return
        if self._unparsed or (self._in_body and self.flow.read_paused):
            self.waiting_since = self.loop.time()  # WHY: it is not the client who takes this long
        left_s = self.waiting_since + self._patience_s - self.loop.time()
        if left_s > 0:
            # WHY: not all that is left, for what is waited for may be another thing meanwhile, with less patience.
            self._look = self.loop.call_later(min(left_s, _HEAD_S), self._look_after)
        elif self._in_head:
            self.transport.abort()
        elif self._in_body:
            self._end_late()
        else:
            self.transport.abort()

    def _end_late(self) -> None:
        """End a connection whose body does not come; tells why, unless an answer is on its way."""
        cycle = self.cycle
        if cycle is None or cycle.response_started or self.pipeline or cycle.waiting_for_100_continue:
            self.transport.abort()
            return
        self.transport.write(_LATE)
        self.transport.close()

    def _make_room(self) -> bool:
        """End the one of some connections that was silent or deaf for the longest; tells whether there was one."""
        others = (each for each in islice(self.connections, _LOOKED_AT) if each is not self)
        idle = [(since, each) for each in others if isinstance(each, PeerProtocol) and (since := each.idle_since)]
        if not idle:
            return False
        min(idle, key=lambda each: each[0])[1].transport.abort()
        return True
