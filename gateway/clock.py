"""Time and fresh ids: the only place that asks for them."""

import threading
import time
from datetime import UTC, datetime

from gateway.entropy import random_bytes

_RANDOM_BITS = 74
_STEP_BYTES = 4
_FRESH_BYTES = 9  # below half of what fits, so that there is room to count up
_lock = threading.Lock()
_last_ms = 0
_last_random = 0


def now() -> datetime:
    """Give the present moment in UTC."""
    return datetime.now(UTC)


def new_id() -> str:
    """Give a UUIDv7 (RFC 9562, 5.7) that sorts after every one given before by this process."""
    global _last_ms, _last_random  # noqa: PLW0603 (ids of one process grow; this is where the last one is kept)
    with _lock:
        at_ms = time.time_ns() // 1_000_000
        if at_ms > _last_ms:
            _last_ms = at_ms
            _last_random = int.from_bytes(random_bytes(_FRESH_BYTES))
        else:
            _last_random += 1 + int.from_bytes(random_bytes(_STEP_BYTES))
            if _last_random >> _RANDOM_BITS:
                _last_ms += 1
                _last_random = int.from_bytes(random_bytes(_FRESH_BYTES))
        high, low = _last_random >> 62, _last_random & ((1 << 62) - 1)
        number = (_last_ms << 80) | (0x7 << 76) | (high << 64) | (0b10 << 62) | low
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
