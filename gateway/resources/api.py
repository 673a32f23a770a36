"""Named services of other people, asked with credentials that the plugin never sees."""

import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

from gateway.domain.permission import Kind, Level
from gateway.domain.scope import canonical_scope
from gateway.errors import ConfigError, DeniedError, MalformedError, NotFoundError, UnavailableError
from gateway.resources.dial import Count, count_nothing
from gateway.resources.headers import level_of
from gateway.resources.network import HttpReply, HttpRequest, Network
from gateway.resources.url import Url, parse_url

_MAX_SECRET_BYTES = 8 << 10
_MIN_SECRET_BYTES = 8
_IN_A_SEGMENT = "-._~!$&'()+,=:@"
# SECURITY: the first two would be another's credential; the others would let a part of an echoed one pass unseen.
_NOT_A_PLUGINS = frozenset({"authorization", "cookie", "accept-encoding", "range", "if-range", "x-api-key"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """A service as the operator names it: where it is, and how it is told who asks."""

    name: str
    url: str  # without a query; what a plugin asks for lies below it
    header: str
    prefix: str  # what stands before the secret in the header, as `Bearer `
    secret_file: Path
    private: bool  # it may be at an address that is not public


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiRequest:
    """What a plugin wants of a service; made by `parse_api_request` alone."""

    upstream: str
    method: str
    target: str  # path and query below the service's own, as they are sent
    scope: str  # what the policy is asked about: `upstream/path`
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def level(self) -> Level:
        """The level of the permission it needs."""
        return level_of(self.method)


def parse_api_request(upstream: str, method: str, path: str, headers: Mapping[str, str], body: bytes) -> ApiRequest:
    """Take `path`, with a query or without, as one below a service.

    Raises:
        MalformedError: two readers could disagree about what it names, or a header is not the plugin's to set.

    """
    level_of(method)
    own = [name for name in headers if name.lower().replace("_", "-") in _NOT_A_PLUGINS]
    if own:
        raise MalformedError(f"header `{own[0]}` is the gateway's to set", way_out="leave it out")
    plain, question, query = path.partition("?")
    # SECURITY: judged as the service will read it, and sent in the one spelling of what was judged.
    segments = [_decoded(segment) for segment in plain.strip("/").split("/")] if plain.strip("/") else []
    scope = canonical_scope(Kind.API, "/".join([upstream, *segments]))
    target = "".join("/" + quote(segment, safe=_IN_A_SEGMENT) for segment in segments)
    if segments and plain.endswith("/"):
        target += "/"
    return ApiRequest(
        upstream=upstream, method=method, target=target + question + query, scope=scope, headers=headers, body=body
    )


def _decoded(segment: str) -> str:
    try:
        text = unquote_to_bytes(segment).decode()
    except (UnicodeDecodeError, UnicodeEncodeError):
        raise MalformedError("a path that is not UTF-8") from None
    if "/" in text or "\\" in text or "%" in text:
        raise MalformedError(f"path segment `{text[:100]}`: `/`, `\\` or `%` inside a segment")
    return text


class Api:
    """The services that hearthgate.toml names.

    Credentials are read from their files at each request, so a new one needs no restart; an answer that holds
    its request's credential is not handed on.
    """

    def __init__(self, network: Network, upstreams: Sequence[Upstream] = ()) -> None:
        self._network = network
        self._upstreams = {each.name: each for each in upstreams}

    def url_of(self, name: str) -> Url | None:
        """Tell where a service is; None if there is none of that name."""
        upstream = self._upstreams.get(name)
        return None if upstream is None else parse_url(upstream.url)

    async def call(self, request: ApiRequest, *, asker: str = "", count: Count = count_nothing) -> HttpReply:
        """Send `request` with the service's credential and give the answer, whatever its status.

        It takes one of the places of `asker`; `count` is told of every byte, the credential's included.

        Raises:
            NotFoundError: there is no such service.
            UnavailableError: its credential cannot be used, it gave no whole answer, or one that cannot be handed on.
            HearthgateError: as `Network.request` does.

        """
        upstream = self._upstreams.get(request.upstream)
        if upstream is None:
            raise NotFoundError(f"no service `{request.upstream}`", way_out="the operator names it in hearthgate.toml")
        if upstream.header in {name.lower() for name in request.headers}:
            raise MalformedError(f"header `{upstream.header}` is the gateway's to set", way_out="leave it out")
        try:
            secret = read_secret(upstream.secret_file)
        except ConfigError:
            # SECURITY: where the credential lies and what is wrong with it is not the plugin's to know.
            raise UnavailableError(f"the credential of `{upstream.name}` cannot be used") from None
        url = parse_url(upstream.url.rstrip("/") + request.target)
        headers = {**request.headers, upstream.header: upstream.prefix + secret}
        wanted = HttpRequest(
            method=request.method, url=url, headers=headers, body=request.body, asker=asker, count=count
        )
        try:
            reply = await self._network.request(wanted, private_ok=upstream.private)
        except DeniedError as error:
            way_out = f"`private = true` in [upstream.{upstream.name}] of hearthgate.toml"
            raise DeniedError(error.message, way_out=way_out) from None
        _refuse_told_secret(reply, secret, upstream.name)
        return reply


def _refuse_told_secret(reply: HttpReply, secret: str, name: str) -> None:
    coded = [value for each, value in reply.headers if each == "content-encoding" and value.lower() != "identity"]
    if coded:
        raise UnavailableError(f"`{name}` answered in an encoding that was not asked for")
    spellings = (secret, quote(secret, safe=""), json.dumps(secret)[1:-1].replace("/", r"\/"))
    told = [each.encode() for each in spellings]
    places = (reply.body, *(value.encode() for _, value in reply.headers))
    if any(each in place for each in told for place in places):
        raise UnavailableError(f"the answer of `{name}` holds the credential it was asked with")


def read_secret(path: Path) -> str:
    """Read a credential: one line of printable ASCII, in a file that nobody else can read.

    Raises:
        ConfigError: it is none, or others can read it.

    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            raw = file.read(_MAX_SECRET_BYTES + 1).strip()
    except OSError as error:
        raise ConfigError(f"credential `{path}` cannot be read: {error.strerror}") from None
    if mode & 0o077:
        raise ConfigError(f"credential `{path}` can be read by others", way_out=f"chmod 600 {path}")
    text = raw.decode("ascii", "replace")
    if not _MIN_SECRET_BYTES <= len(raw) <= _MAX_SECRET_BYTES or not text.isascii() or not text.isprintable():
        raise ConfigError(
            f"credential `{path}` is not one line of printable ASCII",
            way_out=f"{_MIN_SECRET_BYTES} to {_MAX_SECRET_BYTES} characters",
        )
    return text
