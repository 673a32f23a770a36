"""Runs one host program apart from the host; started as a script of its own, so it imports nothing of ours.

The program sees, read-only, the folders in which a system keeps its programs and what of /etc they need to start, and
nothing else of the host; it has no network, one empty folder to write to, no capability, a list of system calls that
are refused, and dies with everything it started when its first process ends.
"""

import ctypes
import json
import os
import resource
import signal
import socket
import stat
import struct
import sys
from pathlib import Path

_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = (
    0x00020000,
    0x04000000,
    0x08000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND, _MS_MOVE, _MS_REC, _MS_PRIVATE = (
    1,
    2,
    4,
    8,
    4096,
    8192,
    16384,
    1 << 18,
)
_SYS_MOUNT_SETATTR = 442  # the same on every architecture
_AT_RECURSIVE = 0x8000
_MOUNT_ATTR_RDONLY = 1
_AT_FDCWD = -100
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_MODE_FILTER = 2
_NOBODY = 65534
NOT_RUN = 125
NOT_A_PROGRAM = "exec: "
_MB = 1 << 20
_FOLDER = "/tmp"  # noqa: S108 (its own, and where programs expect to write)
# SECURITY: which file it reads is for its arguments to say, which no rule judges; so there is nothing else to be read.
_SYSTEM = frozenset(
    {"bin", "sbin", "usr", "lib", "lib32", "lib64", "libx32", "opt", "nix", "gnu", "etc", "dev", "proc"}
)
_OF_ETC = ("alternatives", "ld.so.cache", "localtime", "mime.types", "nsswitch.conf", "fonts", "ssl/certs")
_DEVICES = ("null", "zero", "full", "random", "urandom")
_LIMITS = {
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_NOFILE: 128,
    resource.RLIMIT_NPROC: 256,
    resource.RLIMIT_FSIZE: 64 * _MB,
    resource.RLIMIT_AS: 1024 * _MB,
}
_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def _mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    done = _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode())
    _checked(done, f"mount {target}")


def _die_with_parent() -> None:
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")


def _leave_the_host() -> None:
    uid, gid = os.geteuid(), os.getegid()
    spaces = _NEWNS | _NEWUTS | _NEWIPC | _NEWPID | _NEWNET
    _checked(_libc.unshare(spaces if uid == 0 else spaces | _NEWUSER), "unshare")
    if uid != 0:
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1", encoding="ascii")
    socket.sethostname("program")


def _arrange_files(hidden: list[str]) -> None:
    _mount("none", "/", flags=_MS_REC | _MS_PRIVATE)
    _mount("tmpfs", _FOLDER, "tmpfs", _MS_NOSUID | _MS_NOEXEC, "size=64k,mode=755")
    for name in _DEVICES:
        place = Path(_FOLDER, name)
        place.touch()
        _mount(f"/dev/{name}", str(place), flags=_MS_BIND)
    Path(_FOLDER, "fd").symlink_to("/proc/self/fd")
    _mount(_FOLDER, "/dev", flags=_MS_MOVE)
    _mount("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    for path in hidden:
        if Path(path).is_dir():
            _mount("tmpfs", path, "tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, "size=4k,mode=000")
        elif Path(path).exists():
            _mount("/dev/null", path, flags=_MS_BIND)
    _hide_the_rest()
    # struct mount_attr: what to set, what to clear, how events spread, a user namespace
    attributes = (ctypes.c_uint64 * 4)(_MOUNT_ATTR_RDONLY, 0, 0, 0)
    done = _libc.syscall(_SYS_MOUNT_SETATTR, _AT_FDCWD, b"/", _AT_RECURSIVE, attributes, ctypes.sizeof(attributes))
    _checked(done, "mount_setattr")
    _mount("tmpfs", _FOLDER, "tmpfs", _MS_NOSUID | _MS_NODEV, "size=64m,mode=777")
    os.chdir(_FOLDER)


def _hide_the_rest() -> None:
    """Leave of the host's folders those of its programs, and of /etc what programs need to start."""
    kept = {name: os.open(f"/etc/{name}", os.O_PATH | os.O_CLOEXEC) for name in _OF_ETC if Path("/etc", name).exists()}
    for folder in sorted(Path("/").iterdir()):
        if folder.name not in _SYSTEM and folder.is_dir() and not folder.is_symlink():
            _mount("tmpfs", str(folder), "tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, "size=4k,mode=755")
    _mount("tmpfs", "/etc", "tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, "size=64k,mode=755")
    for name, found in kept.items():
        place = Path("/etc", name)
        place.parent.mkdir(exist_ok=True)
        if stat.S_ISDIR(os.fstat(found).st_mode):
            place.mkdir()
        else:
            place.touch()
        _mount(f"/proc/self/fd/{found}", str(place), flags=_MS_BIND | _MS_REC)
        os.close(found)


def _refuse_calls(code: bytes) -> None:
    """Put a filter of system calls in force; what it refuses is refused to all that is started, too."""
    instructions = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(instructions))
    _checked(_libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.c_char_p(program), 0, 0), "prctl seccomp")


def _give_up_rights(cpu_s: int) -> None:
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    for limit, value in {**_LIMITS, resource.RLIMIT_CPU: cpu_s}.items():
        hard = resource.getrlimit(limit)[1]
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (most, most))
    if os.geteuid() == 0:
        # SECURITY: as root, what a program may read would be everything; leaving uid 0 drops every capability.
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)


def _pass_on(pid: int) -> int:
    while True:
        ended, status = os.wait()
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def main(order: dict[str, object], report: int) -> int:
    """Run what `order` says and give its exit status; what went wrong before is written to `report`."""
    _die_with_parent()
    _leave_the_host()
    first = os.fork()
    if first:
        os.close(report)
        os.close(int(str(order["program"])))
        return _pass_on(first)
    # From here on as process 1 of its own world: when it ends, the kernel ends all others in it.
    _die_with_parent()
    hidden = order["hidden"]
    _arrange_files([str(path) for path in hidden] if isinstance(hidden, list) else [])
    second = os.fork()
    if second:
        os.close(report)
        os.close(int(str(order["program"])))
        return _pass_on(second)
    _give_up_rights(int(str(order["cpu_s"])))
    _refuse_calls(bytes.fromhex(str(order["refused"])))
    argv = order["argv"]
    words = [str(word) for word in argv] if isinstance(argv, list) else []
    try:
        # SECURITY: by descriptor, so what was decided on is what runs.
        os.execve(int(str(order["program"])), words, {"PATH": "/usr/bin:/bin"})  # noqa: S606 (no shell is the point)
    except OSError as error:
        os.write(report, f"{NOT_A_PROGRAM}{error.strerror}".encode())
        return NOT_RUN


if __name__ == "__main__":
    REPORT = int(sys.argv[2])
    os.set_inheritable(REPORT, False)  # noqa: FBT003 (it takes no keyword)
    try:
        STATUS = main(json.loads(sys.argv[1]), REPORT)
    except OSError as error:
        os.write(REPORT, str(error).encode())
        STATUS = NOT_RUN
    os._exit(STATUS)
