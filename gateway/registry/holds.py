"""Holds and lockdowns: taking away that never waits for a policy file."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.domain.decision import timestamp
from gateway.domain.names import PluginId
from gateway.domain.request import Json
from gateway.registry.store import transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A grant that denies at once, until the policy set in force no longer has its line."""

    id: str
    plugin_id: PluginId
    grant_number: int
    reason: str
    by: str
    at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lockdown:
    """A kill switch: `all`, `plugin:ID`, `user:ID` or `kind:KIND`."""

    id: str
    scope: str
    reason: str
    by: str
    at: str

    def as_json(self) -> dict[str, Json]:
        """Give the wire shape."""
        return {"id": self.id, "scope": self.scope, "reason": self.reason, "by": self.by, "at": self.at}


class Holds:
    """The holds and lockdowns in force; in memory for deciding, durable before they are believed."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.read()

    def read(self) -> None:
        """Read what is stored, anew."""
        connection = self._connection
        self.holds = {row["id"]: Hold(**dict(row)) for row in connection.execute("SELECT * FROM hold")}
        self.lockdowns = {row["id"]: Lockdown(**dict(row)) for row in connection.execute("SELECT * FROM lockdown")}

    def held_grants(self, plugin_id: str) -> frozenset[str]:
        """Give the ids of the rules that no longer hold for a plugin."""
        return frozenset(f"grant-{hold.grant_number}" for hold in self.holds.values() if hold.plugin_id == plugin_id)

    def hold(self, holds: Sequence[Hold]) -> None:
        """Set holds, durably, all or none."""
        with transaction(self._connection) as connection:
            connection.executemany(
                "INSERT INTO hold(id, plugin_id, grant_number, reason, by, at) VALUES(?,?,?,?,?,?)",
                [(each.id, each.plugin_id, each.grant_number, each.reason, each.by, each.at) for each in holds],
            )
        self.note_held(holds)

    def note_held(self, holds: Sequence[Hold]) -> None:
        """Take in holds that were written."""
        self.holds.update({each.id: each for each in holds})

    def lift(self, holds: Sequence[Hold]) -> None:
        """Lift holds whose lines are gone."""
        with transaction(self._connection) as connection:
            connection.executemany("DELETE FROM hold WHERE id=?", [(each.id,) for each in holds])
        for each in holds:
            self.holds.pop(each.id, None)

    def lock(self, lockdown: Lockdown) -> None:
        """Set a lockdown, durably."""
        with transaction(self._connection) as connection:
            connection.execute(
                "INSERT INTO lockdown(id, scope, reason, by, at) VALUES(?,?,?,?,?)",
                (lockdown.id, lockdown.scope, lockdown.reason, lockdown.by, lockdown.at),
            )
        self.lockdowns[lockdown.id] = lockdown

    def unlock(self, lockdown: Lockdown) -> None:
        """Lift a lockdown."""
        with transaction(self._connection) as connection:
            connection.execute("DELETE FROM lockdown WHERE id=?", (lockdown.id,))
        self.lockdowns.pop(lockdown.id, None)

    def locked(self, *, subject: str, user: str | None, kind: str) -> Lockdown | None:
        """Find a lockdown that forbids this."""
        for lockdown in self.lockdowns.values():
            if lockdown.scope in {"all", subject, f"kind:{kind}"} or (user and lockdown.scope == f"user:{user}"):
                return lockdown
        return None


def new_hold(hold_id: str, plugin_id: PluginId, number: int, *, reason: str, by: str, at: datetime) -> Hold:
    """Make a hold on one grant."""
    return Hold(id=hold_id, plugin_id=plugin_id, grant_number=number, reason=reason, by=by, at=timestamp(at))
