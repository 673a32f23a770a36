"""Which records are wanted."""

from dataclasses import dataclass
from datetime import datetime

from gateway.audit.leaf import microseconds
from gateway.domain.request import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which records are wanted; every member given must hold."""

    plugin: str | None = None
    user: str | None = None
    event_type: str | None = None
    category: str | None = None
    effect: str | None = None
    rule: str | None = None  # the id of the rule that decided
    min_risk: int | None = None
    since: datetime | None = None  # from this moment on
    until: datetime | None = None  # up to, but not including, this moment
    q: str | None = None  # words, "phrases" and beginnings* that all occur in the record

    def as_json(self) -> dict[str, Json]:
        """Give the members that are set."""
        given = ((name, getattr(self, name)) for name in self.__slots__)
        return {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in given
            if value is not None
        }

    @property
    def span(self) -> tuple[int | None, int | None]:
        """The first microsecond since 1970 that is wanted, and the first that no longer is; None for no bound."""
        since = None if self.since is None else microseconds(self.since)
        return since, None if self.until is None else microseconds(self.until)

    @property
    def everything(self) -> bool:
        """Whether no record is left out."""
        return not self.as_json()
