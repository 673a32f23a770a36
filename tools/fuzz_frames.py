"""Feeds the frame decoder what a coverage-guided fuzzer thinks of; run by `make fuzz`, which bounds the time.

Whatever comes, in whatever pieces: frames, or one kind of error, the same for both readers.
"""

import json
import socket
import sys

import atheris

with atheris.instrument_imports(include=["sandbox", "json"]):
    from sandbox import frames

MAX_BYTES = 1 << 14


def fed(data: bytes, size: int) -> tuple[list[frames.Frame], bool]:
    """Give the frames that come of data fed in pieces, and whether it ended in an error."""
    decoder, found = frames.Decoder(), []
    try:
        for start in range(0, len(data), size):
            for frame in decoder.feed(data[start : start + size]):
                found.append(frame)  # noqa: PERF402  # those before an error count
    except frames.ProtocolError:
        return found, True
    return found, False


def read(data: bytes) -> tuple[list[frames.Frame], bool]:
    """Give the same by the reader that a cell uses."""
    ours, theirs = socket.socketpair()
    found = []
    with ours, theirs:
        theirs.sendall(data)
        theirs.close()
        try:
            while (frame := frames.read_frame(ours)) is not None:
                found.append(frame)
        except frames.ProtocolError:
            return found, True
    return found, False


def try_one(data: bytes) -> None:
    """Hold both readers against each other."""
    if not 0 < len(data) < MAX_BYTES:
        return
    whole, piecewise = fed(data, len(data)), fed(data, 1 + data[0] % 7)
    other = read(data)
    if whole != piecewise or whole[0] != other[0] or (whole[1] and not other[1]):
        raise AssertionError(f"{whole!r} {piecewise!r} {other!r}")
    for header, blob in whole[0]:
        json.dumps(header, allow_nan=False)
        if next(frames.Decoder().feed(frames.encode(header, blob))) != (header, blob):
            raise AssertionError(f"{header!r} is not what it was when it is written and read again")


if __name__ == "__main__":
    atheris.Setup(sys.argv, try_one)
    atheris.Fuzz()
