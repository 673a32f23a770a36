"""Which plugins are called so often that it pays to have a cell ready."""

import time
from collections import OrderedDict

from sandbox.spec import Spec

_WARM_S = 10.0
_KNOWN = 256


class Heat:
    """When cells of which kind were last used."""

    def __init__(self) -> None:
        self._used: OrderedDict[Spec, float] = OrderedDict()

    def warms(self, spec: Spec) -> bool:
        """Note a use; tells whether the one before it was a moment ago."""
        now = time.monotonic()
        before = self._used.pop(spec, None)
        self._used[spec] = now
        if len(self._used) > _KNOWN:
            self._used.popitem(last=False)
        return before is not None and now - before <= _WARM_S
