"""The barrier of paths: a second wall behind the mounts, kept by another part of the kernel."""

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from sandbox import kernel
from sandbox.errors import SandboxError

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_PATH_BENEATH, _NET_PORT = 1, 2

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_CHAR, _MAKE_BLOCK, _IOCTL_DEV = 1 << 6, 1 << 11, 1 << 15
_FILE_RIGHTS_BY_ABI = {1: 13, 2: 14, 3: 15, 4: 15}  # so many of the lowest bits; 16 from ABI 5 on
_RIGHTS_OF_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | 1 << 14 | _IOCTL_DEV
_NET_ABI, _SCOPE_ABI = 4, 6
_CONNECT_TCP, _ALL_NET, _ALL_SCOPES = 0b10, 0b11, 0b11

READ = READ_FILE | READ_DIR
WRITE = ~(EXECUTE | _MAKE_CHAR | _MAKE_BLOCK | _IOCTL_DEV)


@dataclass(frozen=True, slots=True)
class Reach:
    """What may be done at and below a path."""

    path: str
    rights: int


def abi() -> int:
    """Tell which version of Landlock the kernel offers; 0: none."""
    try:
        return kernel.syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)
    except OSError:
        return 0


def restrict(reaches: Iterable[Reach], *, connect_port: int | None = None) -> None:
    """Leave this process, for good, only what is listed; no signal or socket out of the cell.

    Of TCP it keeps connections to `connect_port`, or nothing.

    Where the kernel has no Landlock nothing happens: the probe tells so.
    """
    version = abi()
    if version == 0:
        return
    handled = (1 << _FILE_RIGHTS_BY_ABI.get(version, 16)) - 1
    network = _ALL_NET if version >= _NET_ABI else 0
    scopes = _ALL_SCOPES if version >= _SCOPE_ABI else 0
    attributes = struct.pack("=QQQ", handled, network, scopes)[: _size_of(version)]
    try:
        ruleset = kernel.syscall(_CREATE_RULESET, attributes, len(attributes), 0)
        try:
            for reach in reaches:
                _add(ruleset, reach, handled)
            if connect_port is not None and network:
                rule = struct.pack("=QQ", _CONNECT_TCP, connect_port)
                kernel.syscall(_ADD_RULE, ruleset, _NET_PORT, rule, 0)
            kernel.syscall(_RESTRICT_SELF, ruleset, 0)
        finally:
            os.close(ruleset)
    except OSError as error:
        raise SandboxError.from_os("landlock", error) from None


def _size_of(version: int) -> int:
    if version >= _SCOPE_ABI:
        return 24
    return 16 if version >= _NET_ABI else 8


def _add(ruleset: int, reach: Reach, handled: int) -> None:
    place = os.open(reach.path, os.O_PATH | os.O_CLOEXEC)
    try:
        rights = reach.rights & handled
        if not os.path.isdir(reach.path):
            rights &= _RIGHTS_OF_A_FILE
        kernel.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, place), 0)
    finally:
        os.close(place)
