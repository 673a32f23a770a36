"""Rates of credentials: counted for each, refused beyond, and told with every answer.

The fields are those of draft-ietf-httpapi-ratelimit-headers-11. What is counted is forgotten when the gateway ends.
"""

import time
from typing import Any

from litestar.types import Scope

from gateway.domain.quota import Quota, Standing, Window
from gateway.errors import RateLimitedError

_STANDING = "hearthgate.standing"
_MOST = 65_536
Head = tuple[tuple[bytes, bytes], ...]


class Quotas:
    """The windows of all credentials that have a rate."""

    def __init__(self) -> None:
        self._windows: dict[str, Window] = {}

    def take(self, scope: Scope, credential: str, quota: Quota) -> None:
        """Count a request, and note in its scope what is left.

        Raises:
            RateLimitedError: nothing was.
        """
        window = self._windows.get(credential)
        if window is None:
            if len(self._windows) >= _MOST:
                # WHY: credentials come and go; whoever is counted longest begins anew.
                del self._windows[next(iter(self._windows))]
            window = self._windows[credential] = Window()
        may, standing = window.take(quota, time.monotonic())
        scope[_STANDING] = standing  # type: ignore[literal-required] # an entry of our own
        if not may:
            raise RateLimitedError(
                f"this key's rate is {quota}", way_out="ask less often", retry_after_s=standing.again_s
            )


def quota_head(scope: Any) -> Head:  # noqa: ANN401 (the framework's scope, or the server's)
    """Give the header fields that tell what is left; none where the credential has no rate."""
    standing: Standing | None = scope.get(_STANDING)
    if standing is None:
        return ()
    quota = standing.quota
    return (
        (b"ratelimit-policy", b'"key";q=%d;w=%d' % (quota.requests, quota.per_s)),
        (b"ratelimit", b'"key";r=%d;t=%d' % (standing.left, standing.again_s)),
    )
