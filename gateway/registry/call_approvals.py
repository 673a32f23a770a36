"""Approvals of exact calls: waiting for a person, given for one use, used up, or ended otherwise."""

import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from gateway.domain.call_approval import OPEN, ApprovalState, CallApproval
from gateway.domain.decision import timestamp
from gateway.registry.store import transaction

MOST_PENDING = 100  # of one plugin
PENDING_FOR = timedelta(days=1)
MOST_ENDED = 1000  # of one asker: those that ended without an answer
DENIED_FOR = timedelta(hours=1)  # a call that was denied is not put before a person again
_KEPT_FOR = timedelta(days=30)
_VOID = "UPDATE call_approval SET state='void', decided_at=?, decision_reason=?, args=NULL WHERE id=?"
_DISPLACED = "the queue was full, and who asked had the most calls in it"


class CallApprovals:
    """The approvals that are open, in memory and durable, and the history of the others."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._using: dict[str, CallApproval] = {}  # used up, their records not durable yet
        self.read()

    def read(self) -> None:
        """Read what is stored, anew."""
        rows = self._connection.execute(
            "SELECT * FROM call_approval WHERE state IN ('pending', 'approved', 'denied') ORDER BY id"
        )
        self._live: dict[str, CallApproval] = {row["id"]: _from_row(row) for row in rows}
        self._index()

    def get(self, approval_id: str) -> CallApproval | None:
        """Find one, answered or not."""
        row = self._connection.execute("SELECT * FROM call_approval WHERE id=?", (approval_id,)).fetchone()
        return None if row is None else _from_row(row)

    def find(self, *, at: datetime, state: ApprovalState | None = None) -> tuple[CallApproval, ...]:
        """Give those of a state, or all, oldest first; what ended by time is told as expired."""
        rows = self._connection.execute("SELECT * FROM call_approval ORDER BY id")
        found = [
            replace(each, state=ApprovalState.EXPIRED) if each.is_over(at) else each for each in map(_from_row, rows)
        ]
        return tuple(each for each in found if state is None or each.state is state)

    def approved(self, key: str, at: datetime) -> CallApproval | None:
        """Find the approval of a call that may be used now; asking uses nothing up."""
        found = self._keys.get(key)
        if found is None or found.state is not ApprovalState.APPROVED or found.is_over(at):
            return None
        return found

    def asked(self, key: str, at: datetime) -> CallApproval | None:
        """Find what stands for a call already: it waits, it is approved, or it was denied a while ago."""
        found = self._keys.get(key)
        if found is None or found.is_over(at):
            return None
        return found if found.state is not ApprovalState.DENIED or _stands(found, at) else None

    def is_usable(self, approval_id: str, at: datetime) -> bool:
        """Tell whether an approval can be used up now."""
        found = self._live.get(approval_id)
        return found is not None and found.state is ApprovalState.APPROVED and not found.is_over(at)

    def add(self, approval: CallApproval, at: datetime) -> bool:
        """Write a new one; tells whether there was room for it.

        Where the queue is full, the last call of whoever has the most in it makes room for who has less.
        """
        over = self._drop_over(at)
        full, displaced = self._room_for(approval)
        if full and displaced is None:
            # WHY: nothing is written, for whoever asks in vain may ask often.
            return False
        marks = ",".join("?" * len(_COLUMNS))
        with transaction(self._connection) as connection:
            connection.executemany("UPDATE call_approval SET state='expired', args=NULL WHERE id=?", over)
            if displaced is not None:
                connection.execute(_VOID, (timestamp(at), _DISPLACED, displaced.id))
            connection.execute(
                "DELETE FROM call_approval WHERE state NOT IN ('pending', 'approved') AND requested_at < ?",
                (timestamp(at - _KEPT_FOR),),
            )
            # SECURITY: who asks and takes it back, for ever, fills nothing but a place of their own.
            connection.execute(
                "DELETE FROM call_approval WHERE by_user=?1 AND state IN ('expired', 'void') AND id NOT IN"
                " (SELECT id FROM call_approval WHERE by_user=?1 AND state IN ('expired', 'void')"
                " ORDER BY id DESC LIMIT ?2)",
                (approval.by_user, MOST_ENDED),
            )
            connection.execute(
                f"INSERT INTO call_approval({','.join(_COLUMNS)}) VALUES({marks})",
                [getattr(approval, name) for name in _COLUMNS],
            )
        if displaced is not None:
            self._forget(displaced)
        self._live[approval.id] = approval
        self._keys[approval.key] = approval
        return True

    def drop(self, approval: CallApproval) -> None:
        """Take back one that nobody could be told of, for its denial was not recorded."""
        self._forget(approval)
        with transaction(self._connection) as connection:
            connection.execute("DELETE FROM call_approval WHERE id=? AND state='pending'", (approval.id,))

    def answer(
        self, approval: CallApproval, state: ApprovalState, *, by: str, at: datetime, reason: str, until: datetime
    ) -> CallApproval | None:
        """Write a person's answer to one that waits, open until `until`; None if it does not wait any more."""
        current = self._live.get(approval.id)
        if current is None or current.state is not ApprovalState.PENDING or current.is_over(at):
            return None
        answered = replace(
            current,
            state=state,
            decided_by=by,
            decided_at=timestamp(at),
            decision_reason=reason,
            expires_at=timestamp(until),
            # WHY: the arguments may be a diary; who had to see them did.
            args=None,
        )
        with transaction(self._connection) as connection:
            connection.execute(
                "UPDATE call_approval SET state=?, decided_by=?, decided_at=?, decision_reason=?, expires_at=?,"
                " args=NULL WHERE id=?",
                (state.value, by, answered.decided_at, reason, answered.expires_at, approval.id),
            )
        self._live[approval.id] = self._keys[approval.key] = answered
        return answered

    def use(self, approval_id: str, *, decision_id: str, at: datetime) -> CallApproval | None:
        """Use one up, durably; None if it is not to be had any more."""
        found = self._live.get(approval_id)
        if found is None or not self.is_usable(approval_id, at):
            return None
        # INVARIANT: gone from memory first, so that a failing write can only take more away.
        self._forget(found)
        with transaction(self._connection) as connection:
            done = connection.execute(
                "UPDATE call_approval SET state='used', used_at=?, used_decision=? WHERE id=? AND state='approved'"
                " RETURNING id",
                (timestamp(at), decision_id, found.id),
            ).fetchall()
        if not done:
            return None
        self._using[found.id] = found
        return found

    def used_since(self, since: datetime, most: int) -> tuple[CallApproval, ...]:
        """Give those that were used up last, not before a moment, and name the decision that did."""
        rows = self._connection.execute(
            "SELECT * FROM call_approval WHERE state='used' AND used_decision IS NOT NULL AND used_at>=?"
            " ORDER BY used_at DESC LIMIT ?",
            (timestamp(since), most),
        )
        return tuple(map(_from_row, rows))

    def note_lost(self, approval: CallApproval) -> None:
        """Write that the decision that used one up was never recorded."""
        with transaction(self._connection) as connection:
            connection.execute("UPDATE call_approval SET used_decision=NULL WHERE id=?", (approval.id,))

    def settle(self, approval: CallApproval) -> None:
        """Take note that the use of one is recorded."""
        self._using.pop(approval.id, None)

    def put_back(self, approval: CallApproval) -> None:
        """Give back one whose use could not be recorded, unless it was voided meanwhile."""
        if self._using.pop(approval.id, None) is None:
            return
        with transaction(self._connection) as connection:
            connection.execute(
                "UPDATE call_approval SET state='approved', used_at=NULL, used_decision=NULL WHERE id=?", (approval.id,)
            )
        self._live[approval.id] = self._keys[approval.key] = approval

    def void(self, names: Callable[[CallApproval], bool], *, at: datetime, reason: str) -> tuple[CallApproval, ...]:
        """End every open one that `names` names, those included whose use is being recorded."""
        ended = [each for each in self._live.values() if each.state in OPEN and names(each)]
        for each in ended:
            self._forget(each)
        for each in [each for each in self._using.values() if names(each)]:
            del self._using[each.id]
        if ended:
            with transaction(self._connection) as connection:
                connection.executemany(_VOID, [(timestamp(at), reason, each.id) for each in ended])
        return tuple(ended)

    def forget(self, plugin_id: str) -> None:
        """Drop all of an uninstalled plugin."""
        for each in [each for each in self._live.values() if each.plugin_id == plugin_id]:
            self._forget(each)
        with transaction(self._connection) as connection:
            connection.execute("DELETE FROM call_approval WHERE plugin_id=?", (plugin_id,))

    def _room_for(self, approval: CallApproval) -> tuple[bool, CallApproval | None]:
        """Tell whether the queue that a call would wait in is full, and which call would make room for it."""
        about = approval.plugin_id or approval.subject
        waiting = [
            each
            for each in self._live.values()
            if each.state is ApprovalState.PENDING and (each.plugin_id or each.subject) == about
        ]
        if len(waiting) < MOST_PENDING:
            return False, None
        # SECURITY: counted by whose credential asked, for on whose behalf it asks is what it says.
        asked = Counter(each.asker for each in waiting)
        most = max(asked, key=lambda asker: asked[asker])
        if asked[approval.asker] + 1 >= asked[most]:
            return True, None
        return True, max(
            (each for each in waiting if each.asker == most), key=lambda each: (each.requested_at, each.id)
        )

    def _index(self) -> None:
        self._keys = {each.key: each for each in self._live.values()}

    def _forget(self, approval: CallApproval) -> None:
        self._live.pop(approval.id, None)
        if self._keys.get(approval.key) is approval:
            del self._keys[approval.key]

    def _drop_over(self, at: datetime) -> list[tuple[str]]:
        """Forget what stands for no call any more; gives those that ended by time and are still written as open."""
        over = [each for each in self._live.values() if each.is_over(at)]
        denied = [each for each in self._live.values() if each.state is ApprovalState.DENIED and not _stands(each, at)]
        for each in (*over, *denied):
            self._forget(each)
        return [(each.id,) for each in over]


_COLUMNS = (
    "id", "key", "subject", "plugin_id", "user_id", "by_user", "op", "permission", "scope", "args_sha256", "args",
    "code", "rule", "rules_sha256", "decision_id", "requested_at", "expires_at", "state",
)  # fmt: skip


def _stands(denied: CallApproval, at: datetime) -> bool:
    return at < datetime.fromisoformat(denied.decided_at or denied.requested_at) + DENIED_FOR


def _from_row(row: sqlite3.Row) -> CallApproval:
    return CallApproval(**{**dict(row), "state": ApprovalState(row["state"])})
