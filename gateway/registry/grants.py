"""The history of grants; what is granted now is read from the policy files, never from here."""

import sqlite3
from collections.abc import Sequence
from datetime import datetime

from gateway.domain.decision import timestamp
from gateway.domain.grant import Grant, GrantState
from gateway.domain.manifest import RequestedPermission
from gateway.domain.names import PluginId
from gateway.domain.permission import parse_permission
from gateway.registry.store import next_number, transaction


class Grants:
    """Every grant that was ever given."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def live(self, plugin_id: PluginId | None = None) -> tuple[Grant, ...]:
        """Give the grants that were not taken back, of one plugin or of all."""
        return tuple(grant for grant in self.all(plugin_id) if grant.state is GrantState.LIVE)

    def all(self, plugin_id: PluginId | None = None) -> tuple[Grant, ...]:
        """Give the whole history, oldest first."""
        rows = self._connection.execute(
            "SELECT * FROM permission_grant WHERE ?1 IS NULL OR plugin_id=?1 ORDER BY number", (plugin_id,)
        )
        return tuple(_from_row(row) for row in rows)

    def ids(self) -> tuple[frozenset[str], frozenset[str]]:
        """Give the ids of live grants and of ended ones."""
        live: set[str] = set()
        ended: set[str] = set()
        for number, state in self._connection.execute("SELECT number, state FROM permission_grant"):
            (live if state == GrantState.LIVE else ended).add(f"grant-{number}")
        return frozenset(live), frozenset(ended)

    def number(self) -> int:
        """Take the next number; it is never given twice."""
        with transaction(self._connection) as connection:
            return next_number(connection, "grant")

    def add(self, grants: Sequence[Grant]) -> None:
        """Write new grants, all or none."""
        with transaction(self._connection) as connection:
            for grant in grants:
                connection.execute(
                    "INSERT INTO permission_grant(number, plugin_id, permission, scope, condition, why, state,"
                    " granted_by, granted_at) VALUES(?,?,?,?,?,?,?,?,?)",
                    (
                        grant.number,
                        grant.plugin_id,
                        str(grant.permission),
                        grant.scope,
                        grant.condition,
                        grant.why,
                        grant.state.value,
                        grant.granted_by,
                        grant.granted_at,
                    ),
                )

    def end(self, numbers: Sequence[int], *, by: str, at: datetime, reason: str) -> None:
        """Write that grants were taken back."""
        with transaction(self._connection) as connection:
            connection.executemany(
                "UPDATE permission_grant SET state=?, ended_by=?, ended_at=?, ended_reason=?"
                " WHERE number=? AND state=?",
                [(GrantState.REVOKED.value, by, timestamp(at), reason, n, GrantState.LIVE.value) for n in numbers],
            )


def grant_of(
    requested: RequestedPermission, *, number: int, plugin_id: PluginId, by: str, at: datetime, why: str
) -> Grant:
    """Make the grant that gives a plugin what was requested.

    Raises:
        ValueError: no scope was requested, so nothing can be granted.
    """
    if requested.scope is None:
        raise ValueError("a permission without a scope grants nothing")
    return Grant(
        number=number,
        plugin_id=plugin_id,
        permission=requested.permission,
        scope=requested.scope,
        condition=requested.condition,
        why=why,
        state=GrantState.LIVE,
        granted_by=by,
        granted_at=timestamp(at),
    )


def _from_row(row: sqlite3.Row) -> Grant:
    return Grant(
        number=row["number"],
        plugin_id=PluginId(row["plugin_id"]),
        permission=parse_permission(row["permission"]),
        scope=row["scope"],
        condition=row["condition"],
        why=row["why"],
        state=GrantState(row["state"]),
        granted_by=row["granted_by"],
        granted_at=row["granted_at"],
    )
