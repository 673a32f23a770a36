"""Opening a path component by component, so that nothing can be swapped between looking and opening."""

import ctypes
import errno
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from gateway.errors import ConflictError, DeniedError, HearthgateError, MalformedError, NotFoundError, UnavailableError

Identity = tuple[int, int]  # device and inode
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# SECURITY: the kernel's own file systems, wherever they are mounted: each name in them is a switch or a secret.
_KERNEL_FILE_SYSTEMS = frozenset(
    {
        0x9FA0,  # proc
        0x62656572,  # sysfs
        0x1CD1,  # devpts
        0x27E0EB,  # cgroup
        0x63677270,  # cgroup2
        0x64626720,  # debugfs
        0x74726163,  # tracefs
        0x73636673,  # securityfs
        0x62656570,  # configfs
        0xF97CFF8C,  # selinuxfs
        0xCAFE4A11,  # bpf
        0x6E736673,  # nsfs
        0x6165676C,  # pstore
        0xDE5E81E4,  # efivarfs
        0x42494E4D,  # binfmt_misc
        0x19800202,  # mqueue
    }
)
_TOLD: Mapping[int, tuple[type[HearthgateError], str]] = {
    errno.ENOENT: (NotFoundError, "does not exist"),
    errno.ENOTDIR: (NotFoundError, "is not within a folder, or is none"),
    errno.ENAMETOOLONG: (NotFoundError, "is longer than any path"),
    errno.ELOOP: (ConflictError, "leads through a symbolic link that was not there when it was decided on"),
    errno.EISDIR: (DeniedError, "is a folder"),
    errno.EACCES: (DeniedError, "is closed to the gateway by the host"),
    errno.EPERM: (DeniedError, "is closed to the gateway by the host"),
    errno.EROFS: (DeniedError, "lies on a read-only file system"),
}
_STATFS_BYTES = 256  # more than struct statfs has anywhere
_UINT32 = 0xFFFFFFFF
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn what the system says of `path` into an error that a person understands."""
    try:
        yield
    except OSError as error:
        raise _error_for(error, path) from None
    except ValueError:
        raise MalformedError("a path with a NUL or with what is not Unicode text") from None


def _error_for(error: OSError, path: Path) -> HearthgateError:
    known = _TOLD.get(error.errno or 0)
    if known is None:
        return UnavailableError(f"`{path}`: {os.strerror(error.errno or 0).lower()}")
    kind, words = known
    return kind(f"`{path}` {words}")


@contextmanager
def open_folder(path: Path, forbidden: Collection[Identity] = ()) -> Iterator[int]:
    """Give a descriptor of the folder at the resolved `path`, reached without following one symbolic link.

    Raises:
        DeniedError: one of the folders on the way is among `forbidden`, by whatever name it is reached.
        ConflictError: a part of the path became a symbolic link.
        NotFoundError: there is no such folder.

    """
    with told(path):
        folder = os.open("/", _FOLDER)
        try:
            for name in path.parts[1:]:
                inner = _enter(folder, name, path)
                os.close(folder)
                folder = inner
                # SECURITY: by identity, for a bind mount gives the same folder a second path.
                if identity_of(os.fstat(folder)) in forbidden:
                    raise DeniedError(f"`{path}` is never within a plugin's reach")
            refuse_kernel_file_system(folder, path)
            yield folder
        finally:
            os.close(folder)


def _enter(folder: int, name: str, path: Path) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=folder)
    except NotADirectoryError:
        # With O_DIRECTORY and O_NOFOLLOW the kernel says "not a folder" of a symbolic link, too.
        if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise OSError(errno.ELOOP, "symbolic link", str(path)) from None
        raise


@contextmanager
def open_regular(folder: int, name: str, path: Path) -> Iterator[int]:
    """Give a readable descriptor of the regular file `name` in `folder`; anything else is never opened.

    Raises:
        DeniedError: it is a device, a pipe, a socket or a folder.
        ConflictError: it is a symbolic link.
        NotFoundError: there is none.

    """
    with told(path):
        # SECURITY: O_PATH opens nothing yet; opening a device or a pipe for reading can already do harm.
        handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            refuse_special(os.fstat(handle), path)
            refuse_kernel_file_system(handle, path)
            # The same inode, whatever the name means by now.
            file = os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        finally:
            os.close(handle)
        try:
            yield file
        finally:
            os.close(file)


def refuse_special(status: os.stat_result, path: Path) -> None:
    """Let regular files pass.

    Raises:
        DeniedError: it is a device, a pipe, a socket or a folder.
        ConflictError: it is a symbolic link.

    """
    if stat.S_ISLNK(status.st_mode):
        raise OSError(errno.ELOOP, "symbolic link", str(path))
    if not stat.S_ISREG(status.st_mode):
        raise DeniedError(f"`{path}` is not a regular file")


def refuse_kernel_file_system(descriptor: int, path: Path) -> None:
    """Let file systems that hold files pass.

    Raises:
        DeniedError: it is one of the kernel's windows, as proc.

    """
    buffer = ctypes.create_string_buffer(_STATFS_BYTES)
    # `fstatfs` takes no O_PATH descriptor before Linux 3.12; f_type is its first member everywhere we run.
    if _libc.fstatfs(descriptor, buffer) != 0:
        raise OSError(ctypes.get_errno(), "fstatfs", str(path))
    kind = ctypes.c_long.from_buffer(buffer).value & _UINT32
    if kind in _KERNEL_FILE_SYSTEMS:
        raise DeniedError(f"`{path}` is never within a plugin's reach")


def identity_of(status: os.stat_result) -> Identity:
    """Give what stays the same of a file under all its names."""
    return status.st_dev, status.st_ino
