"""The barrier of privileges: another user, a user namespace of its own, no capability, none to be gained."""

import os

from sandbox import kernel
from sandbox.errors import SandboxError

_LAST_CAPABILITY = "/proc/sys/kernel/cap_last_cap"
_AMBIENT_CLEAR_ALL = 4
_NO_ROOT_LOCKED = 0b1111_1111 & ~(1 << 4)  # every secure bit and its lock, but "keep capabilities" itself
_USERNS_FIX = "allow user namespaces (user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns)"


def last_capability() -> int:
    """Read how many capabilities the kernel knows."""
    with open(_LAST_CAPABILITY, encoding="ascii") as file:
        return int(file.read())


def become(uid: int) -> None:
    """Turn from the host's root into an ordinary user; where one is an ordinary user already, stay it."""
    if os.getuid() != 0:
        return
    try:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    except OSError as error:
        raise SandboxError.from_os("user", error, detail=f"uid {uid}") from None
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (uid, uid, uid):
        raise SandboxError("user", f"uid {uid} did not hold")


def enter_user_namespace(flags: int = 0, *, known_as: tuple[int, int] | None = None) -> None:
    """Enter a user namespace that knows this user alone (with `flags`: and other namespaces owned by it).

    `known_as`: the uid and gid that it has in there; the same as outside unless told.
    """
    uid, gid = os.getuid(), os.getgid()
    inner_uid, inner_gid = known_as or (uid, gid)
    try:
        # WHY: a process that changed its user owns its own /proc files again only when it is dumpable.
        kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
        kernel.unshare(kernel.CLONE_NEWUSER | flags)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{inner_uid} {uid} 1")
        _write("/proc/self/gid_map", f"{inner_gid} {gid} 1")
    except OSError as error:
        raise SandboxError.from_os("user namespace", error, fix=_USERNS_FIX) from None


def bar_gains(last: int) -> None:
    """Give up every way to gain a capability; those that this process holds it keeps."""
    try:
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        kernel.prctl(kernel.PR_SET_SECUREBITS, _NO_ROOT_LOCKED)
        for capability in range(last + 1):
            kernel.prctl(kernel.PR_CAPBSET_DROP, capability)
        kernel.prctl(kernel.PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL)
    except OSError as error:
        raise SandboxError.from_os("capabilities", error) from None


def drop_capabilities(uid: int | None = None) -> None:
    """Give up every capability, in every set; with `uid` turn into that user before."""
    try:
        if uid is not None:
            become(uid)
        kernel.clear_capabilities()
    except OSError as error:
        raise SandboxError.from_os("capabilities", error) from None


def drop_privileges(last: int, uid: int | None = None) -> None:
    """Give up every capability, in every set, and the ways to gain one; with `uid` turn into that user on the way."""
    bar_gains(last)
    drop_capabilities(uid)


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
