"""URLs read in the one way that is also the way they are dialled."""

import re
from dataclasses import dataclass

from gateway.domain.permission import Kind
from gateway.domain.scope import canonical_scope, split_host_port
from gateway.errors import MalformedError

MAX_URL_CHARS = 8192
_URL = re.compile(r"(https?)://([^/?]*)(.*)\Z", re.IGNORECASE | re.DOTALL)
_UNFIT = re.compile(r"[^\x21-\x7e]|[\\<>\"`{}|^]")
_BROKEN_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Url:
    """Where a request goes; made by `parse_url` alone."""

    scheme: str
    host: str  # lower-case IDNA, or an address without brackets
    port: int
    target: str  # path and query as they are sent
    scope: str  # what the policy is asked about: `host`, `host:port` or `[v6]:port`

    @property
    def authority(self) -> str:
        """The host, with the port where it is not the scheme's own: the Host header."""
        literal = f"[{self.host}]" if ":" in self.host else self.host
        return literal if self.port == _PORTS[self.scheme] else f"{literal}:{self.port}"

    def __str__(self) -> str:
        """Give the one spelling."""
        return f"{self.scheme}://{self.authority}{self.target}"


def parse_url(text: str) -> Url:
    """Take `text` as an http or https URL.

    Raises:
        MalformedError: it is not one, or two readers could disagree about where it leads.

    """
    if len(text) > MAX_URL_CHARS:
        raise MalformedError(f"a URL of {len(text)} characters", way_out=f"at most {MAX_URL_CHARS}")
    match = _URL.match(text)
    if match is None:
        raise MalformedError(f"`{_short(text)}` is not a URL", way_out="write http://host/path or https://host/path")
    scheme, authority, target = match[1].lower(), match[2], match[3] or "/"
    _check_target(target, text)
    host, port = _host_and_port(authority, text)
    port = _PORTS[scheme] if port is None else port
    literal = f"[{host}]" if ":" in host else host
    return Url(
        scheme=scheme,
        host=host,
        port=port,
        target=target if target.startswith("/") else f"/{target}",
        scope=canonical_scope(Kind.NETWORK, f"{literal}:{port}"),
    )


def _host_and_port(authority: str, text: str) -> tuple[str, int | None]:
    # SECURITY: `http://good@evil/`, `http://evil\\@good/` and zone ids are read differently by different readers.
    if "@" in authority:
        raise MalformedError(f"URL `{_short(text)}`: no user name or password in a URL", way_out="send a header")
    odd = next((char for char in authority if char in "\\%#" or not char.isprintable() or char.isspace()), None)
    if odd is not None:
        raise MalformedError(f"URL `{_short(text)}`: {odd!r} in the host")
    return split_host_port(authority)


def _check_target(target: str, text: str) -> None:
    if "#" in target:
        raise MalformedError(f"URL `{_short(text)}`: a fragment is not sent", way_out="leave out `#` and what follows")
    odd = _UNFIT.search(target)
    if odd is not None:
        raise MalformedError(f"URL `{_short(text)}`: {odd[0]!r} in the path", way_out="write it as %XX")
    if _BROKEN_PERCENT.search(target):
        raise MalformedError(f"URL `{_short(text)}`: `%` without two hexadecimal digits", way_out="write it as %25")


def _short(text: str) -> str:
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[:100])
