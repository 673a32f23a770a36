"""Who waits for one call: hears how far it is, and may give it up."""

from collections.abc import Callable
from dataclasses import dataclass

MAX_TELLINGS = 200  # of one call, that are passed on
_MAX_MESSAGE_CHARS = 1000


@dataclass(slots=True)
class Waiting:
    """One who waits; `tell` gets a fraction from 0 to 1 where the plugin gave one, and its words."""

    tell: Callable[[float | None, str], None]
    has_given_up: bool = False
    _heard: int = 0

    def hear(self, fraction: object, message: object) -> None:
        """Pass on what a plugin tells of its call; what makes no sense, and too much of it, is passed over."""
        self._heard += 1
        if self._heard > MAX_TELLINGS or self.has_given_up:
            return
        told = None
        if isinstance(fraction, int | float) and not isinstance(fraction, bool):
            if not 0 <= fraction <= 1:
                return
            told = float(fraction)
        self.tell(told, message[:_MAX_MESSAGE_CHARS] if isinstance(message, str) else "")
