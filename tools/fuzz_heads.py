"""Throw mutated heads at the relay's parser, guided by the lines they reach; ends at the first surprise.

usage: python tools/fuzz_heads.py [libFuzzer options, as -max_total_time=60]; needs atheris
"""

import http.client
import io
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports():
    from gateway.errors import MalformedError
    from gateway.executor.head import parse_head

SEEDS = (
    b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n",
    b"POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\nX-A: b\r\n\r\n",
    b"POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n",
)


def head(data: bytes) -> None:
    """Refuse a head, or read it as the standard library's own reader does."""
    try:
        told, _ = parse_head(data)
    except MalformedError:
        return
    read = http.client.parse_headers(io.BytesIO(data.partition(b"\r\n")[2]))
    if [(name.lower(), value.strip()) for name, value in read.items()] != list(told.headers):
        raise AssertionError("two readers differ")
    if len(told.values("content-length")) + len(told.values("transfer-encoding")) > 1 or len(told.values("host")) > 1:
        raise AssertionError("a body that ends in two ways, or two hosts")


def main() -> None:
    """Fuzz until an option says enough."""
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(SEEDS):
            Path(corpus, str(number)).write_bytes(seed)
        atheris.Setup([*sys.argv, "-max_len=4096", corpus], head)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
