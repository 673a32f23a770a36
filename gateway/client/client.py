"""One blocking client for both ways into a home: its gateway's socket, or the home opened here."""

import os
import socket
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from gateway.client.embedded import EmbeddedTransport
from gateway.client.home import socket_of
from gateway.client.loop import Held, LoopThread
from gateway.client.problems import error_of
from gateway.errors import HomeInUseError, MalformedError, OutcomeUnknownError, UnavailableError

ON_BEHALF = "Hearthgate-On-Behalf"
_BASE_URL = "http://localhost"
_CONNECT_S = 5.0
_IN_USE_WAIT_S = 30.0
_IN_USE_POLL_S = 0.05
_MAX_SOCKET_PATH_BYTES = 100
_SAFE_METHODS = frozenset({"GET", "HEAD"})
_OK_UNTIL = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the gateway answered; `body` is the parsed JSON, or the text of what is not JSON."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Streamed:
    """An answer that is still coming."""

    headers: Mapping[str, str]
    chunks: Iterator[bytes]


class Client:
    """A connection to the gateway of `home`, as the person who owns it.

    Speaks to the gateway that serves the home; where none does, opens the home itself until `close`.
    May be used from several threads.

    Raises:
        HomeInUseError: a process that answers no one has the home open.

    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self._closers: list[Callable[[], None]] = []
        self._loop = LoopThread()
        self._closers.append(self._loop.close)
        try:
            self._http = httpx.AsyncClient(
                transport=self._transport(),
                base_url=_BASE_URL,
                timeout=httpx.Timeout(None, connect=_CONNECT_S),
            )
        except BaseException:
            self.close()
            raise
        self._closers.append(lambda: self._loop.run(self._http.aclose()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, and the home if it was opened here."""
        while self._closers:
            self._closers.pop()()

    def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,  # noqa: ANN401 (any JSON value)
        params: Mapping[str, Any] | None = None,
        on_behalf: str | None = None,
    ) -> Reply:
        """Ask and wait for the answer.

        Raises:
            HearthgateError: the gateway answered with a problem; the class and `decision_id` are the problem's.

        """
        request = self._build(method, path, json=json, params=params, on_behalf=on_behalf)
        response = self._send(request, stream=False)
        _raise_problem(response)
        return Reply(status=response.status_code, body=_body(response), headers=response.headers)

    @contextmanager
    def stream(self, path: str, *, params: Mapping[str, Any] | None = None) -> Iterator[Streamed]:
        """Give an answer as it comes.

        Raises:
            HearthgateError: the gateway answered with a problem, or went away.

        """
        request = self._build("GET", path, params=params)
        # WHY: compressing what stays on this machine costs more than it spares.
        request.headers["accept-encoding"] = "identity"
        response = self._send(request, stream=True)
        try:
            if response.status_code >= _OK_UNTIL:
                self._loop.run(response.aread())
                _raise_problem(response)
            yield Streamed(headers=response.headers, chunks=self._chunks(response))
        finally:
            self._loop.run(response.aclose())

    def stream_lines(self, path: str, *, params: Mapping[str, Any] | None = None) -> Generator[bytes, None, None]:
        """Give an answer line by line as it comes, line ends included; read it to its end or close it."""
        with self.stream(path, params=params) as streamed:
            yield from _lines(streamed.chunks)

    def _build(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,  # noqa: ANN401 (any JSON value)
        params: Mapping[str, Any] | None = None,
        on_behalf: str | None = None,
    ) -> httpx.Request:
        wanted = {name: value for name, value in (params or {}).items() if value is not None}
        headers = {} if on_behalf is None else {ON_BEHALF: on_behalf}
        try:
            return self._http.build_request(method, path, json=json, params=wanted, headers=headers)
        except httpx.InvalidURL as error:
            raise MalformedError(f"{error}", way_out="a name has no control characters and is not that long") from error

    def _send(self, request: httpx.Request, *, stream: bool) -> httpx.Response:
        try:
            return self._loop.run(self._http.send(request, stream=stream))
        except httpx.ConnectError as error:
            raise UnavailableError("the gateway went away", way_out="start it again, or try once more") from error
        except httpx.TransportError as error:
            if request.method in _SAFE_METHODS:
                raise UnavailableError("the gateway went away before it answered", way_out="try again") from error
            raise OutcomeUnknownError(
                "the gateway went away before it answered", way_out="look in the log what became of it"
            ) from error

    def _chunks(self, response: httpx.Response) -> Iterator[bytes]:
        chunks = response.aiter_bytes()
        while True:
            try:
                yield self._loop.run(anext(chunks))  # type: ignore[arg-type] # an async generator's anext is a coroutine
            except StopAsyncIteration:
                return
            except httpx.TransportError as error:
                raise UnavailableError("the gateway went away in the middle of its answer") from error

    def _transport(self) -> httpx.AsyncBaseTransport:
        """Give the way in; waits a little for another process that is just leaving the home."""
        deadline = time.monotonic() + _IN_USE_WAIT_S
        while True:
            door = self._socket_transport()
            if door is not None:
                return door
            try:
                return self._embedded_transport()
            except HomeInUseError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_IN_USE_POLL_S)

    def _socket_transport(self) -> httpx.AsyncHTTPTransport | None:
        with ExitStack() as undo:
            path = _short_path(socket_of(self.home), undo)
            trial = undo.enter_context(socket.socket(socket.AF_UNIX))
            trial.settimeout(_CONNECT_S)
            try:
                trial.connect(str(path))
            except OSError:
                return None
            trial.close()
            self._closers.append(undo.pop_all().close)
        return httpx.AsyncHTTPTransport(uds=str(path))

    def _embedded_transport(self) -> EmbeddedTransport:
        from gateway.app import open_house  # noqa: PLC0415 (half a second that a running gateway makes needless)

        house = Held(self._loop, open_house(self.home))
        self._closers.append(house.close)
        # SECURITY: only the one who may open the home gets here, so this peer is the owner.
        return EmbeddedTransport(house.value.asgi, client=(f"unix-uid:{os.getuid()}", 0))


def _short_path(path: Path, undo: ExitStack) -> Path:
    """Give a path of the same socket that fits into a socket address, valid until `undo` is closed."""
    if len(os.fsencode(path)) <= _MAX_SOCKET_PATH_BYTES:
        return path
    try:
        folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    except OSError:
        return path
    undo.callback(os.close, folder)
    return Path(f"/proc/self/fd/{folder}", path.name)


def _body(response: httpx.Response) -> Any:  # noqa: ANN401 (any JSON value)
    if "json" not in response.headers.get("content-type", ""):
        return response.text
    return response.json() if response.content else None


def _raise_problem(response: httpx.Response) -> None:
    if response.status_code < _OK_UNTIL:
        return
    body = _body(response)
    problem = body if isinstance(body, dict) else {"detail": str(body)}
    retry_after = response.headers.get("retry-after", "")
    if retry_after.isdigit():
        problem = {"retry_after_s": int(retry_after), **problem}
    raise error_of(problem, status=response.status_code)


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line + b"\n" for line in whole)
    if rest:
        yield rest
