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

DISK = "/.disk"  # within a root that is being built: what holds all that a cell writes
_LOWER = "/.lower"
_BARRIER = "mount"
_PLAIN = ",redirect_dir=nofollow,metacopy=off,index=off,xino=off"  # so that what is written lies there as plain files


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


def show_writable(source: int, mount: Mount, new: str, number: int, uid: int) -> None:
    """Mount an open folder as `show` does, under a layer of the cell's own disk that takes what is written to it."""
    if not is_folder(source, mount):
        raise SandboxError(_BARRIER, f"`{mount.source}`: only a folder can be written to")
    lower, changed, work = new + _LOWER, f"{DISK}/changed-{number}", f"{DISK}/work-{number}"
    owned = os.fstat(source)
    for folder in (_LOWER, changed, work):
        os.mkdir(new + folder)
    os.chmod(new + changed, stat.S_IMODE(owned.st_mode) & 0o777)
    owner = uid if os.getuid() == 0 else owned.st_uid
    os.chown(new + changed, owner, uid if os.getuid() == 0 else -1)
    show(source, mount, lower, uid)
    # WHY: relative, for a blank or a comma in a path would be another option.
    before = os.open(".", os.O_PATH | os.O_CLOEXEC)
    os.chdir(new)
    layers = f"lowerdir={_LOWER[1:]},upperdir={changed[1:]},workdir={work[1:]}"
    whose = "" if os.getuid() == 0 else ",userxattr"
    try:
        flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
        kernel.mount("overlay", new + mount.target, "overlay", flags, layers + _PLAIN + whose)
    except OSError as error:
        # INVARIANT: a folder of the host is never written to directly, for nothing would bound how much.
        fix = "this kernel cannot layer it: grant `file_read`, and let the plugin write with `ctx.files`"
        raise SandboxError.from_os(_BARRIER, error, detail=f"`{mount.source}` to be written", fix=fix) from None
    os.fchdir(before)
    os.close(before)
    kernel.unmount(lower, kernel.MNT_DETACH)
    os.rmdir(lower)


def show(source: int, mount: Mount, target: str, uid: int) -> None:
    """Mount an open source on a target, without what is mounted below it; where root runs cells, its owner is `uid`."""
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY
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
