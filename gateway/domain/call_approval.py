"""An approval of one exact call, wherever it stands."""

import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from gateway.domain.decision import timestamp
from gateway.domain.names import same_person
from gateway.domain.request import Json


class ApprovalState(StrEnum):
    """Where an approval stands."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    USED = "used"
    EXPIRED = "expired"
    VOID = "void"


OPEN = (ApprovalState.PENDING, ApprovalState.APPROVED)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallApproval:
    """One exact call that needs, or has, a person's yes; `key` is the digest of all that it is bound to."""

    id: str
    key: str
    subject: str
    plugin_id: str | None  # whose calls it counts among
    user_id: str | None  # on whose behalf
    by_user: str | None  # whose credential
    op: str
    permission: str
    scope: str
    args_sha256: str
    args: str | None  # canonical JSON, for who answers; None once it was answered, or where it is too long
    code: str  # the plugins of the call with the digests of their code
    rule: str  # the rule that asks for it
    rules_sha256: str
    decision_id: str  # the denial that asked
    requested_at: str
    expires_at: str
    state: ApprovalState = ApprovalState.PENDING
    decided_by: str | None = None
    decided_at: str | None = None
    decision_reason: str | None = None
    used_at: str | None = None
    used_decision: str | None = None

    def is_over(self, at: datetime) -> bool:
        """Tell whether it ended by time alone."""
        return self.state in OPEN and timestamp(at) >= self.expires_at

    @property
    def asker(self) -> str:
        """Who asked, as far as the gateway knows."""
        return self.by_user or self.user_id or self.subject

    def is_own(self, user_id: str) -> bool:
        """Tell whether the call is this user's: made on their behalf, or with their credential."""
        return user_id in {self.user_id, self.by_user}

    def may_be_own(self, user_id: str) -> bool:
        """Tell whether it may be the call of this user, who would approve it."""
        return same_person(user_id, self.user_id) or same_person(user_id, self.by_user)


def as_json(approval: CallApproval) -> dict[str, Json]:
    """Give the wire shape."""
    return {
        "id": approval.id,
        "status": approval.state.value,
        "subject": approval.subject,
        "plugin_id": approval.plugin_id,
        "user_id": approval.user_id,
        "asked_by": approval.by_user,
        "op": approval.op,
        "permission": approval.permission,
        "scope": approval.scope,
        "args_sha256": approval.args_sha256,
        "args": None if approval.args is None else json.loads(approval.args),
        "code": approval.code,
        "rule": approval.rule,
        "rules_sha256": approval.rules_sha256,
        "decision_id": approval.decision_id,
        "requested_at": approval.requested_at,
        "expires_at": approval.expires_at,
        "decided_by": approval.decided_by,
        "decided_at": approval.decided_at,
        "decision_reason": approval.decision_reason,
        "used_at": approval.used_at,
        "used_by_decision": approval.used_decision,
    }
