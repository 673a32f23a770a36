"""Consents of users: who allowed which plugin what of theirs, until when."""

import sqlite3
from dataclasses import dataclass, replace
from datetime import datetime

from gateway.domain.decision import timestamp
from gateway.domain.names import PluginId, UserId
from gateway.domain.permission import Permission, parse_permission
from gateway.domain.request import Json
from gateway.domain.scope import covers
from gateway.registry.store import transaction

_USED_ONCE = "used once"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentRecord:
    """One consent: a permission's level or lower, on a scope as a rule's would cover it."""

    id: str
    user_id: UserId
    plugin_id: PluginId
    permission: Permission
    scope: str
    purpose: str | None
    until: datetime | None
    once: bool
    session_id: str | None
    on_behalf: bool
    given_by: str
    given_at: str
    ended_at: str | None = None
    end_reason: str | None = None
    last_used_at: str | None = None

    def as_json(self) -> dict[str, Json]:
        """Give the wire shape."""
        return {
            "id": self.id,
            "user_id": self.user_id,
            "plugin_id": self.plugin_id,
            "permission": str(self.permission),
            "scope": self.scope,
            "purpose": self.purpose,
            "until": None if self.until is None else timestamp(self.until),
            "once": self.once,
            "session_id": self.session_id,
            "on_behalf": self.on_behalf,
            "given_by": self.given_by,
            "given_at": self.given_at,
            "ended_at": self.ended_at,
            "end_reason": self.end_reason,
            "last_used_at": self.last_used_at,
        }


class Consents:
    """The ledger of consents."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._using: dict[str, ConsentRecord] = {}  # used up, their records not durable yet
        self._uses: dict[str, str] = {}  # when those were last used whose rows do not say it yet
        self.read()

    def read(self) -> None:
        """Read what is stored, anew."""
        connection = self._connection
        self._live: dict[str, ConsentRecord] = {
            row["id"]: _from_row(row) for row in connection.execute("SELECT * FROM consent WHERE ended_at IS NULL")
        }

    def get(self, consent_id: str) -> ConsentRecord | None:
        """Find one that was not withdrawn."""
        return self._live.get(consent_id)

    def find(self, *, user_id: str | None = None, plugin_id: str | None = None) -> tuple[ConsentRecord, ...]:
        """Give the history of a user and a plugin, oldest first."""
        rows = self._connection.execute(
            "SELECT * FROM consent WHERE (?1 IS NULL OR user_id=?1) AND (?2 IS NULL OR plugin_id=?2) ORDER BY id",
            (user_id, plugin_id),
        )
        found = map(_from_row, rows)
        return tuple(replace(each, last_used_at=self._uses.get(each.id, each.last_used_at)) for each in found)

    def note_use(self, consent_id: str, at: datetime) -> None:
        """Take note that one was used; written soon."""
        self._uses[consent_id] = timestamp(at)

    def write_uses(self) -> None:
        """Write when consents were last used.

        Raises:
            UnavailableError: the registry cannot be written; it is written the next time.
        """
        taken = list(self._uses.items())
        if not taken:
            return
        with transaction(self._connection) as connection:
            connection.executemany(
                "UPDATE consent SET last_used_at=? WHERE id=?", [(at, consent_id) for consent_id, at in taken]
            )
        for consent_id, at in taken:
            if self._uses.get(consent_id) == at:
                del self._uses[consent_id]

    def covering(
        self, *, user_id: str, plugin_id: str, permission: Permission, scope: str, session_id: str | None, at: datetime
    ) -> ConsentRecord | None:
        """Find a consent that covers this, preferring one that is not used up by it."""
        found = [
            each
            for each in self._live.values()
            if each.user_id == user_id
            and each.plugin_id == plugin_id
            and each.permission.kind is permission.kind
            and each.permission.level >= permission.level
            and covers(each.scope, scope)
            and (each.until is None or at < each.until)
            and (each.session_id is None or each.session_id == session_id)
        ]
        return min(found, key=lambda each: (each.once, each.id), default=None)

    def give(self, consent: ConsentRecord) -> None:
        """Write a new one."""
        with transaction(self._connection) as connection:
            connection.execute(
                "INSERT INTO consent(id, user_id, plugin_id, permission, scope, purpose, until, once, session_id,"
                " on_behalf, given_by, given_at) VALUES(?,?,?,?,?,?,?,?,?,?,?,?)",
                (
                    consent.id,
                    consent.user_id,
                    consent.plugin_id,
                    str(consent.permission),
                    consent.scope,
                    consent.purpose,
                    None if consent.until is None else timestamp(consent.until),
                    consent.once,
                    consent.session_id,
                    consent.on_behalf,
                    consent.given_by,
                    consent.given_at,
                ),
            )
        self._live[consent.id] = consent

    def use_up(self, consent: ConsentRecord, *, at: datetime) -> None:
        """Note that the only use of one is over."""
        self.end(consent, at=at, reason=_USED_ONCE)
        self._using[consent.id] = consent

    def covers_use(self, consent_id: str) -> bool:
        """Tell whether a recorded use of one may go on: it is there, or it was for one use, which this is."""
        if consent_id in self._live:
            return True
        row = self._connection.execute("SELECT end_reason FROM consent WHERE id=?", (consent_id,)).fetchone()
        return row is not None and row["end_reason"] == _USED_ONCE

    def settle(self, consent: ConsentRecord) -> None:
        """Take note that the use of one is recorded."""
        self._using.pop(consent.id, None)

    def put_back(self, consent: ConsentRecord) -> None:
        """Give back a consent whose only use could not be recorded, unless all to its plugin ended meanwhile."""
        if self._using.pop(consent.id, None) is None:
            return
        with transaction(self._connection) as connection:
            found = connection.execute(
                "UPDATE consent SET ended_at=NULL, end_reason=NULL WHERE id=? RETURNING id", (consent.id,)
            ).fetchall()
        if found:
            self._live[consent.id] = consent

    def end(self, consent: ConsentRecord, *, at: datetime, reason: str) -> ConsentRecord:
        """End one: withdrawn, or used up."""
        # INVARIANT: gone from memory first, so that a failing write can only take more away.
        self._live.pop(consent.id, None)
        ended = replace(consent, ended_at=timestamp(at), end_reason=reason)
        with transaction(self._connection) as connection:
            connection.execute(
                "UPDATE consent SET ended_at=?, end_reason=? WHERE id=?", (ended.ended_at, reason, consent.id)
            )
        return ended

    def end_all(self, plugin_id: PluginId, *, at: datetime, reason: str) -> None:
        """End every consent to a plugin; the history keeps them."""
        self._using = {key: each for key, each in self._using.items() if each.plugin_id != plugin_id}
        self._live = {key: each for key, each in self._live.items() if each.plugin_id != plugin_id}
        with transaction(self._connection) as connection:
            connection.execute(
                "UPDATE consent SET ended_at=?, end_reason=? WHERE plugin_id=? AND ended_at IS NULL",
                (timestamp(at), reason, plugin_id),
            )

    def forget(self, plugin_id: PluginId) -> None:
        """Drop what the registry no longer holds of an uninstalled plugin."""
        self._using = {key: each for key, each in self._using.items() if each.plugin_id != plugin_id}
        self._live = {key: each for key, each in self._live.items() if each.plugin_id != plugin_id}


def _from_row(row: sqlite3.Row) -> ConsentRecord:
    return ConsentRecord(
        id=row["id"],
        user_id=UserId(row["user_id"]),
        plugin_id=PluginId(row["plugin_id"]),
        permission=parse_permission(row["permission"]),
        scope=row["scope"],
        purpose=row["purpose"],
        until=None if row["until"] is None else datetime.fromisoformat(row["until"]),
        once=bool(row["once"]),
        session_id=row["session_id"],
        on_behalf=bool(row["on_behalf"]),
        given_by=row["given_by"],
        given_at=row["given_at"],
        ended_at=row["ended_at"],
        end_reason=row["end_reason"],
        last_used_at=row["last_used_at"],
    )
