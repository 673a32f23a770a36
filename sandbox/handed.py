"""Descriptors that a cell's trusted init hands to whoever ordered the cell, before the plugin's process exists."""

import socket
import struct

from sandbox.errors import SandboxError

_MARK = b"d"
_DESCRIPTOR = struct.Struct("i")


def hand_over(handed: int, descriptor: int, what: str) -> None:
    """Send a descriptor through a stream's descriptor, before anybody else can write there."""
    channel = socket.socket(fileno=descriptor)
    try:
        socket.send_fds(channel, [_MARK], [handed])
    except OSError as error:
        raise SandboxError.from_os(what, error, detail="it was not taken") from None
    finally:
        channel.detach()


def take(channel: socket.socket, what: str) -> int:
    """Take what `hand_over` sent; it has arrived when the cell is ready. What came first is taken first."""
    try:
        # SECURITY: one byte each, the first ones: sent before the plugin's process existed; no later one is taken.
        # WHY: not `recv_fds`, which passes no flags on.
        data, told, _flags, _address = channel.recvmsg(
            1, socket.CMSG_LEN(_DESCRIPTOR.size), socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
        )
    except OSError as error:
        raise SandboxError.from_os(what, error, detail="nothing was handed over") from None
    if data != _MARK or [each[:2] for each in told] != [(socket.SOL_SOCKET, socket.SCM_RIGHTS)]:
        raise SandboxError(what, "nothing was handed over")
    return int(_DESCRIPTOR.unpack(told[0][2])[0])
