"""Tells the gateway, from within the plugin's own process, what its code tried that the cell refuses.

What the kernel refuses is refused without this; it only lets people see it. A plugin that hides from it, hides what
it could not do anyway; one that lies, tells of refusals that never were. So nothing is ever allowed by what is told.
"""

import os
import sys
from collections.abc import Callable, Mapping

from sandbox import frames, relay

MOST = 16  # of one call
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_OWN = ("/plugin/", "/scratch/", "/tmp/", "/proc/", "/dev/")  # noqa: S108  # its scratch folder, within the cell
# WHY: who prints a traceback looks for the source of this very package, which no cell has.
_HERE = os.path.dirname(os.path.abspath(__file__)) + "/"
_PROGRAMS = frozenset({"subprocess.Popen", "os.exec", "os.posix_spawn"})
_FOLDERS = frozenset({"os.listdir", "os.scandir"})
_HOSTS = frozenset({"socket.getaddrinfo", "socket.gethostbyname", "socket.connect"})

Tell = Callable[[Mapping[str, object]], bool]  # False: not now, try again


class Witness:
    """Sees what the code of one process tries, as the interpreter itself announces it."""

    def __init__(self, tell: Tell, *, most: int = MOST) -> None:
        self._tell = tell
        self._most = most
        self._owner = os.getpid()
        self._told: set[tuple[str, ...]] = set()
        self._waiting: list[dict[str, object]] = []
        self._mounts: tuple[tuple[str, bool], ...] | None = None  # places and whether they can be written

    def watch(self) -> None:
        """Look from now on; it cannot be undone."""
        sys.addaudithook(self._see)

    def begin(self, tell: Tell) -> None:
        """Tell what is seen from now on to another call's listener."""
        self._tell = tell
        self._told.clear()
        self._waiting.clear()

    @property
    def is_full(self) -> bool:
        """Whether it tells nothing more."""
        return len(self._told) >= self._most

    def flush(self) -> None:
        """Tell what could not be told when it happened."""
        while self._waiting and self._tell(self._waiting[0]):
            del self._waiting[0]

    def _see(self, event: str, args: tuple[object, ...]) -> None:
        if event == "open":
            self.file(args[0], args[2] if len(args) > 2 else 0)  # noqa: PLR2004  # path, mode, flags
        elif event in _FOLDERS:
            self.file(args[0], 0)
        elif event in _HOSTS:
            self._announced(event, args)
        elif event in _PROGRAMS:
            self.note("system", "execute", _text(args[0]))

    def file(self, path: object, flags: object) -> None:
        """Tell of a file that is opened, if the cell does not have it, or not in that way."""
        text = _text(path)
        writes = isinstance(flags, int) and bool(flags & _WRITING)
        if not text or text.startswith(_HERE) or (text.startswith(_OWN) and not writes):
            return
        whole = os.path.abspath(text)
        if not self._is_seen(whole, writes=writes):
            self.note("file", "write" if writes else "read", whole)

    def _announced(self, event: str, args: tuple[object, ...]) -> None:
        address = args[1] if event == "socket.connect" and len(args) > 1 else args
        if not isinstance(address, tuple) or not address or not isinstance(address[0], str | bytes):
            return
        self.host(_text(address[0]), address[1] if len(address) > 1 else None)

    def host(self, host: str, port: object) -> None:
        """Tell of a host that is looked up or connected to, but for the cell's own door."""
        if (host, port) != (relay.ADDRESS, relay.PORT):
            literal = f"[{host}]" if ":" in host else host
            self.note("network", "read", literal if port in {None, 0, ""} else f"{literal}:{port}")

    def _is_seen(self, path: str, *, writes: bool) -> bool:
        if self._mounts is None:
            with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
                parts = [line.split(" ") for line in table]
            self._mounts = tuple((each[4], "rw" in each[5].split(",")) for each in parts)
        real = os.path.realpath(path)
        place, can_write = "/", False
        for each in self._mounts:
            if len(each[0]) >= len(place) and (real == each[0] or real.startswith(each[0].rstrip("/") + "/")):
                place, can_write = each
        return place != "/" and (can_write or not writes)

    def note(self, kind: str, level: str, scope: str) -> None:
        """Tell of a try, once."""
        found = (kind, level, scope)
        # WHY: children share the hook, and only the first process speaks with the gateway.
        if not scope or found in self._told or self.is_full or os.getpid() != self._owner:
            return
        self._told.add(found)
        self._waiting.append({"t": frames.REFUSED, "kind": kind, "level": level, "scope": scope[:1024]})
        self.flush()


def _text(value: object) -> str:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, bytes):
        value = os.fsdecode(value)
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""
