"""The switch of a plugin to another generation: one transaction, or none of it."""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from gateway.domain.decision import timestamp
from gateway.domain.names import PluginId
from gateway.domain.request import Json
from gateway.registry.consents import Consents
from gateway.registry.holds import Hold, Holds
from gateway.registry.plugins import Plugin, Plugins
from gateway.registry.requests import PermissionRequest, RequestState
from gateway.registry.store import transaction

_DECIDE = "UPDATE permission_request SET state=?, decided_by=?, decided_at=?, decision_reason=?"
_OUTDATED = "another generation came into force"


@dataclass(frozen=True, slots=True, kw_only=True)
class Switching:
    """A switch that was begun: if it is not made, its grants are taken back, and what was told of it is corrected."""

    plugin_id: PluginId
    grants: tuple[int, ...]
    told: dict[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """What one switch changes at once.

    `request` is the one whose approval it is; every other of an update is outdated by it.
    """

    plugin: Plugin  # the new generation, as it is in force from now on
    follows: Plugin
    held: Sequence[Hold]  # on grants that it no longer asks for
    request: PermissionRequest | None
    reason: str
    ends_consents: bool
    by: str
    at: datetime


class Generations:
    """Writes switches into the registry's database, and keeps what is in memory in step."""

    def __init__(self, connection: sqlite3.Connection, plugins: Plugins, holds: Holds, consents: Consents) -> None:
        self._connection = connection
        self._plugins = plugins
        self._holds = holds
        self._consents = consents

    def begin(self, switching: Switching) -> None:
        """Note that a switch was begun."""
        with transaction(self._connection) as connection:
            connection.execute(
                "INSERT OR REPLACE INTO switching(plugin_id, grants, told) VALUES(?,?,?)",
                (switching.plugin_id, json.dumps(list(switching.grants)), json.dumps(switching.told)),
            )

    def begun(self) -> tuple[Switching, ...]:
        """Give the switches that were begun and never made."""
        return tuple(
            Switching(
                plugin_id=PluginId(row["plugin_id"]),
                grants=tuple(json.loads(row["grants"])),
                told=json.loads(row["told"]),
            )
            for row in self._connection.execute("SELECT * FROM switching")
        )

    def give_up(self, plugin_id: PluginId) -> None:
        """Note that nothing is left of a switch that was begun."""
        with transaction(self._connection) as connection:
            connection.execute("DELETE FROM switching WHERE plugin_id=?", (plugin_id,))

    def switch(self, switch: Switch) -> Plugin:
        """Put a generation in force; what was not written is not in force."""
        plugin, at = switch.plugin, timestamp(switch.at)
        with transaction(self._connection) as connection:
            connection.execute(
                "UPDATE plugin SET manifest=?, digest=?, generation=?, state=?, reason=?, changed_at=?"
                " WHERE plugin_id=? AND generation=? AND registration=?",
                (
                    json.dumps(plugin.manifest.raw),
                    plugin.digest,
                    plugin.generation,
                    plugin.state.value,
                    plugin.reason,
                    at,
                    plugin.id,
                    switch.follows.generation,
                    switch.follows.registration,
                ),
            )
            connection.executemany(
                "INSERT INTO hold(id, plugin_id, grant_number, reason, by, at) VALUES(?,?,?,?,?,?)",
                [(each.id, each.plugin_id, each.grant_number, each.reason, each.by, each.at) for each in switch.held],
            )
            if switch.request is not None:
                connection.execute(
                    f"{_DECIDE} WHERE id=?",
                    (RequestState.APPROVED.value, switch.by, at, switch.reason, switch.request.id),
                )
            connection.execute(
                f"{_DECIDE} WHERE plugin_id=? AND type='update' AND state=?",
                (RequestState.EXPIRED.value, switch.by, at, _OUTDATED, plugin.id, RequestState.PENDING.value),
            )
            if switch.ends_consents:
                connection.execute(
                    "UPDATE consent SET ended_at=?, end_reason=? WHERE plugin_id=? AND ended_at IS NULL",
                    (at, "the plugin asks for more than before", plugin.id),
                )
            connection.execute("DELETE FROM switching WHERE plugin_id=?", (plugin.id,))
        switched = replace(plugin, changed_at=at)
        self._plugins.note_switched(switched)
        self._holds.note_held(switch.held)
        if switch.ends_consents:
            self._consents.forget(plugin.id)
        return switched
