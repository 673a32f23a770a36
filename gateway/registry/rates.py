"""How much of each rule's rate every subject and user has used."""

from collections import deque
from datetime import datetime, timedelta

from gateway.domain.condition import Rate
from gateway.domain.decision import Charge
from gateway.policy.terms import LONGEST_RATE_S

_MAX_KEYS = 100_000


class Rates:
    """Sliding windows of allows: a rate is used up only by `charge`, never by asking."""

    def __init__(self) -> None:
        self._uses: dict[tuple[str, str, str | None], deque[datetime]] = {}

    def used(self, rule_id: str, rate: Rate, *, subject: str, user: str | None, at: datetime) -> int:
        """Tell how many allows of the last `rate.per_s` seconds count against a rule, subject and user."""
        uses = self._uses.get((rule_id, subject, user))
        if uses is None:
            return 0
        since = at - timedelta(seconds=rate.per_s)
        return sum(1 for each in uses if each > since)

    def has_room(self, charge: Charge, *, subject: str, user: str | None, at: datetime) -> bool:
        """Tell whether one more allow may be counted."""
        return self.used(charge.rule_id, charge.rate, subject=subject, user=user, at=at) < charge.rate.count

    def charge(self, charge: Charge, *, subject: str, user: str | None, at: datetime) -> None:
        """Count one allow."""
        if len(self._uses) >= _MAX_KEYS:
            self._drop_idle(at)
        uses = self._uses.setdefault((charge.rule_id, subject, user), deque())
        since = at - timedelta(seconds=charge.rate.per_s)
        while uses and uses[0] <= since:
            uses.popleft()
        uses.append(at)

    def give_back(self, charge: Charge, *, subject: str, user: str | None, at: datetime) -> None:
        """Take back a charge whose record could not be written."""
        uses = self._uses.get((charge.rule_id, subject, user))
        if uses is not None and at in uses:
            uses.remove(at)

    def forget(self, user: str) -> None:
        """Drop what is counted for a user."""
        whose = {user, f"user:{user}"}
        self._uses = {key: uses for key, uses in self._uses.items() if not whose.intersection(key[1:])}

    def _drop_idle(self, at: datetime) -> None:
        # SECURITY: no counter is dropped that could still refuse somebody: a rate reaches back that far.
        longest_ago = at - timedelta(seconds=LONGEST_RATE_S)
        self._uses = {key: uses for key, uses in self._uses.items() if uses and uses[-1] > longest_ago}
