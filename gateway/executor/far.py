"""The other machine of a connection: what is sent there, what comes back, and how much of it there may be."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import h11

from gateway.errors import HearthgateError, TooLargeError

_HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"upgrade", b"trailer"})
Count = Callable[[int, int], None]  # bytes sent, bytes received


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A plain request as it is sent on."""

    method: str
    target: str
    headers: Sequence[tuple[str, str]]


@dataclass(slots=True)
class Budget:
    """How many bytes the connections of a call may still move, in both directions together."""

    left: int

    def take(self, count: int) -> None:
        """Take some.

        Raises:
            TooLargeError: they are used up.
        """
        self.left -= count
        if self.left < 0:
            raise TooLargeError("the call has moved all the bytes that it may: [sandbox] max_egress_mb is the bound")


@dataclass(frozen=True, slots=True)
class Far:
    """The connection to the other machine; what passes is counted."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    count: Count


def next_event(connection: h11.Connection, blame: type[HearthgateError]) -> object:
    """Give what comes next; what is not HTTP is an error of the kind `blame`."""
    try:
        return connection.next_event()
    except h11.RemoteProtocolError as error:
        raise blame(f"not HTTP: {error}") from None


def take_in(connection: h11.Connection, data: bytes, blame: type[HearthgateError]) -> None:
    """Take bytes in; an end where none may be is an error of the kind `blame`."""
    try:
        connection.receive_data(data)
    except h11.RemoteProtocolError as error:
        raise blame(f"not HTTP: {error}") from None


def for_client(event: h11.Response) -> h11.Response:
    """Give an answer's head without what belongs to the connection it came over."""
    named = {
        word.strip() for name, value in event.headers if name == b"connection" for word in value.lower().split(b",")
    }
    dropped = _HOP_BY_HOP | named
    if any(name == b"transfer-encoding" for name, _ in event.headers):
        dropped |= {b"transfer-encoding", b"content-length"}
    kept = [(name, value) for name, value in event.headers if name not in dropped]
    return h11.Response(status_code=event.status_code, reason=event.reason, headers=[*kept, (b"connection", b"close")])
