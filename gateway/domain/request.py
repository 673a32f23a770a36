"""What is asked, and the facts it is judged by."""

from collections.abc import Callable, Mapping
from datetime import datetime

from msgspec import Struct

from gateway.domain.condition import Rate
from gateway.domain.names import Subject, UserId
from gateway.domain.permission import LEVELS, Level

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
NO_ATTRIBUTES: Mapping[str, Json] = {}


class AccessRequest(Struct, frozen=True, kw_only=True):
    """The question whether `subject`, on behalf of `user`, may do `level` on `scope` of `kind`."""

    subject: Subject
    user: UserId | None
    kind: str  # a family, `gateway`, or another resource type
    level: str  # a level, or an action name for other resource types
    scope: str  # canonical

    @property
    def permission(self) -> str:
        """The wire spelling, as `vault_read`."""
        return f"{self.kind}_{self.level}"

    @property
    def level_rank(self) -> Level | None:
        """The level as a rank, None if it is an action name."""
        return LEVELS.get(self.level)


def nothing_used(_rule_id: str, _rate: Rate) -> int:
    """Answer that no rate was used at all."""
    return 0


class Facts(Struct, frozen=True, kw_only=True):
    """Everything besides the rules that a decision depends on; recorded, so that it can be replayed.

    `used` tells how much of a rule's rate this subject and user have used; asking consumes nothing.
    """

    at: datetime  # UTC
    risk: int = 0
    consent_id: str | None = None  # the consent that covers this request
    approval_id: str | None = None  # the approval of this exact call
    used: Callable[[str, Rate], int] = nothing_used
    attributes: Mapping[str, Mapping[str, Json]] = {}
    # keys: subject resource action context args; what the gateway stores has already won over what was sent
