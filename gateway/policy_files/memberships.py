"""What the gateway itself says of who belongs to what, as a file that stock Casbin reads beside the policy's own."""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from gateway.policy.encode import encode_field

MEMBERSHIPS = "memberships.csv"
_writing = threading.Lock()
_HEAD = "# Written by the gateway whenever another policy set comes into force; an edit of it changes nothing.\n"


def write_memberships(data: Path, current: Callable[[], Mapping[str, Sequence[str]]]) -> None:
    """Write `memberships.csv` in the folder `data`, if it says something else: whole, or not at all.

    Raises:
        OSError: it cannot be written.
    """
    with _writing:
        # INVARIANT: asked for when it is written, so that what was in force earlier is never written later.
        _write(data, current())


def _write(data: Path, memberships: Mapping[str, Sequence[str]]) -> None:
    lines = (f"g, {encode_field(who)}, {whole}\n" for who in sorted(memberships) for whole in memberships[who])
    text = (_HEAD + "".join(lines)).encode()
    path = data / MEMBERSHIPS
    with suppress(FileNotFoundError):
        if path.read_bytes() == text:
            return
    fresh = path.with_name(f".{MEMBERSHIPS}.new")
    # WHY: not synced: what is lost in a power cut is written anew by the next start.
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)
    fresh.replace(path)
