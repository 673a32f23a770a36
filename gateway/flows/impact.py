"""To tell the impact of an edit: judge every recorded decision by the policy in force and by the edited one."""

import time
from collections.abc import Callable
from pathlib import Path

from gateway.audit.decisions import read_decisions
from gateway.policy.engine import PolicySet
from gateway.policy.impact import Impact, Replay

CHUNK = 500
ERASED = "what was erased with a person's data"


def impact(data: Path, now: PolicySet, edited: PolicySet, *, told: Callable[[int], object] = lambda _: None) -> Impact:
    """Replay the log in the folder `data`; `told` is called with the number of the last record that is done.

    Raises:
        LogUnavailableError: the log cannot be read.
    """
    replay = Replay(now, edited)
    for last, decisions, erased in read_decisions(data):
        for at in range(0, len(decisions), CHUNK):
            replay.add(decisions[at : at + CHUNK])
            time.sleep(0)  # WHY: a gateway that serves goes on deciding meanwhile
        for _ in range(erased):
            replay.found.lacks(ERASED)
        told(last)
    return replay.finish()
