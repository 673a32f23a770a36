"""The listeners: a unix socket that knows its peer, and TCP, with TLS where it is set."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn

from gateway import descriptors
from gateway.errors import ConfigError
from gateway.http.straight_protocol import StraightProtocol
from gateway.http.tls import Certificate, TlsDoor

_BACKLOG = 2048
_KEEP_ALIVE_S = 75


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, certificate: Certificate | None) -> None:
        super().__init__(config)
        self._door = None if certificate is None else TlsDoor(certificate, self._connection)
        self._taking: list[asyncio.Task[None]] = []

    def _connection(self) -> asyncio.Protocol:
        made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg] # as it does by itself
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Take connections, by a door of our own where they begin with a handshake."""
        if self._door is None:
            await super().startup(sockets)
            return
        self.servers = []
        self._taking = [asyncio.create_task(self._door.take(each)) for each in sockets or ()]
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more, and let what is under way end."""
        for each in self._taking:
            each.cancel()
        await asyncio.gather(*self._taking, return_exceptions=True)
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to whoever runs the listeners: there is more than one of them."""
        yield


class Listeners:
    """Serves one application at every address of a gateway."""

    def __init__(self, application: Any, *, grace_s: float = 10.0, most_connections: int | None = None) -> None:  # noqa: ANN401 (any ASGI application)
        self._application = application
        self._grace_s = grace_s
        self._most_connections = descriptors.room() if most_connections is None else most_connections
        self._servers: list[tuple[_Server, socket.socket]] = []
        self._tasks: list[asyncio.Task[None]] = []

    def listen_tcp(self, host: str, port: int, certificate: Certificate | None = None) -> tuple[str, int]:
        """Bind a TCP address and give it, with the port that was free where 0 was asked for.

        Raises:
            ConfigError: the address is taken or is not this host's, or the certificate is none.
        """
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            listener.close()
            raise ConfigError(
                f"cannot listen at {host}:{port}: {error.strerror}",
                way_out="`serve --listen HOST:PORT`, port 0 for any",
            ) from None
        self._add(listener, certificate)
        bound = listener.getsockname()
        return str(bound[0]), int(bound[1])

    def listen_unix(self, path: Path) -> None:
        """Bind a unix socket that only its owner can reach.

        Raises:
            ConfigError: it cannot be made.
        """
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.parent.chmod(0o700)
        listener = socket.socket(socket.AF_UNIX)
        folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            path.unlink(missing_ok=True)
            # WHY: through the descriptor, for a socket's address holds 107 bytes and a home may lie deep.
            listener.bind(f"/proc/self/fd/{folder}/{path.name}")
            path.chmod(0o600)
        except OSError as error:
            listener.close()
            raise ConfigError(f"cannot make the socket `{path}`: {error.strerror}") from None
        finally:
            os.close(folder)
        self._add(listener)

    def _add(self, listener: socket.socket, certificate: Certificate | None = None) -> None:
        config = uvicorn.Config(
            self._application,
            loop="none",
            http=partial(StraightProtocol, most_connections=self._most_connections),  # type: ignore[arg-type] # made so
            ws="none",
            lifespan="off",
            interface="asgi3",
            access_log=False,
            log_config=None,
            # SECURITY: a header that names the client must never become the client.
            proxy_headers=False,
            server_header=False,
            date_header=True,
            backlog=_BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=int(self._grace_s),
        )
        self._servers.append((_Server(config, certificate), listener))

    async def start(self) -> None:
        """Begin to answer."""
        for server, listener in self._servers:
            listener.listen(_BACKLOG)
            self._tasks.append(asyncio.create_task(_serve(server, listener)))
        while not all(server.started for server, _ in self._servers):
            for task in self._tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """Take no more connections, let what is under way end, and close."""
        for server, _ in self._servers:
            server.should_exit = True
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for _, listener in self._servers:
            listener.close()


async def _serve(server: _Server, listener: socket.socket) -> None:
    await server.serve(sockets=[listener])


def until_signalled(loop: asyncio.AbstractEventLoop) -> asyncio.Event:
    """Give an event that SIGTERM and SIGINT set."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    return ended
