"""The trace that a request belongs to, as W3C Trace Context spells it in a header `traceparent`."""

import re
from typing import Self

from msgspec import Struct

TRACEPARENT, TRACESTATE = "traceparent", "tracestate"
_MAX_CHARS = 512
_FIRST_VERSION = "00"
_NO_VERSION = "ff"
_SAMPLED = 1
_HEADER = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII | re.DOTALL)


class Trace(Struct, frozen=True, kw_only=True):
    """A trace, and the step of it that asks; without that step there is nothing to hand on."""

    id: str
    parent: str | None = None
    sampled: bool = False

    @classmethod
    def parse(cls, header: str) -> Self | None:
        """Give what a `traceparent` says; None where the standard wants it to be ignored."""
        found = _HEADER.fullmatch(header) if len(header) <= _MAX_CHARS else None
        if found is None or found[1] == _NO_VERSION or (found[1] == _FIRST_VERSION and found[5] is not None):
            return None
        # WHY: a version to come says the same in its first four members, and may say more behind them.
        trace_id, parent, flags = found[2], found[3], int(found[4], 16)
        if not (trace_id.strip("0") and parent.strip("0")):
            return None
        return cls(id=trace_id, parent=parent, sampled=bool(flags & _SAMPLED))

    @property
    def header(self) -> str | None:
        """The `traceparent` that hands it on."""
        if self.parent is None:
            return None
        return f"{_FIRST_VERSION}-{self.id}-{self.parent}-{int(self.sampled):02x}"
