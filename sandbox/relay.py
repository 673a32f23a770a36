"""The one way out of a cell: a door on its own loopback, whose listening end is handed to whoever ordered the cell.

The trusted init makes the door while it still may, hands it over before the plugin exists, and keeps nothing of it:
from then on the kernel relays. Who speaks is known by which cell's door it came through, and by nothing else.
"""

import fcntl
import socket
import struct
from collections.abc import Mapping

from sandbox import handed
from sandbox.errors import SandboxError

ADDRESS, PORT = "127.0.0.1", 3128
CERTIFICATES = "/trust/cert.pem"  # where a cell is shown whom to trust
_URL = f"http://{ADDRESS}:{PORT}"
_PROXY: Mapping[str, str] = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), _URL)
_WAITING = 16  # connections that the kernel keeps until they are taken
_BUFFER_BYTES = 128 << 10  # of each direction of a connection; without a bound the kernel goes up to megabytes
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 0x1
_REQUEST = struct.Struct("16sh22x")


def environment(*, certificates: bool) -> Mapping[str, str]:
    """Give the environment by which ordinary clients find the door, and whom they may trust behind it."""
    return {**_PROXY, "SSL_CERT_FILE": CERTIFICATES} if certificates else _PROXY


def open_door() -> socket.socket:
    """Bring up the loopback of this process's own network namespace and listen there."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            answer = fcntl.ioctl(control, _GET_FLAGS, _REQUEST.pack(b"lo", 0))
            flags = _REQUEST.unpack(answer)[1]
            if not flags & _UP:
                fcntl.ioctl(control, _SET_FLAGS, _REQUEST.pack(b"lo", flags | _UP))
        door = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                door.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
            door.bind((ADDRESS, PORT))
            door.listen(_WAITING)
        except OSError:
            door.close()
            raise
    except OSError as error:
        raise SandboxError.from_os("relay", error, detail="the cell's own loopback") from None
    return door


def hand_over(door: socket.socket, descriptor: int) -> None:
    """Send the door through a stream's descriptor, before anybody else can write there, and let go of it."""
    with door:
        handed.hand_over(door.fileno(), descriptor, "relay")


def receive(channel: socket.socket) -> socket.socket:
    """Take the door that `hand_over` sent; it has arrived when the cell is ready."""
    return socket.socket(fileno=handed.take(channel, "relay"))
