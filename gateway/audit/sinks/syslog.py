"""Syslog messages over UDP (RFC 5426), TCP and TLS (octet counting, RFC 6587 and 5425), or a unix socket."""

import contextlib
import socket
import ssl

from gateway.audit.sinks.delivery import Batch, UndeliveredError
from gateway.audit.sinks.sink import Syslog

_TIMEOUT_S = 10.0


class SyslogTarget:
    """Sends messages to one receiver.

    Syslog has no answers: what the receiver's machine took may still be lost by it.
    """

    def __init__(self, target: Syslog) -> None:
        self._target = target
        self._socket: socket.socket | None = None

    def send(self, batch: Batch) -> None:
        """Send each message of a batch.

        Raises:
            UndeliveredError: they were not all taken.

        """
        try:
            if self._socket is None:
                self._socket = self._connect()
            for line in batch.messages:
                self._put(self._socket, line.rstrip(b"\n"))
        except OSError as error:
            self.close()
            raise UndeliveredError(f"the receiver cannot be reached: {error}") from None

    def _put(self, connected: socket.socket, message: bytes) -> None:
        if connected.type & socket.SOCK_DGRAM:
            # WHY: cut at the end, which is where the sentence and the leaf stand; the number stands first.
            connected.send(message[: self._target.max_bytes].decode("utf-8", "ignore").encode())
        else:
            connected.sendall(b"%d %b" % (len(message), message))

    def _connect(self) -> socket.socket:
        target = self._target
        if target.transport == "unix":
            return _connect_unix(target.path)
        if target.transport == "udp":
            family, kind, _, _, address = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_DGRAM)[0]
            connected = socket.socket(family, kind)
            connected.settimeout(_TIMEOUT_S)
            connected.connect(address)
            return connected
        connected = socket.create_connection((target.host, target.port), timeout=_TIMEOUT_S)
        if target.transport == "tls":
            return ssl.create_default_context().wrap_socket(connected, server_hostname=target.host)
        return connected

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None


def _connect_unix(path: str) -> socket.socket:
    """Connect to a datagram socket, as /dev/log is, else to a stream."""
    try:
        return _connect_kind(path, socket.SOCK_DGRAM)
    except OSError:
        return _connect_kind(path, socket.SOCK_STREAM)


def _connect_kind(path: str, kind: socket.SocketKind) -> socket.socket:
    connected = socket.socket(socket.AF_UNIX, kind)
    connected.settimeout(_TIMEOUT_S)
    try:
        connected.connect(path)
    except OSError:
        connected.close()
        raise
    return connected
