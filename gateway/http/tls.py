"""TLS: a certificate that may be renewed while the gateway serves, and handshakes that have a time and a number."""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from gateway.errors import ConfigError

_HANDSHAKE_S = 10.0
_MOST_SHAKING = 512
_LOOK_AGAIN_S = 60.0
_REFUSED_S = 0.1
_OTHERS_MAY = 0o007
_log = logging.getLogger("hearthgate.http")


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """The files of a certificate, its chain behind it, and of its key; both PEM."""

    chain: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """Make a context of TLS 1.2 and later that has it.

        Raises:
            ConfigError: one of the files is not there, is no such thing, or everybody may read the key.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # WHY: no compression and no renegotiation are what the library begins with.
        context.set_alpn_protocols(["http/1.1"])
        self.load(context)
        return context

    def load(self, context: ssl.SSLContext) -> None:
        """Put it into a context; handshakes from now on have it.

        Raises:
            ConfigError: as `context` does.
        """
        try:
            if self.key.stat().st_mode & _OTHERS_MAY:
                raise ConfigError(f"`{self.key}` can be read by everybody", way_out="chmod o-rwx")
            context.load_cert_chain(self.chain, self.key, password=_no_password)
        except OSError as error:
            why = error.strerror if not isinstance(error, ssl.SSLError) else "no certificate and key that fit"
            raise ConfigError(
                f"TLS: `{self.chain}` and `{self.key}`: {why}", way_out="[http] tls_cert, tls_key"
            ) from None

    def seen(self) -> tuple[int, ...]:
        """Give what changes when one of the files does."""
        try:
            found = [path.stat() for path in (self.chain, self.key)]
        except OSError:
            return ()
        return tuple(number for each in found for number in (each.st_ino, each.st_mtime_ns, each.st_size))


class TlsDoor:
    """Takes connections and lets those in whose handshake comes to its end in time."""

    def __init__(self, certificate: Certificate, make: Callable[[], asyncio.Protocol]) -> None:
        self._certificate = certificate
        self._context = certificate.context()
        self._seen = certificate.seen()
        self._looked = 0.0
        self._make = make
        self._shaking: dict[asyncio.Task[None], None] = {}

    async def take(self, listener: socket.socket) -> NoReturn:
        """Take connections until this is cancelled."""
        loop = asyncio.get_running_loop()
        listener.settimeout(0)
        try:
            while True:
                try:
                    taken, _ = await loop.sock_accept(listener)
                except OSError as error:
                    # WHY: as without TLS: what fails is one connection, or passes when descriptors are free again.
                    _log.warning("a connection could not be taken: %s", error.strerror)
                    await asyncio.sleep(_REFUSED_S)
                    continue
                self._renew(loop.time())
                self._begin(taken)
        finally:
            for task in list(self._shaking):
                task.cancel()

    def _begin(self, taken: socket.socket) -> None:
        if len(self._shaking) >= _MOST_SHAKING:
            # SECURITY: nobody needs a key to begin a handshake; whoever is at it for the longest makes room.
            oldest = next(iter(self._shaking))
            del self._shaking[oldest]
            oldest.cancel()
        task = asyncio.create_task(self._shake(taken))
        self._shaking[task] = None
        task.add_done_callback(lambda done: self._shaking.pop(done, None))

    async def _shake(self, taken: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_HANDSHAKE_S):
                await loop.connect_accepted_socket(self._make, taken, ssl=self._context)
        except (OSError, TimeoutError) as error:
            _log.debug("a TLS handshake did not come to its end: %s", type(error).__name__)
            taken.close()
        except BaseException:
            taken.close()
            raise

    def _renew(self, now: float) -> None:
        """Take over a certificate that was renewed; what is wrong with it is told, and the one before stays."""
        if now - self._looked < _LOOK_AGAIN_S:
            return
        self._looked = now
        seen = self._certificate.seen()
        if seen == self._seen:
            return
        self._seen = seen
        try:
            # WHY: tried apart, for a context that took half of it would serve nobody.
            self._certificate.context()
            self._certificate.load(self._context)
        except ConfigError as error:
            _log.error("the certificate that is served stays: %s", error)
        else:
            _log.info("a renewed certificate is served")


def _no_password() -> bytes:
    raise ConfigError(
        "the key of the certificate has a password", way_out="keep it without one, readable by this user alone"
    )
