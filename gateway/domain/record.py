"""Records of the decision log: what happened, to whom, with what result."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from gateway.domain.decision import Decision
from gateway.domain.request import Json


class Category(StrEnum):
    """Groups of event types, as an auditor filters them."""

    LIFECYCLE = "lifecycle"
    PERMISSION = "permission"
    EXECUTION = "execution"
    SECURITY = "security"
    POLICY = "policy"
    SYSTEM = "system"


class Resolution(StrEnum):
    """What became of it."""

    ALLOWED = "allowed"
    DENIED = "denied"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    KILLED = "killed"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    PENDING = "pending"


_EVENT_TYPES: Mapping[Category, str] = {
    Category.LIFECYCLE: "registered approved activated suspended updated reloaded revoked uninstalled",
    Category.PERMISSION: "permission_requested permission_approved permission_denied permission_revoked "
    "consent_given consent_withdrawn call_approval_requested call_approval_approved call_approval_denied "
    "call_approval_used",
    Category.EXECUTION: "execution_started execution_completed execution_failed execution_timeout execution_lost "
    "access_granted benchmark_completed",
    Category.SECURITY: "access_denied permission_violation security_scan risk_assessment lockdown_on lockdown_off "
    "key_added key_revoked key_rotated redaction requests_refused owner_override code_reviewed",
    Category.POLICY: "policy_activated policy_rejected",
    Category.SYSTEM: "started stopped recovered exported segment_closed segment_dropped",
}
CATEGORY_OF: Mapping[str, Category] = {
    event_type: category for category, words in _EVENT_TYPES.items() for event_type in words.split()
}


class Record(Struct, frozen=True, kw_only=True):
    """One entry of the log.

    `details` is public. `personal` holds members that name or describe a person: the log commits to them
    with a salt, so that they can be erased while the log still verifies; a reader sees them merged into
    `details`. `user_id`, and `user` and `scope` of a decision, are personal too.
    """

    event_id: str  # "audit-" + UUIDv7
    at: datetime
    event_type: str  # a key of CATEGORY_OF
    resolution: Resolution
    plugin_id: str | None = None
    user_id: str | None = None
    risk_score: int = 0
    details: Mapping[str, Json] = {}
    personal: Mapping[str, Json] = {}
    decision: Decision | None = None
    replay: Mapping[str, Json] = {}  # the facts the decision was judged by
    trace_id: str | None = None
    ref: str | None = None  # the event this one belongs to: an outcome names its intent

    @property
    def category(self) -> Category:
        """The group of its event type."""
        return CATEGORY_OF[self.event_type]
