"""Requests to the world: one resolving, one judged address, one answer of bounded size and time."""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import httpcore
import httpx

from gateway.domain.permission import Level
from gateway.errors import DeniedError, MalformedError, TooLargeError, UnavailableError
from gateway.resources.addresses import Address, Reach, is_this_host, reach_of
from gateway.resources.dial import Count, PinnedDialler, closing_line, count_nothing, dialling, open_line
from gateway.resources.headers import check_headers, level_of
from gateway.resources.places import Places
from gateway.resources.url import Url

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
MAX_IN_FLIGHT = 32
SHARE = 8  # of one plugin
MAX_LINES = 128
LINE_SHARE = 32  # of one plugin
_CONNECT_S = 10.0
_RESOLVER_THREADS = 8
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "upgrade", "trailer"})


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """What a plugin wants to send."""

    method: str
    url: Url
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    asker: str = ""  # the plugin, which has its share of the places
    count: Count = count_nothing  # told of every byte that passes


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpReply:
    """What a server answered; a redirect is an answer, and a compressed body is as it was sent."""

    status: int
    headers: tuple[tuple[str, str], ...]  # names in lower case, in the order sent, repeated where repeated
    body: bytes


class SystemResolver:
    """The system's resolver, on threads of its own.

    WHY: a lookup cannot be cancelled; on the shared threads, slow name servers would hold up every file
    and vault access.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_RESOLVER_THREADS, thread_name_prefix="resolve")

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Give every address of `host`."""
        answers = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return [str(address[0]) for *_, address in answers]


def no_ports() -> Collection[int]:
    """Say that the gateway listens on no port."""
    return ()


class Network:
    """The door to other machines.

    A name is resolved once; if any of its addresses is out of reach nothing is dialled, and what is
    dialled is the address that was judged. Nothing comes from the environment, as proxies would.
    """

    def __init__(
        self,
        *,
        resolve: Resolve | None = None,
        own_ports: Callable[[], Collection[int]] = no_ports,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._resolve = resolve or SystemResolver()
        self._own_ports = own_ports
        self._ssl_context = ssl_context or httpx.create_ssl_context(trust_env=False)
        self._places = Places(MAX_IN_FLIGHT, SHARE, "requests")
        self._lines = Places(MAX_LINES, LINE_SHARE, "connections")

    async def request(
        self, request: HttpRequest, *, private_ok: bool, timeout_s: float = 30.0, max_bytes: int = 8 << 20
    ) -> HttpReply:
        """Send `request` once and give the answer, whatever its status; redirects are not followed.

        Raises:
            MalformedError: the method, a header or the body is not a plugin's to send.
            DeniedError: an address of the host is out of reach.
            TooLargeError: the answer is longer than `max_bytes`.
            UnavailableError: no whole answer within `timeout_s`.
            OverloadedError: too many requests are under way, of all plugins or of this one.

        """
        if level_of(request.method) is Level.READ and request.body:
            raise MalformedError(f"a {request.method} with a body", way_out="send it with another method")
        outgoing = _outgoing(request)
        with self._places.take(request.asker), _told(request, timeout_s):
            async with asyncio.timeout(timeout_s):
                addresses = await self.pin(request.url.host, request.url.port, private_ok=private_ok)
                async with dialling(addresses, timeout_s, request.count) as dialler:
                    return await self._send(outgoing, dialler, max_bytes)

    @asynccontextmanager
    async def connect(
        self, host: str, port: int, *, private_ok: bool, asker: str = ""
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Give a plain connection to `host` for as long as the body takes; it is closed afterwards.

        Raises:
            DeniedError: an address of the host is out of reach.
            UnavailableError: it cannot be resolved or does not answer.
            OverloadedError: too many connections are open, of all plugins or of this one.

        """
        with self._lines.take(asker):
            try:
                async with asyncio.timeout(_CONNECT_S):
                    addresses = await self.pin(host, port, private_ok=private_ok)
                    line = await open_line(addresses, port, _CONNECT_S)
            except TimeoutError:
                raise UnavailableError(f"`{host}:{port}` did not answer within {_CONNECT_S:g} s") from None
            except OSError as error:
                raise UnavailableError(f"`{host}:{port}` cannot be connected to: {error.strerror}") from None
            async with closing_line(line) as ends:
                yield ends

    async def pin(self, host: str, port: int, *, private_ok: bool) -> tuple[str, ...]:
        """Resolve `host` once and give its addresses: whoever connects dials one of these, never the name.

        Raises:
            DeniedError: one of them is out of reach.
            UnavailableError: it has none.

        """
        addresses = await self._addresses(host, port)
        for address in addresses:
            reach = reach_of(address)
            if reach is Reach.NEVER or (port in self._own_ports() and is_this_host(address)):
                raise DeniedError(f"`{host}` leads to an address that is never within a plugin's reach")
            if reach is Reach.PRIVATE and not private_ok:
                raise DeniedError(
                    f"`{host}` leads to an address that is not public",
                    way_out=f"a rule of a rules file must name `{host}:{port}` literally",
                )
        return tuple(str(address) for address in addresses)

    async def _addresses(self, host: str, port: int) -> tuple[Address, ...]:
        try:
            return (ipaddress.ip_address(host),)
        except ValueError:
            pass
        try:
            answers = await self._resolve(host, port)
            addresses = tuple(dict.fromkeys(ipaddress.ip_address(answer) for answer in answers))
        except (OSError, ValueError) as error:
            if isinstance(error, TimeoutError):
                raise
            raise UnavailableError(f"`{host}` cannot be resolved") from None
        if not addresses:
            raise UnavailableError(f"`{host}` has no address")
        return addresses

    async def _send(self, outgoing: httpcore.Request, dialler: PinnedDialler, max_bytes: int) -> HttpReply:
        # A connection serves one request of one plugin; the certificate is checked against the name.
        async with httpcore.AsyncConnectionPool(ssl_context=self._ssl_context, network_backend=dialler) as pool:
            response = await pool.handle_async_request(outgoing)
            try:
                body = await _read_body(response, outgoing, max_bytes)
            finally:
                await response.aclose()
        return HttpReply(status=response.status, headers=_reply_headers(response), body=body)


def _outgoing(request: HttpRequest) -> httpcore.Request:
    headers = check_headers(request.headers)
    named = {name for name, _ in headers}
    url = request.url
    own = [("host", url.authority), ("connection", "close")]
    if "accept-encoding" not in named:
        # SECURITY: what is not compressed cannot grow; a plugin that asks for more unpacks it in its own sandbox.
        own.append(("accept-encoding", "identity"))
    if level_of(request.method) is Level.WRITE:
        own.append(("content-length", str(len(request.body))))
    return httpcore.Request(
        request.method,
        httpcore.URL(scheme=url.scheme, host=url.host, port=url.port, target=url.target),
        headers=[*own, *headers],
        content=request.body,
    )


async def _read_body(response: httpcore.Response, outgoing: httpcore.Request, max_bytes: int) -> bytes:
    too_large = TooLargeError(f"the answer of `{outgoing.url.host.decode()}` is more than {max_bytes} bytes")
    announced = dict(_reply_headers(response)).get("content-length", "")
    if outgoing.method != b"HEAD" and announced.isdecimal() and int(announced) > max_bytes:
        raise too_large
    parts: list[bytes] = []
    left = max_bytes
    async for part in response.aiter_stream():
        left -= len(part)
        if left < 0:
            raise too_large
        parts.append(part)
    return b"".join(parts)


def _reply_headers(response: httpcore.Response) -> tuple[tuple[str, str], ...]:
    pairs = ((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in response.headers)
    return tuple((name, value) for name, value in pairs if name not in _HOP_BY_HOP)


@contextmanager
def _told(request: HttpRequest, timeout_s: float) -> Iterator[None]:
    scope = request.url.scope
    unsure = " (it may have been carried out)" if level_of(request.method) is Level.WRITE else ""
    try:
        yield
    except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
        raise UnavailableError(f"`{scope}` cannot be connected to: {str(error) or 'no answer'}") from None
    except (TimeoutError, httpcore.TimeoutException):
        raise UnavailableError(f"`{scope}` gave no whole answer within {timeout_s:g} s{unsure}") from None
    except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
        raise UnavailableError(f"`{scope}` broke off: {error}{unsure}") from None
