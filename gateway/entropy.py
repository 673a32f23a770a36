"""Random bytes of the machine, asked for many at a time: each asking lets other threads run first."""

import os
from threading import Lock

_ASKED_BYTES = 4096
_lock = Lock()
_kept = bytearray()


def random_bytes(count: int) -> bytes:
    """Give `count` bytes that nobody can foretell, as `os.urandom` does."""
    with _lock:
        if len(_kept) < count:
            _kept.extend(os.urandom(max(count, _ASKED_BYTES)))
        # INVARIANT: what was given is kept no longer, so that none is given twice.
        given = bytes(_kept[-count:]) if count else b""
        del _kept[len(_kept) - count :]
        return given


# SECURITY: a process that was forked would give what its parent gives.
os.register_at_fork(after_in_child=_kept.clear)
