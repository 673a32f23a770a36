"""Who is asking the gateway for something."""

from datetime import datetime

from msgspec import Struct

from gateway.domain.names import OWNER, Subject, UserId, user_subject
from gateway.domain.trace import Trace


class Caller(Struct, frozen=True, kw_only=True):
    """An authenticated user, and what their credential is for.

    `key_scopes` is None for the owner over the unix socket, whom no key narrows.
    """

    user_id: UserId
    owner: bool = False
    key_id: str | None = None
    key_scopes: frozenset[str] | None = None
    read_only: bool = False  # the owner, where the settings give the socket no more than reading
    on_behalf: UserId | None = None  # said by the owner alone; recorded, never counted for four-eyes
    reason: str | None = None  # why, as said beside the request; recorded with what it changes
    trace: Trace | None = None
    until: datetime | None = None  # when a token ends; None: the owner, or a key, whose end the registry knows

    @property
    def trace_id(self) -> str | None:
        """The id of the trace that the request belongs to, as it is recorded."""
        return None if self.trace is None else self.trace.id

    @property
    def credential(self) -> str:
        """Tell one credential from another."""
        return f"{self.key_id or ''} {self.subject} {self.on_behalf or ''}"

    @property
    def subject(self) -> Subject:
        """As whom the policy is asked."""
        return OWNER if self.owner else user_subject(self.user_id)

    @property
    def acts_for(self) -> UserId:
        """The user whose data a call touches."""
        return self.on_behalf or self.user_id

    def holds(self, key_scope: str) -> bool:
        """Tell whether the credential is meant for this."""
        return self.key_scopes is None or key_scope in self.key_scopes
