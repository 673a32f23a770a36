"""Tells what a plugin tries by raw system calls: the kernel asks the cell's trusted init before it goes on.

Nothing is allowed by it. What the filter refuses is answered with the same error as without it; what it lets pass is
sent on to the other barriers, whatever the init saw: the words in the caller's memory may have changed by then, so
they are good for a record and for nothing else. Where nobody answers any more, the kernel refuses.
"""

import ctypes
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Callable, Mapping

from sandbox import bpf, kernel
from sandbox.errors import SandboxError
from sandbox.spec import Program
from sandbox.witness import Witness

OPENING = ("open", "creat", "openat", "openat2")
FAMILIES = (2, 10)  # of sockets: IPv4, IPv6
# Refused to all cells, so they are in no table of what is allowed.
PROGRAMS: Mapping[str, Mapping[int, str]] = {
    "x86_64": {59: "execve", 322: "execveat"},
    "aarch64": {221: "execve", 281: "execveat"},
}
_ASK, _PASS = (bpf.answer(bpf.NOTIFY),), (bpf.answer(bpf.ALLOW),)
MOST = 64  # told of one cell, whatever it does
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SET_FILTER, _IS_AVAILABLE, _NEW_LISTENER = 1, 2, 1 << 3
_RECEIVE, _SEND = 0xC050_2100, 0xC018_2101
_QUESTION, _ANSWER = struct.Struct("=QIIiIQ6Q"), struct.Struct("=QqiI")
_CONTINUE = 1
_PATH_BYTES, _PAGE_BYTES = 1024, 4096
_WORD = 0xFFFF_FFFF
_AT_FDCWD = -100 & _WORD
_ADDRESSES: Mapping[int, struct.Struct] = {2: struct.Struct("!2xH4s"), 10: struct.Struct("!2xH4x16s")}
# What libraries of the system look for by themselves: nobody's wish, and of no use to people who read records.
_OF_THE_SYSTEM = (
    *("/etc/localtime", "/etc/ld.so.", "/etc/nsswitch.conf", "/etc/resolv.conf", "/etc/host", "/etc/gai.conf"),
    *("/etc/services", "/etc/protocols", "/etc/ssl/openssl.cnf", "/lib/", "/lib64/", "/usr/lib/", "/usr/lib64/"),
    *("/usr/local/lib/", "/usr/share/locale", "/usr/share/zoneinfo", "/sys/devices/system/cpu", "/sys/fs/cgroup"),
)


def build_filter(machine: str, calls: Mapping[str, tuple[int, str]], *, relay: bool) -> bytes:
    """Assemble the filter that asks; `calls` is the table of what cells may do, for the numbers."""
    families = [each for family in FAMILIES for each in bpf.when_equal(family, _ASK)]
    socket_block = (bpf.load(bpf.low_word_of(0)), *families, *_PASS)
    program: list[bpf.Instruction] = [bpf.load(bpf.NUMBER_AT)]
    for number, name in asked(machine, calls).items():
        # WHY: with a relay there are sockets for it, and what is tried with them is told by `connect`.
        if name != "socket" or not relay:
            program += bpf.when_equal(number, socket_block if name == "socket" else _ASK)
    return bpf.assemble((*program, *_PASS))


def asked(machine: str, calls: Mapping[str, tuple[int, str]]) -> Mapping[int, str]:
    """Name the calls that are asked about, by number."""
    named = (*OPENING, "connect", "socket")
    return {**{calls[name][0]: name for name in named if name in calls}, **PROGRAMS[machine]}


def is_available(machine: str) -> bool:
    """Tell whether this kernel asks."""
    action = ctypes.c_uint32(bpf.NOTIFY)
    try:
        kernel.syscall(_SECCOMP[machine], _IS_AVAILABLE, 0, ctypes.addressof(action))
    except OSError:
        return False
    return True


def apply(program: bytes, machine: str) -> int:
    """Put a filter in force as `seccomp.apply` does; gives the descriptor at which the kernel asks."""
    instructions = ctypes.create_string_buffer(program, len(program))
    pointer = ctypes.create_string_buffer(struct.pack("=H6xQ", len(program) // 8, ctypes.addressof(instructions)), 16)
    try:
        return kernel.syscall(_SECCOMP[machine], _SET_FILTER, _NEW_LISTENER, ctypes.addressof(pointer))
    except OSError as error:
        raise SandboxError.from_os("seccomp", error, detail="the filter was not taken") from None


class Listener:
    """Answers the kernel, and tells what a cell tried that some barrier of it refuses."""

    def __init__(
        self,
        descriptor: int,
        calls: Mapping[int, str],
        *,
        relay: bool,
        tell: Callable[[Mapping[str, object]], bool],
        program: Program | None = None,
    ) -> None:
        self.descriptor = descriptor
        self._calls = calls
        # What the other filters let pass, and other barriers judge.
        self._goes_on = frozenset((*OPENING, *(("connect",) if relay else ()), *(("execve",) if program else ())))
        self._programs = () if program is None else program.executables
        # WHY: its linker looks for each library in folder after folder, and it for what belongs to it beside itself.
        self._looked_for = _own_names(program)
        self._witness = Witness(tell, most=MOST)
        self._memory = _Memory()

    def answer(self) -> None:
        """Answer one question, which is there."""
        question = bytearray(_QUESTION.size)
        try:
            fcntl.ioctl(self.descriptor, _RECEIVE, question)
        except OSError:
            return  # WHY: who asked has ended meanwhile
        number, pid, _flags, call, _machine, _place, *arguments = _QUESTION.unpack(question)
        name = self._calls.get(call, "")
        try:
            if not self._witness.is_full:
                self._look(name, pid, arguments)
        except (OSError, ValueError, OverflowError, struct.error):
            pass  # WHY: what cannot be read in a caller's memory is not told; the answer does not depend on it
        finally:
            # SECURITY: by the call's name alone, the one that the filter judged; never by what was read.
            self._send(number, _error_of(name), goes_on=name in self._goes_on)

    def _send(self, number: int, error: int, *, goes_on: bool) -> None:
        answer = _ANSWER.pack(number, 0, 0, _CONTINUE) if goes_on else _ANSWER.pack(number, 0, -error, 0)
        try:
            fcntl.ioctl(self.descriptor, _SEND, answer)
        except OSError:
            return  # WHY: the same

    def _look(self, name: str, pid: int, arguments: list[int]) -> None:
        match name:
            case "open":
                self._file(self._memory.text(pid, arguments[0]), arguments[1])
            case "creat":
                self._file(self._memory.text(pid, arguments[0]), os.O_WRONLY)
            case "openat":
                self._file(_below(pid, arguments[0], self._memory.text(pid, arguments[1])), arguments[2])
            case "openat2":
                flags = struct.unpack("=Q", self._memory.read(pid, arguments[2], 8))[0]
                self._file(_below(pid, arguments[0], self._memory.text(pid, arguments[1])), flags)
            case "execve":
                if (program := self._memory.text(pid, arguments[0])) not in self._programs:
                    self._witness.note("system", "execute", program)
            case "execveat":
                self._witness.note("system", "execute", _below(pid, arguments[0], self._memory.text(pid, arguments[1])))
            case "connect":
                self._connect(self._memory.read(pid, arguments[1], 28))
            case "socket":
                self._witness.note("network", "read", f"socket({arguments[0] & _WORD}, {arguments[1] & _WORD})")

    def _file(self, path: str, flags: int) -> None:
        # WHY: a path that says nothing of the folder it starts from is looked up in the folder that cells start in.
        whole = os.path.join("/scratch", path)
        if not whole.startswith(_OF_THE_SYSTEM) and os.path.basename(whole) not in self._looked_for:
            self._witness.file(whole, flags & _WORD)

    def _connect(self, address: bytes) -> None:
        family = struct.unpack_from("=H", address)[0]
        if family in _ADDRESSES:
            port, raw = _ADDRESSES[family].unpack_from(address)
            self._witness.host(socket.inet_ntop(family, raw), port)


def _own_names(program: Program | None) -> frozenset[str]:
    if program is None:
        return frozenset()
    pth = (f"{os.path.basename(path)}._pth" for path in program.executables)
    return frozenset((*map(os.path.basename, program.places), *pth, "pyvenv.cfg", "pybuilddir.txt"))


def _error_of(name: str) -> int:
    """Give the error that the filter answers where nobody listens."""
    return errno.EAFNOSUPPORT if name == "socket" else errno.EPERM


def _below(pid: int, folder: int, path: str) -> str:
    if path.startswith("/") or folder & _WORD == _AT_FDCWD:
        return path
    return os.path.join(os.readlink(f"/proc/{pid}/fd/{folder & _WORD}"), path)


class _Memory:
    """The memory of the process that asked last, which is mostly the one that asks next."""

    def __init__(self) -> None:
        self._pid = 0
        self._file = -1

    def text(self, pid: int, place: int) -> str:
        data = b""
        while len(data) < _PATH_BYTES and b"\0" not in data:
            # WHY: page by page, for the text may end where the caller's memory does.
            start = place + len(data)
            data += (more := self.read(pid, start, min(_PATH_BYTES, _PAGE_BYTES - start % _PAGE_BYTES)))
            if not more:
                break
        return os.fsdecode(data.partition(b"\0")[0][:_PATH_BYTES])

    def read(self, pid: int, place: int, size: int) -> bytes:
        if pid == self._pid and (data := os.pread(self._file, size, place)):
            return data
        # WHY: of a process that has ended nothing can be read, and another may have got its number.
        if self._file >= 0:
            os.close(self._file)
        self._pid, self._file = 0, -1
        self._file = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        self._pid = pid
        return os.pread(self._file, size, place)
