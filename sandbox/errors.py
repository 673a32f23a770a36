"""What can go wrong while a cell is made or spoken with."""

import errno as errnos
import os
from collections.abc import Mapping
from typing import Self


class SandboxError(Exception):
    """A barrier could not be raised, so nothing ran; `str()` names the barrier, the reason and the way out."""

    def __init__(self, barrier: str, detail: str, *, errno: int | None = None, fix: str = "") -> None:
        self.barrier = barrier
        self.detail = detail
        self.errno = errno
        self.fix = fix
        super().__init__(self._sentence())

    @classmethod
    def from_os(cls, barrier: str, error: OSError, *, detail: str = "", fix: str = "") -> Self:
        """Say which barrier a refused system call belongs to."""
        what = detail or (f"`{error.filename}`" if error.filename else "refused by the kernel")
        return cls(barrier, what, errno=error.errno, fix=fix)

    @classmethod
    def from_json(cls, told: Mapping[str, object]) -> Self:
        """Rebuild the error that another process of the sandbox reported."""
        number = told.get("errno")
        return cls(
            str(told.get("barrier", "cell")),
            str(told.get("detail", "no reason given")),
            errno=number if isinstance(number, int) else None,
            fix=str(told.get("fix", "")),
        )

    def as_json(self) -> dict[str, object]:
        """Give the shape in which one process of the sandbox tells another."""
        return {"barrier": self.barrier, "detail": self.detail, "errno": self.errno, "fix": self.fix}

    def _sentence(self) -> str:
        text = f"{self.barrier}: {self.detail}"
        if self.errno is not None:
            text += f" ({errnos.errorcode.get(self.errno, self.errno)}: {os.strerror(self.errno).lower()})"
        return f"{text}; {self.fix}" if self.fix else text


class ProtocolError(Exception):
    """The other side sent what is no frame; nothing more can be believed of this connection."""
