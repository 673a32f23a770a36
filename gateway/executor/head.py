"""The head of a request to the relay, read so strictly that no two readers could read it differently."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import h11

from gateway.errors import MalformedError

MAX_HEAD_BYTES = 32 << 10
END = b"\r\n\r\n"
_UNFIT = re.compile(rb"[^\t\r\n\x20-\x7e]|\r(?!\n)|(?<!\r)\n")
_VERSIONS = (b"1.0", b"1.1")
_CONNECTION_WORDS = frozenset({"close", "keep-alive", "te", "proxy-connection"})
_SWITCHES = frozenset({"upgrade", "http2-settings"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What a request asks for; made by `parse_head` alone."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]  # names in lower case, in the order sent, repeated where repeated

    def values(self, name: str) -> list[str]:
        """Give what a header says, each time that it is there."""
        return [value for known, value in self.headers if known == name]

    @property
    def host(self) -> str | None:
        """The Host header."""
        return next(iter(self.values("host")), None)

    @property
    def chunked(self) -> bool:
        """Whether a body of untold length follows."""
        return bool(self.values("transfer-encoding"))

    @property
    def has_body(self) -> bool:
        """Whether a body follows."""
        return self.chunked or any(int(each) for each in self.values("content-length"))


def unfit(raw: bytes) -> bool:
    """Tell whether bytes of a head, however far they have come, can be part of none."""
    # WHY: what ends in a carriage return may go on with its line feed.
    return _UNFIT.search(raw.removesuffix(b"\r")) is not None


def parse_head(raw: bytes) -> tuple[Head, h11.Connection]:
    """Take a head, its closing empty line included; the connection then takes the body.

    Raises:
        MalformedError: it is not one, or it could be read in two ways.
    """
    if not raw.endswith(END) or raw.index(END) != len(raw) - len(END):
        raise MalformedError("a head without its one end")
    if _UNFIT.search(raw):
        raise MalformedError("a head with a character that no head has, or a line that does not end in CR LF")
    lines = raw.removesuffix(END).split(b"\r\n")
    if any(line.startswith((b" ", b"\t")) for line in lines):
        raise MalformedError("a header that goes on in a second line")
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
    try:
        connection.receive_data(raw)
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise MalformedError(f"a head that is not HTTP: {error}") from None
    if not isinstance(event, h11.Request) or event.http_version not in _VERSIONS:
        raise MalformedError("a head that is not one of HTTP/1.0 or HTTP/1.1")
    # SECURITY: as they were sent, not as h11 keeps them: it makes one length of two that are alike.
    sent = [(name.strip().decode("ascii").lower(), value.strip().decode("ascii")) for name, value in _split(lines[1:])]
    head = Head(method=event.method.decode("ascii"), target=event.target.decode("ascii"), headers=tuple(sent))
    _check_framing(head, event.http_version)
    _check_connection(head)
    return head, connection


def _split(lines: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, _, value in (line.partition(b":") for line in lines)]


def _check_framing(head: Head, version: bytes) -> None:
    lengths, codings = head.values("content-length"), head.values("transfer-encoding")
    if len(lengths) > 1 or (lengths and codings) or len(codings) > 1:
        raise MalformedError("a request whose body ends in two ways")
    if lengths and not (lengths[0].isascii() and lengths[0].isdigit() and len(lengths[0]) < 16):  # noqa: PLR2004 (far above any budget)
        raise MalformedError("a Content-Length that is no number")
    if codings and (codings[0].lower() != "chunked" or version == b"1.0"):
        raise MalformedError("a Transfer-Encoding that is not `chunked`")
    if len(head.values("host")) > 1:
        raise MalformedError("a request with two hosts")
    if head.method == "CONNECT" and (lengths or codings):
        raise MalformedError("a CONNECT with a body")


def _check_connection(head: Head) -> None:
    if any(name in _SWITCHES for name, _ in head.headers):
        raise MalformedError("a request to change the protocol")
    words = {word.strip().lower() for value in head.values("connection") for word in value.split(",")}
    # SECURITY: a header that is named here would be taken out on the way, and mean one thing here and another there.
    if not words <= _CONNECTION_WORDS | {""}:
        raise MalformedError("a Connection header that names other headers")
