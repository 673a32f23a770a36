"""Rights that stand in the log: who might ask about whom, by which recorded decision."""

from gateway.domain.decision import Verdict
from gateway.domain.request import AccessRequest

_MOST_KEPT = 4096


class Rights:
    """The ids of recorded decisions, for later ones that say the same of the same request under the same policy."""

    def __init__(self) -> None:
        self._kept: dict[AccessRequest, tuple[Verdict, int, str]] = {}

    def find(self, request: AccessRequest, verdict: Verdict, generation: int) -> str | None:
        """Give the decision that was recorded for this, None if none was."""
        kept = self._kept.get(request)
        # INVARIANT: a policy set makes an unconditional verdict once, so that the same verdict is the same object.
        return None if kept is None or kept[0] is not verdict or kept[1] != generation else kept[2]

    def keep(self, request: AccessRequest, verdict: Verdict, generation: int, decision_id: str) -> None:
        """Take note of a recorded decision."""
        if len(self._kept) >= _MOST_KEPT:
            self._kept.clear()
        self._kept[request] = (verdict, generation, decision_id)
