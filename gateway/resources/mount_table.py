"""Where paths of the host really lie: a mount gives the same folder a second path."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_TABLE = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Lying:
    """A file system, and a path within it."""

    device: str
    path: str

    def holds(self, other: "Lying") -> bool:
        """Tell whether `other` is this place or lies below it."""
        return self.device == other.device and is_at_or_below(other.path, self.path)


@dataclass(frozen=True, slots=True)
class _Mount:
    place: str
    device: str
    root: str


class MountTable:
    """What is mounted where, at one moment."""

    def __init__(self, mounts: Sequence[_Mount]) -> None:
        self._mounts = mounts

    def lying(self, path: str) -> Lying:
        """Tell where a path without symbolic links lies."""
        found = _Mount("/", "", "/")
        for mount in self._mounts:
            # WHY: of two at the same place the later one lies on top.
            if is_at_or_below(path, mount.place) and len(mount.place) >= len(found.place):
                found = mount
        return Lying(found.device, _joined(found.root, path[len(found.place.rstrip("/")) :]))

    def below(self, path: str) -> Iterator[str]:
        """Name the places below a path where something is mounted."""
        for mount in self._mounts:
            if mount.place != path and is_at_or_below(mount.place, path):
                yield mount.place


def read_mount_table() -> MountTable:
    """Read what is mounted in this process's view of the host."""
    mounts = []
    for line in _TABLE.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        _id, _parent, device, root, place = line.split(" ")[:5]
        mounts.append(_Mount(_unescaped(place), device, _unescaped(root)))
    return MountTable(mounts)


def is_at_or_below(path: str, folder: str) -> bool:
    """Tell whether a path is `folder` or lies in it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _joined(root: str, rest: str) -> str:
    return root.rstrip("/") + rest or "/"


def _unescaped(text: str) -> str:
    # The kernel spells blanks and backslashes of a name in octal.
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), text)
