"""Which methods and headers of a request are a plugin's to choose."""

import re
from collections.abc import Mapping, Sequence

from gateway.domain.permission import Level
from gateway.errors import MalformedError, TooLargeError

_LEVELS = {
    "GET": Level.READ,
    "HEAD": Level.READ,
    "POST": Level.WRITE,
    "PUT": Level.WRITE,
    "PATCH": Level.WRITE,
    "DELETE": Level.WRITE,
    "OPTIONS": Level.WRITE,
}
_MAX_HEADERS = 100
_MAX_HEADER_BYTES = 32 << 10
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_VALUE = re.compile(r"[\x20-\x7e\t]*\Z")
# SECURITY: these say where a message ends, who sent it or which method is meant: the gateway's to say, or nobody's.
_NOT_A_PLUGINS = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "forwarded",
        "host",
        "http2-settings",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
        "x-http-method",
        "x-http-method-override",
        "x-method-override",
        "x-real-ip",
    }
)
_NOT_A_PLUGINS_PREFIXES = ("proxy-", "x-forwarded-")


def level_of(method: str) -> Level:
    """Tell which level of a network or api permission a method needs.

    Raises:
        MalformedError: it is not a method that a plugin can use.

    """
    level = _LEVELS.get(method)
    if level is None:
        raise MalformedError(f"method `{method[:20]}`", way_out="one of " + ", ".join(_LEVELS))
    return level


def check_headers(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """Give the headers in lower case, without blanks around their values.

    Raises:
        MalformedError: one is not a header, or not a plugin's to set.
        TooLargeError: they are too many or too long.

    """
    return check_pairs([*headers.items()])


def check_pairs(headers: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Give headers, of which some may be there more than once, as `check_headers` gives them.

    Raises:
        MalformedError: one is not a header, or not a plugin's to set.
        TooLargeError: they are too many or too long.

    """
    if len(headers) > _MAX_HEADERS or sum(len(name) + len(value) for name, value in headers) > _MAX_HEADER_BYTES:
        raise TooLargeError("too many or too long headers", way_out=f"{_MAX_HEADERS}, {_MAX_HEADER_BYTES} bytes in all")
    return [(_checked_name(name), _checked_value(name, value)) for name, value in headers]


def _checked_name(text: str) -> str:
    if not _NAME.match(text):
        raise MalformedError("a header name with characters that no header has")
    name = text.lower()
    # SECURITY: some servers read `Content_Length` as `Content-Length`.
    plain = name.replace("_", "-")
    if plain in _NOT_A_PLUGINS or plain.startswith(_NOT_A_PLUGINS_PREFIXES):
        raise MalformedError(f"header `{text}` is the gateway's to set", way_out="leave it out")
    return name


def _checked_value(name: str, text: str) -> str:
    value = text.strip(" \t")
    if not _VALUE.match(value):
        raise MalformedError(f"header `{name}`: printable ASCII is needed")
    return value
