"""Rights that stand in the log: who might ask about whom, by which recorded decision."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.domain.decision import Verdict
from gateway.domain.request import AccessRequest

_MOST_KEPT = 4096
_KEPT_FOR = timedelta(hours=1)  # so that who reads an answer need not go far back for the right to ask


@dataclass(frozen=True, slots=True)
class _Right:
    verdict: Verdict
    generation: int
    decision_id: str
    at: datetime


class Rights:
    """The ids of recorded decisions, for later ones that say the same of the same request under the same policy."""

    def __init__(self) -> None:
        self._kept: dict[AccessRequest, _Right] = {}

    def find(self, request: AccessRequest, verdict: Verdict, generation: int, at: datetime) -> str | None:
        """Give the decision that was recorded for this within the last hour, None if none was."""
        kept = self._kept.get(request)
        # INVARIANT: a policy set makes an unconditional verdict once, so that the same verdict is the same object.
        if kept is None or kept.verdict is not verdict or kept.generation != generation:
            return None
        return kept.decision_id if kept.at <= at < kept.at + _KEPT_FOR else None

    def keep(
        self, request: AccessRequest, verdict: Verdict, generation: int, *, recorded: tuple[str, datetime]
    ) -> None:
        """Take note of a recorded decision, its id and its time."""
        if len(self._kept) >= _MOST_KEPT:
            self._kept.clear()
        self._kept[request] = _Right(verdict, generation, *recorded)

    def clear(self) -> None:
        """Forget them all; what is asked next is recorded anew."""
        self._kept.clear()
