"""Tools of MCP servers that are not, or no longer, defined as they were approved: suspended until a person looks."""

import sqlite3
from dataclasses import dataclass
from datetime import datetime

from gateway.domain.decision import timestamp
from gateway.domain.request import Json
from gateway.registry.plugins import Plugin
from gateway.registry.store import transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedTool:
    """A capability whose tool was told otherwise than its manifest says; `told` names that, None: it is gone."""

    capability: str
    told: str | None
    at: str

    def as_json(self) -> dict[str, Json]:
        """Give the wire shape."""
        return {"capability": self.capability, "told": self.told, "at": self.at}


class ChangedTools:
    """Keeps them in the registry's database; they are of one generation, and another begins without any."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        rows = connection.execute("SELECT * FROM changed_tool")
        self._known = {(row["plugin_id"], row["capability"]): dict(row) for row in rows}

    def of(self, plugin: Plugin) -> tuple[ChangedTool, ...]:
        """Give those of a generation, by their capability's name."""
        rows = (self._known.get((plugin.id, each.name)) for each in plugin.manifest.capabilities)
        return tuple(
            ChangedTool(capability=row["capability"], told=row["told"], at=row["at"])
            for row in rows
            if row is not None and _is_of(row, plugin)
        )

    def has(self, plugin: Plugin, capability: str) -> bool:
        """Tell whether a capability is suspended."""
        row = self._known.get((plugin.id, capability))
        return row is not None and _is_of(row, plugin)

    def keep(self, plugin: Plugin, capability: str, told: str | None, *, at: datetime) -> None:
        """Suspend a capability.

        Raises:
            UnavailableError: the registry cannot be written; it is suspended until the gateway stops.
        """
        row = {
            "plugin_id": plugin.id,
            "registration": plugin.registration,
            "generation": plugin.generation,
            "capability": capability,
            "told": told,
            "at": timestamp(at),
        }
        self._known[plugin.id, capability] = row
        with transaction(self._connection) as connection:
            connection.execute(
                "INSERT OR REPLACE INTO changed_tool VALUES"
                "(:plugin_id, :registration, :generation, :capability, :told, :at)",
                row,
            )

    def forget(self, plugin_id: str, capability: str | None = None) -> None:
        """Suspend one capability no longer, or none of a plugin."""
        with transaction(self._connection) as connection:
            connection.execute(
                "DELETE FROM changed_tool WHERE plugin_id=? AND capability=coalesce(?, capability)",
                (plugin_id, capability),
            )
        for key in [key for key in self._known if key[0] == plugin_id and capability in {None, key[1]}]:
            del self._known[key]


def _is_of(row: dict[str, object], plugin: Plugin) -> bool:
    return (row["registration"], row["generation"]) == (plugin.registration, plugin.generation)
