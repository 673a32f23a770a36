"""Compression of what is streamed, in bounded memory."""

import zlib
from collections.abc import Callable
from typing import Protocol

import zstandard

from gateway.errors import MalformedError

_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_GZIP_LEVEL = 6
_ZSTD_LEVEL = 3


class Compressor(Protocol):
    """Takes bytes in pieces and gives them compressed."""

    def compress(self, data: bytes, /) -> bytes:
        """Take a piece in, and give what is ready."""

    def flush(self) -> bytes:
        """Give what is left."""


class Plain:
    """Compresses nothing."""

    def compress(self, data: bytes, /) -> bytes:
        """Give the piece."""
        return data

    def flush(self) -> bytes:
        """Give nothing."""
        return b""


def _gzip() -> Compressor:
    return zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)


def _zstd() -> Compressor:
    return zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True).compressobj()


COMPRESSORS: dict[str, Callable[[], Compressor]] = {"gzip": _gzip, "zstd": _zstd}


def parse_compress(name: str | None) -> str | None:
    """Check the name of a compression, None for none.

    Raises:
        MalformedError: there is none of that name.

    """
    if name is not None and name not in COMPRESSORS:
        raise MalformedError(f"compress: `{name[:40]}`", way_out=f"one of {', '.join(COMPRESSORS)}")
    return name


def compressor(name: str | None) -> Compressor:
    """Give a compressor."""
    return Plain() if name is None else COMPRESSORS[name]()


def accepted(header: str | None) -> str | None:
    """Choose a compression that an Accept-Encoding header takes, zstd rather than gzip; None if it takes neither."""
    taken: dict[str, float] = {}
    for each in (header or "").lower().split(","):
        name, _, weight = each.strip().partition(";")
        try:
            taken[name.strip()] = float(weight.strip().removeprefix("q=")) if weight else 1.0
        except ValueError:
            continue
    wanted = [name for name in ("zstd", "gzip") if taken.get(name, 0) > 0]
    return max(wanted, key=lambda name: taken[name], default=None)
