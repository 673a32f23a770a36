"""A grant: a permission that an approval gave a plugin, written as a line of grants.csv."""

from dataclasses import dataclass
from enum import StrEnum

from gateway.domain.names import PluginId
from gateway.domain.permission import Permission
from gateway.domain.request import Json


class GrantState(StrEnum):
    """Whether it still holds; only a live one may stand in grants.csv."""

    LIVE = "live"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """One granted permission; `id` is the id of its rule."""

    number: int
    plugin_id: PluginId
    permission: Permission
    scope: str
    condition: str
    why: str
    state: GrantState
    granted_by: str
    granted_at: str

    @property
    def id(self) -> str:
        """The id of its rule in grants.csv."""
        return f"grant-{self.number}"

    def as_json(self) -> dict[str, Json]:
        """Give the wire shape."""
        return {
            "id": self.id,
            "plugin_id": self.plugin_id,
            "permission": str(self.permission),
            "level": self.permission.level.word,
            "scope": self.scope,
            "condition": self.condition,
            "why": self.why,
            "state": self.state.value,
            "granted_by": self.granted_by,
            "granted_at": self.granted_at,
        }
