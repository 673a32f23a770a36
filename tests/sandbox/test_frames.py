"""Frames: what is written is read, however it is cut; what is no frame is refused before it costs anything."""

import json
import math
import socket
import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.frames import (
    MAX_BLOB_BYTES,
    MAX_DEPTH,
    MAX_HEADER_BYTES,
    Decoder,
    ProtocolError,
    decode_header,
    encode,
    read_frame,
    write_frame,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
HEADERS = st.dictionaries(TEXT, VALUES, max_size=5)


def raw(text: bytes, blob: bytes = b"") -> bytes:
    return struct.pack("!II", len(text), len(blob)) + text + blob


@given(st.lists(st.tuples(HEADERS, st.binary(max_size=50)), max_size=4), st.integers(1, 40))
def test_what_is_written_is_read_however_it_is_cut(frames: list[tuple[dict[str, object], bytes]], size: int) -> None:
    wire = b"".join(encode(header, blob) for header, blob in frames)
    decoder, read = Decoder(), []
    for start in range(0, len(wire), size):
        read += list(decoder.feed(wire[start : start + size]))
    assert read == frames
    assert decoder.is_between_frames


@given(st.binary(max_size=200))
def test_noise_is_a_frame_or_a_protocol_error_and_nothing_else(noise: bytes) -> None:
    decoder = Decoder()
    try:
        for header, blob in decoder.feed(noise):
            assert isinstance(header, dict)
            assert isinstance(blob, bytes)
    except ProtocolError:
        with pytest.raises(ProtocolError):
            list(decoder.feed(b""))


@given(st.binary(max_size=200))
def test_a_header_of_noise_is_an_object_or_a_protocol_error(noise: bytes) -> None:
    try:
        assert isinstance(decode_header(noise), dict)
    except ProtocolError:
        return


@given(st.text(st.sampled_from('{}[]",:0159.eE-+truefalsn\\ud8\x00 '), max_size=60))
def test_a_header_of_json_pieces_is_finite_and_plain(text: str) -> None:
    try:
        value = decode_header(text.encode())
    except ProtocolError:
        return
    json.dumps(value, allow_nan=False, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b'{"b": {"a": 1, "a": 2}}', "twice"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"\\udfff": 1}', "surrogate"),
        (b'{"a": "\xff"}', "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b"[]", "object"),
        (b"1", "object"),
        (b"", "not JSON"),
        (b"{} {}", "not JSON"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "deep"),
        (b'{"a": ' + b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1) + b"}", "deep"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "deep"),
        (b'{"a": ' + b"9" * 100_000 + b"}", "not JSON"),
    ],
)
def test_what_is_no_strict_json_object_is_refused(text: bytes, why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        list(Decoder().feed(raw(text)))


@pytest.mark.parametrize(
    "prefix",
    [
        struct.pack("!II", 0xFFFF_FFFF, 0),
        struct.pack("!II", 0, 0xFFFF_FFFF),
        struct.pack("!II", MAX_HEADER_BYTES + 1, 0),
        struct.pack("!II", 2, MAX_BLOB_BYTES + 1),
    ],
)
def test_a_length_that_is_too_large_is_refused_before_anything_is_allocated(prefix: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError, match="at most"):
            list(Decoder().feed(prefix))
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(prefix)
            with pytest.raises(ProtocolError, match="at most"):
                read_frame(ours)
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MAX_HEADER_BYTES


@pytest.mark.parametrize("value", [math.nan, math.inf, b"x", {1, 2}, object(), "\ud800"])
def test_what_cannot_be_read_is_not_written(value: object) -> None:
    with pytest.raises(ProtocolError):
        encode({"value": value})


def test_a_frame_too_large_is_not_written() -> None:
    with pytest.raises(ProtocolError, match="header"):
        encode({"value": "x" * MAX_HEADER_BYTES})
    with pytest.raises(ProtocolError, match="blob"):
        encode({}, bytes(MAX_BLOB_BYTES + 1))


def test_a_connection_that_ends_is_no_frame_and_one_that_is_cut_is_an_error() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        write_frame(theirs, {"t": "x"}, b"blob")
        theirs.sendall(b"\0\0")
        theirs.close()
        assert read_frame(ours) == ({"t": "x"}, b"blob")
        with pytest.raises(ProtocolError, match="inside a frame"):
            read_frame(ours)
    ours, theirs = socket.socketpair()
    with ours:
        theirs.close()
        assert read_frame(ours) is None


def read_all(data: bytes) -> tuple[list[object], bool]:
    ours, theirs = socket.socketpair()
    found: list[object] = []
    with ours, theirs:
        theirs.sendall(data)
        theirs.close()
        try:
            while (frame := read_frame(ours)) is not None:
                found.append(frame)
        except ProtocolError:
            return found, True
    return found, False


def feed_all(data: bytes, size: int) -> tuple[list[object], bool]:
    decoder, found = Decoder(), []
    try:
        for start in range(0, len(data), size):
            for frame in decoder.feed(data[start : start + size]):
                found.append(frame)  # noqa: PERF402  # those before an error count
    except ProtocolError:
        return found, True
    return found, not decoder.is_between_frames


@given(
    st.lists(st.tuples(HEADERS, st.binary(max_size=30)), min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4),
    st.integers(0, 400),
    st.integers(1, 20),
)
def test_frames_that_were_tampered_with_are_read_alike_by_both_readers(
    frames: list[tuple[dict[str, object], bytes]], changes: list[tuple[int, int]], cut: int, size: int
) -> None:
    wire = bytearray(b"".join(encode(header, blob) for header, blob in frames))
    for place, value in changes:
        wire[place % len(wire)] = value
    data = bytes(wire[: len(wire) - cut % len(wire)])
    assert read_all(data) == feed_all(data, len(data)) == feed_all(data, size)
