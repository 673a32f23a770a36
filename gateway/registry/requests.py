"""Requests for permissions, waiting for a person or answered by one."""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from gateway.domain.decision import timestamp
from gateway.domain.manifest import RequestedPermission
from gateway.domain.names import PluginId
from gateway.domain.permission import parse_permission
from gateway.domain.request import Json
from gateway.registry.store import transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldBack:
    """A generation that waits for a person: its content, what it would follow, and what it wants beyond that."""

    digest: str
    version: str
    from_digest: str | None
    from_version: str
    from_generation: int
    difference: tuple[Json, ...]

    def as_json(self) -> dict[str, Json]:
        """Give the wire shape."""
        return {
            "digest": self.digest,
            "version": self.version,
            "from_digest": self.from_digest,
            "from_version": self.from_version,
            "from_generation": self.from_generation,
            "difference": list(self.difference),
        }


class RequestState(StrEnum):
    """Where a request stands."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    REVOKED = "revoked"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class PermissionRequest:
    """What a plugin asks for, and what became of it."""

    id: str
    plugin_id: PluginId
    type: str  # `register`, `more` when asked for later, `update` (held back), `automatic` (approval.toml covers it)
    permissions: tuple[RequestedPermission, ...]
    state: RequestState
    reason: str
    requested_by: str
    requested_at: str
    decided_by: str | None = None
    decided_at: str | None = None
    decision_reason: str | None = None
    held_back: HeldBack | None = None  # of an `update`
    given: tuple[RequestedPermission, ...] | None = None  # where a person left something out, or ended it

    def as_json(self) -> dict[str, Json]:
        """Give the wire shape."""
        return {
            **({} if self.held_back is None else self.held_back.as_json()),
            "id": self.id,
            "plugin_id": self.plugin_id,
            "type": self.type,
            "permissions": [each.as_json() for each in self.permissions],
            "status": self.state.value,
            "reason": self.reason,
            "requested_by": self.requested_by,
            "requested_at": self.requested_at,
            "decided_by": self.decided_by,
            "decided_at": self.decided_at,
            "decision_reason": self.decision_reason,
            **({} if self.given is None else {"given": [each.as_json() for each in self.given]}),
        }


class PermissionRequests:
    """The approval queue and its history."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def get(self, request_id: str) -> PermissionRequest | None:
        """Find one."""
        row = self._connection.execute("SELECT * FROM permission_request WHERE id=?", (request_id,)).fetchone()
        return None if row is None else _from_row(row)

    def find(self, *, state: RequestState | None = None, plugin_id: str | None = None) -> tuple[PermissionRequest, ...]:
        """Give the requests of a state and a plugin, oldest first."""
        rows = self._connection.execute(
            "SELECT * FROM permission_request WHERE (?1 IS NULL OR state=?1) AND (?2 IS NULL OR plugin_id=?2)"
            " ORDER BY id",
            (None if state is None else state.value, plugin_id),
        )
        return tuple(_from_row(row) for row in rows)

    def brought(self, plugin_id: str, digest: str | None) -> frozenset[str]:
        """Name everybody who ever asked for a generation of this very content, whatever became of that."""
        return frozenset(
            each.requested_by
            for each in self.find(plugin_id=plugin_id)
            if each.held_back is not None and each.held_back.digest == digest
        )

    def add(self, request: PermissionRequest) -> None:
        """Write a new one."""
        with transaction(self._connection) as connection:
            connection.execute(
                "INSERT INTO permission_request(id, plugin_id, type, permissions, state, reason, requested_by,"
                " requested_at, held_back, decided_by, decided_at, decision_reason) VALUES(?,?,?,?,?,?,?,?,?,?,?,?)",
                (
                    request.id,
                    request.plugin_id,
                    request.type,
                    _written(request.permissions),
                    request.state.value,
                    request.reason,
                    request.requested_by,
                    request.requested_at,
                    None if request.held_back is None else json.dumps(request.held_back.as_json()),
                    request.decided_by,
                    request.decided_at,
                    request.decision_reason,
                ),
            )

    def drop(self, request: PermissionRequest) -> None:
        """Take out one that came to nothing."""
        with transaction(self._connection) as connection:
            connection.execute("DELETE FROM permission_request WHERE id=?", (request.id,))

    def decide(
        self,
        requests: Sequence[PermissionRequest],
        state: RequestState,
        *,
        by: str,
        at: datetime,
        reason: str,
        given: Sequence[RequestedPermission] | None = None,
    ) -> tuple[PermissionRequest, ...]:
        """Write what became of some requests; `given` is what was granted, None for all of it."""
        decided = tuple(
            replace(
                each,
                state=state,
                decided_by=by,
                decided_at=timestamp(at),
                decision_reason=reason,
                given=None if given is None or tuple(given) == each.permissions else tuple(given),
            )
            for each in requests
        )
        with transaction(self._connection) as connection:
            connection.executemany(
                "UPDATE permission_request SET state=?, decided_by=?, decided_at=?, decision_reason=?, given=?"
                " WHERE id=?",
                [(each.state.value, by, each.decided_at, reason, _written(each.given), each.id) for each in decided],
            )
        return decided

    def reopen(self, requests: Sequence[PermissionRequest]) -> None:
        """Let requests wait again whose answer could not be carried out."""
        with transaction(self._connection) as connection:
            connection.executemany(
                "UPDATE permission_request SET state=?, decided_by=NULL, decided_at=NULL, decision_reason=NULL,"
                " given=NULL WHERE id=? AND state=?",
                [(RequestState.PENDING.value, each.id, RequestState.APPROVED.value) for each in requests],
            )


def _written(permissions: Sequence[RequestedPermission] | None) -> str | None:
    return None if permissions is None else json.dumps([each.as_json() for each in permissions])


def _read(text: str) -> tuple[RequestedPermission, ...]:
    return tuple(
        RequestedPermission(
            permission=parse_permission(each["permission"]),
            scope=each["scope"],
            condition=each["condition"],
            purpose=each["purpose"],
        )
        for each in json.loads(text)
    )


def _from_row(row: sqlite3.Row) -> PermissionRequest:
    return PermissionRequest(
        id=row["id"],
        plugin_id=PluginId(row["plugin_id"]),
        type=row["type"],
        permissions=_read(row["permissions"]),
        state=RequestState(row["state"]),
        reason=row["reason"],
        requested_by=row["requested_by"],
        requested_at=row["requested_at"],
        decided_by=row["decided_by"],
        decided_at=row["decided_at"],
        decision_reason=row["decision_reason"],
        held_back=None if row["held_back"] is None else _held_back(json.loads(row["held_back"])),
        given=None if row["given"] is None else _read(row["given"]),
    )


def _held_back(members: dict[str, Any]) -> HeldBack:
    return HeldBack(**{**members, "difference": tuple(members["difference"])})
