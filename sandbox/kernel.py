"""The system calls that Python has no function for."""

import ctypes
import os
import platform
import signal
import struct

from sandbox.errors import SandboxError

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
# WHY: what forks must keep the interpreter's lock, which a call through `CDLL` gives away.
_locked = ctypes.PyDLL(None, use_errno=True)
_locked.syscall.restype = ctypes.c_long

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 0x1, 0x2, 0x4, 0x8
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
MNT_DETACH = 0x2

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP = 1, 4, 22, 24
PR_SET_SECUREBITS, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 28, 36, 38, 47

_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
# The same number on every architecture since Linux 5.0.
_OPEN_TREE, _MOVE_MOUNT, _CLONE3, _CLOSE_RANGE, _OPENAT2, _MOUNT_SETATTR = 428, 429, 435, 436, 437, 442
_CLONE_INTO_CGROUP = 0x2_0000_0000
_AT_EMPTY_PATH, _OPEN_TREE_CLONE, _MOVE_MOUNT_F_EMPTY_PATH = 0x1000, 1, 4
_ATTR_IDMAP = 0x0010_0000
_RESOLVE_NO_LINKS = 0x02 | 0x04  # neither symbolic nor magic ones
_CAPABILITY_VERSION_3 = 0x20080522
_MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}

Argument = int | bytes | None


def machine() -> str:
    """Name this machine's architecture as the system call tables do."""
    name = platform.machine().lower()
    if name not in _MACHINES:
        raise SandboxError("seccomp", f"no system call table for `{name}`: x86_64 and aarch64 are known")
    return _MACHINES[name]


def syscall(number: int, *arguments: Argument) -> int:
    """Make a system call by number."""
    result = int(_libc.syscall(ctypes.c_long(number), *(_as_c(each) for each in arguments)))
    return _checked(result, None)


def mount(source: str, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    """Attach a file system."""
    _call("mount", target, os.fsencode(source), os.fsencode(target), _text(kind), flags, _text(options))


def unmount(target: str, flags: int = 0) -> None:
    """Detach a file system."""
    _call("umount2", target, target.encode(), flags)


def set_mount_flags(target: str, flags: int, *, recursive: bool = True) -> None:
    """Add flags (MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC) to a mount, keeping the ones it has."""
    # WHY: a remount would have to name every flag the host locked; this call only adds.
    attributes = struct.pack("=QQQQ", flags, 0, 0, 0)
    how = _AT_RECURSIVE if recursive else 0
    try:
        syscall(_MOUNT_SETATTR, _AT_FDCWD, os.fsencode(target), how, attributes, len(attributes))
    except OSError as error:
        raise OSError(error.errno, error.strerror, target) from None


def open_without_links(path: str) -> int:
    """Open a path as a mere place, following not one link on the way."""
    how = struct.pack("=QQQ", os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_NO_LINKS)
    try:
        return syscall(_OPENAT2, _AT_FDCWD, os.fsencode(path), how, len(how))
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None


def copy_mount(place: int) -> int:
    """Take a copy of the mount at an open place, without the mounts below it; it is attached nowhere yet."""
    return syscall(_OPEN_TREE, place, b"", _AT_EMPTY_PATH | _OPEN_TREE_CLONE | os.O_CLOEXEC)


def set_copy_flags(copy: int, flags: int, owners: int | None = None) -> None:
    """Add flags to a mount that is attached nowhere yet; `owners`: a user namespace by which files change owner."""
    attributes = struct.pack("=QQQQ", flags | (0 if owners is None else _ATTR_IDMAP), 0, 0, owners or 0)
    syscall(_MOUNT_SETATTR, copy, b"", _AT_EMPTY_PATH, attributes, len(attributes))


def attach_mount(copy: int, target: str) -> None:
    """Attach a mount that was attached nowhere."""
    try:
        syscall(_MOVE_MOUNT, copy, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH)
    except OSError as error:
        raise OSError(error.errno, error.strerror, target) from None


def pivot_root(new: str, old: str) -> None:
    """Make `new` the root of this mount namespace and hang the old one at `old`."""
    _call("pivot_root", new, new.encode(), old.encode())


def unshare(flags: int) -> None:
    """Leave namespaces for fresh ones."""
    _call("unshare", None, flags)


def enter_namespace(descriptor: int, kind: int) -> None:
    """Enter the namespace that a descriptor stands for."""
    _call("setns", None, descriptor, kind)


def fork_into(group: int) -> int:
    """Fork a process of one thread as `os.fork` does, the child being born in a control group of v2.

    `group`: a descriptor of its folder. Raises OSError where the kernel, or what confines this process, knows none.
    """
    # clone3(2): flags, six places that stay empty but for the signal, two more, and the group
    words = struct.pack("=11Q", _CLONE_INTO_CGROUP, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, group)
    _locked.PyOS_BeforeFork()
    pid = int(_locked.syscall(ctypes.c_long(_CLONE3), words, ctypes.c_size_t(len(words))))
    if pid == 0:
        _locked.PyOS_AfterFork_Child()
        return 0
    number = ctypes.get_errno()
    _locked.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(number, os.strerror(number))
    return pid


def prctl(option: int, *arguments: int | bytes) -> int:
    """Set a property of this process."""
    padded = (*arguments, 0, 0, 0, 0)[:4]
    return _call("prctl", None, option, *(each if isinstance(each, bytes) else ctypes.c_ulong(each) for each in padded))


def close_from(first: int) -> None:
    """Close every descriptor from `first` on."""
    syscall(_CLOSE_RANGE, first, 0x7FFF_FFFF, 0)


def clear_capabilities() -> None:
    """Give up every capability that this thread holds."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    _call("capset", None, header, struct.pack("=6I", 0, 0, 0, 0, 0, 0))


def _call(name: str, path: str | None, *arguments: object) -> int:
    return _checked(int(getattr(_libc, name)(*arguments)), path)


def _checked(result: int, path: str | None) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return result


def _as_c(value: Argument) -> object:
    return ctypes.c_long(value) if isinstance(value, int) else value


def _text(value: str | None) -> bytes | None:
    return None if value is None else value.encode()
