"""Which request for access is answered by which approval or permission request, and whose it is."""

import sqlite3
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta

from gateway.domain.access_request import Template
from gateway.domain.decision import timestamp
from gateway.registry.store import transaction

KEPT_FOR = timedelta(days=30)
MOST_OF_ONE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessTask:
    """One request for access; where it stands is told by what answers it, `answered_by`."""

    id: str
    user_id: str
    template: Template
    answered_by: str
    evaluation_id: str
    idempotency_key: str | None
    body_sha256: str
    requested_at: str


class AccessRequests:
    """Keeps them in the registry's database, the last of each user."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def get(self, task_id: str) -> AccessTask | None:
        """Find one."""
        return self._one("id=?", task_id)

    def of_key(self, user_id: str, idempotency_key: str) -> AccessTask | None:
        """Find the one that a user made with an idempotency key."""
        return self._one("user_id=? AND idempotency_key=?", user_id, idempotency_key)

    def of_answer(self, user_id: str, answered_by: str) -> AccessTask | None:
        """Find the one of a user that the same answers."""
        return self._one("user_id=? AND answered_by=? ORDER BY rowid", user_id, answered_by)

    def add(self, task: AccessTask, *, at: datetime) -> None:
        """Write a new one, and forget the oldest.

        Raises:
            UnavailableError: the registry cannot be written.
        """
        with transaction(self._connection) as connection:
            connection.execute("DELETE FROM access_request WHERE requested_at < ?", (timestamp(at - KEPT_FOR),))
            connection.execute(
                "DELETE FROM access_request WHERE user_id=?1 AND rowid NOT IN"
                " (SELECT rowid FROM access_request WHERE user_id=?1 ORDER BY rowid DESC LIMIT ?2)",
                (task.user_id, MOST_OF_ONE - 1),
            )
            row = (*astuple(task),)
            connection.execute("INSERT INTO access_request VALUES(?,?,?,?,?,?,?,?)", row)

    def _one(self, where: str, *values: str) -> AccessTask | None:
        row = self._connection.execute(f"SELECT * FROM access_request WHERE {where} LIMIT 1", values).fetchone()  # noqa: S608 (our own words)
        return None if row is None else AccessTask(**{**dict(row), "template": Template(row["template"])})
