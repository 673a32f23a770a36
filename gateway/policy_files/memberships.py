"""What the gateway itself says of who belongs to what, as a file that stock Casbin reads beside the policy's own."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from gateway.policy.encode import encode_field

MEMBERSHIPS = "memberships.csv"
_HEAD = "# Written by the gateway whenever another policy set comes into force; an edit of it changes nothing.\n"


class MembershipsFile:
    """`memberships.csv` in a folder; it is written, and never read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._said: Mapping[str, Sequence[str]] | None = None

    def say(self, memberships: Mapping[str, Sequence[str]]) -> None:
        """Make it say this, whole or not at all, unless this was the last that it was made to say.

        Raises:
            OSError: it cannot be written.
        """
        if self._said is not memberships and self._said != memberships:
            self._write(memberships)
            # INVARIANT: only what was written counts as said, so that the next try mends one that failed.
            self._said = memberships

    def _write(self, memberships: Mapping[str, Sequence[str]]) -> None:
        lines = (f"g, {encode_field(who)}, {whole}\n" for who in sorted(memberships) for whole in memberships[who])
        fresh = self._folder / f".{MEMBERSHIPS}.new"
        try:
            # SECURITY: a link, a pipe or an open mode that lies there is no file of ours.
            fresh.unlink(missing_ok=True)
            # WHY: not synced: what is lost in a power cut is written anew by the next start.
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write((_HEAD + "".join(lines)).encode())
            fresh.replace(self._folder / MEMBERSHIPS)
        except OSError:
            with suppress(OSError):
                # SECURITY: who is erased later would be looked for in the file alone, not in half of it.
                fresh.unlink()
            raise
