"""Files and folders of the host that a cell is shown: what was judged, and nothing that came in its place."""

import errno
import os
import socket
import stat
from contextlib import suppress

from sandbox import identity, kernel
from sandbox.errors import SandboxError
from sandbox.kernel import MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY
from sandbox.spec import Mount

_BARRIER = "mount"


def open_source(mount: Mount) -> int:
    """Open what a mount shows, to be mounted by this very descriptor.

    Raises:
        SandboxError: it is not there, is not what was judged, or a link stands in its way.
    """
    try:
        source = kernel.open_without_links(mount.source)
    except OSError as error:
        # INVARIANT: a mount that is missing ends the cell; it is never left out.
        raise SandboxError.from_os(_BARRIER, error, detail=f"`{mount.source}`") from None
    status = os.fstat(source)
    # SECURITY: judged by the gateway, mounted here: between the two the path may have come to mean something else.
    if mount.identity not in {None, (status.st_dev, status.st_ino)}:
        os.close(source)
        raise SandboxError(_BARRIER, f"`{mount.source}` is not what it was when it was judged", fix="call again")
    return source


def is_folder(source: int, mount: Mount) -> bool:
    """Tell a folder from a plain file.

    Raises:
        SandboxError: it is neither.
    """
    kind = os.fstat(source).st_mode
    if not stat.S_ISDIR(kind) and not stat.S_ISREG(kind):
        raise SandboxError(_BARRIER, f"`{mount.source}`: only folders and plain files can be shown in a cell")
    return stat.S_ISDIR(kind)


def show(source: int, mount: Mount, target: str, uid: int) -> None:
    """Mount an open source on a target, without what is mounted below it; where root runs cells, its owner is `uid`."""
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC | (0 if mount.writable else MS_RDONLY)
    try:
        copy = kernel.copy_mount(source)
    except OSError as error:
        # WHY: an ordinary user cannot look under what is mounted on folders of the host.
        fix = "nothing may be mounted below it" if error.errno == errno.EINVAL else ""
        raise SandboxError.from_os(_BARRIER, error, detail=f"`{mount.source}`", fix=fix) from None
    _set_flags(copy, flags, os.fstat(source), uid)
    kernel.attach_mount(copy, target)
    os.close(copy)
    os.close(source)


def _set_flags(copy: int, flags: int, owned: os.stat_result, uid: int) -> None:
    if os.getuid() != 0:
        kernel.set_copy_flags(copy, flags)
        return
    owners = _owners(owned, uid)
    try:
        kernel.set_copy_flags(copy, flags, owners)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # WHY: file systems that cannot change owners (as those of networks) show what anybody may read.
        kernel.set_copy_flags(copy, flags)
    finally:
        os.close(owners)


def _owners(owned: os.stat_result, uid: int) -> int:
    """Make a user namespace that knows one user, `uid`, as the owner of what is shown; everyone else is nobody."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        try:
            identity.become(uid)
            identity.enter_user_namespace(known_as=(owned.st_uid, owned.st_gid))
            made = os.open("/proc/self/ns/user", os.O_RDONLY | os.O_CLOEXEC)
            socket.send_fds(theirs, [b"1"], [made])
        finally:
            os._exit(0)
    theirs.close()
    with ours:
        _data, descriptors, _flags, _address = socket.recv_fds(ours, 1, 1)
    with suppress(ChildProcessError):
        os.waitpid(child, 0)
    if not descriptors:
        raise SandboxError(_BARRIER, "no user namespace for the owner of what is shown could be made")
    return descriptors[0]
