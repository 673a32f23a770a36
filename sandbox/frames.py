"""Frames: how the gateway and a cell speak.

A frame is the header's length and the blob's length (each four bytes, big-endian), a JSON object
and raw bytes. Sizes are judged before a byte of the body is taken in.
"""

import json
import math
import socket
import struct
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from sandbox.errors import ProtocolError

__all__ = ["MAX_BLOB_BYTES", "MAX_DEPTH", "MAX_HEADER_BYTES", "Decoder", "ProtocolError", "decode_header", "encode"]

REFUSED = "refused"  # the type of a note of what a plugin's code tried and its cell refused
MAX_HEADER_BYTES = 1 << 20
MAX_BLOB_BYTES = 8 << 20
MAX_DEPTH = 64
_PREFIX = struct.Struct("!II")

Frame = tuple[dict[str, Any], bytes]


def encode(header: Mapping[str, object], blob: bytes = b"") -> bytes:
    """Make one frame.

    Raises:
        ProtocolError: the header is no JSON or something is too large; nothing was sent.
    """
    try:
        text = json.dumps(header, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ProtocolError(f"not JSON: {error}") from None
    _check_sizes(len(text), len(blob))
    return b"".join((_PREFIX.pack(len(text), len(blob)), text, blob))


def decode_header(text: bytes) -> dict[str, Any]:
    """Read a header strictly: UTF-8, one object, no name twice, finite numbers, bounded depth."""
    try:
        value = json.loads(
            text.decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_constant, parse_float=_finite
        )
    except ProtocolError:
        raise
    except RecursionError:
        raise ProtocolError("nested too deeply") from None
    except ValueError as error:
        raise ProtocolError(f"not JSON: {str(error)[:100]}") from None
    if not isinstance(value, dict):
        raise ProtocolError("a header must be an object")
    if text.count(b"[") + text.count(b"{") > MAX_DEPTH:
        _check_depth(value)
    if b"\\u" in text:
        _check_text(value)
    return value


class Decoder:
    """Turns bytes, however they are cut, into frames; after an error it takes nothing more."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._broken: str | None = None

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Take in what arrived and give each frame that it completes."""
        if self._broken is not None:
            raise ProtocolError(self._broken)
        self._pending += data
        try:
            yield from self._whole_frames()
        except ProtocolError as error:
            self._broken = str(error)
            self._pending.clear()
            raise

    @property
    def is_between_frames(self) -> bool:
        """Tell whether nothing is left over: at the end of a connection, whether it was cut."""
        return not self._pending and self._broken is None

    def _whole_frames(self) -> Iterator[Frame]:
        while len(self._pending) >= _PREFIX.size:
            header_bytes, blob_bytes = _PREFIX.unpack_from(self._pending)
            _check_sizes(header_bytes, blob_bytes)
            middle = _PREFIX.size + header_bytes
            if len(self._pending) < middle + blob_bytes:
                return
            text = bytes(self._pending[_PREFIX.size : middle])
            blob = bytes(self._pending[middle : middle + blob_bytes])
            del self._pending[: middle + blob_bytes]
            yield decode_header(text), blob


def write_frame(channel: socket.socket, header: Mapping[str, object], blob: bytes = b"") -> None:
    """Send one frame, waiting until the other side took it."""
    channel.sendall(encode(header, blob))


def read_frame(channel: socket.socket) -> Frame | None:
    """Wait for one frame; None when the other side closed between frames."""
    prefix = _read_exactly(channel, _PREFIX.size, may_end=True)
    if prefix is None:
        return None
    header_bytes, blob_bytes = _PREFIX.unpack(prefix)
    _check_sizes(header_bytes, blob_bytes)
    body = _read_exactly(channel, header_bytes + blob_bytes, may_end=False) or b""
    return decode_header(body[:header_bytes]), body[header_bytes:]


def read_said(channel: socket.socket) -> Frame | None:
    """Wait for one frame of the plugin's: what its cell notes of refusals (`sandbox.witness`) is passed over."""
    while (frame := read_frame(channel)) is not None and frame[0].get("t") == REFUSED:
        pass
    return frame


def _read_exactly(channel: socket.socket, size: int, *, may_end: bool) -> bytes | None:
    data = bytearray(size)
    view = memoryview(data)
    taken = 0
    while taken < size:
        count = channel.recv_into(view[taken:])
        if count == 0:
            if may_end and taken == 0:
                return None
            raise ProtocolError("the connection ended inside a frame")
        taken += count
    return bytes(data)


def _check_sizes(header_bytes: int, blob_bytes: int) -> None:
    if header_bytes > MAX_HEADER_BYTES:
        raise ProtocolError(f"a header of {header_bytes} bytes: {MAX_HEADER_BYTES} at most")
    if blob_bytes > MAX_BLOB_BYTES:
        raise ProtocolError(f"a blob of {blob_bytes} bytes: {MAX_BLOB_BYTES} at most")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ProtocolError("a name twice in one object")
    return found


def _no_constant(word: str) -> NoReturn:
    raise ProtocolError(f"`{word}` is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ProtocolError(f"`{text[:40]}` is too large a number")
    return number


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [child for each in level for child in _children(each)]
        if not level:
            return
    raise ProtocolError(f"nested too deeply: {MAX_DEPTH} levels at most")


def _children(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _check_text(value: object) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ProtocolError("half a character (a lone surrogate)") from None
