"""The plugins of a home and the state each is in."""

import json
import sqlite3
from dataclasses import dataclass, replace
from datetime import datetime

from gateway.domain.decision import timestamp
from gateway.domain.lifecycle import State
from gateway.domain.manifest import Manifest
from gateway.domain.names import PluginId, UserId
from gateway.registry.manifest import parse_manifest
from gateway.registry.store import next_number, transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """A plugin as the registry knows it."""

    manifest: Manifest
    state: State
    reason: str  # why it is in that state
    digest: str | None  # of the snapshot of its code, None without code
    generation: int  # of its manifest and code: grows with each registration and each reload
    registration: int  # the generation that was registered; it stays when the plugin is reloaded
    registered_by: str
    registered_at: str
    changed_at: str

    @property
    def id(self) -> PluginId:
        """Its id."""
        return self.manifest.plugin_id


class Plugins:
    """Every plugin that was ever registered and not uninstalled; kept in memory, durable before it is changed."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.read()

    def read(self) -> None:
        """Read what is stored, anew."""
        found = map(_from_row, self._connection.execute("SELECT * FROM plugin"))
        self._plugins: dict[PluginId, Plugin] = {plugin.id: plugin for plugin in found}

    def get(self, plugin_id: str) -> Plugin | None:
        """Find one; an uninstalled plugin is not found."""
        return self._plugins.get(PluginId(plugin_id))

    def all(self) -> tuple[Plugin, ...]:
        """Give all, by id."""
        return tuple(self._plugins[plugin_id] for plugin_id in sorted(self._plugins))

    def register(self, manifest: Manifest, *, digest: str | None, by: UserId, at: datetime) -> Plugin:
        """Write a new plugin, or a new manifest of one that is not approved yet."""
        with transaction(self._connection) as connection:
            number = next_number(connection, f"generation:{manifest.plugin_id}")
            plugin = Plugin(
                manifest=manifest,
                state=State.REGISTERED,
                reason="",
                digest=digest,
                generation=number,
                registration=number,
                registered_by=by,
                registered_at=timestamp(at),
                changed_at=timestamp(at),
            )
            connection.execute(
                "INSERT INTO plugin(plugin_id, state, reason, manifest, digest, generation, registration,"
                " registered_by, registered_at, changed_at) VALUES(?,?,?,?,?,?,?,?,?,?)"
                " ON CONFLICT(plugin_id) DO UPDATE SET state=excluded.state, reason=excluded.reason,"
                " manifest=excluded.manifest, digest=excluded.digest, generation=excluded.generation,"
                " registration=excluded.registration, registered_by=excluded.registered_by,"
                " registered_at=excluded.registered_at, changed_at=excluded.changed_at",
                (
                    plugin.id,
                    plugin.state.value,
                    plugin.reason,
                    json.dumps(manifest.raw),
                    digest,
                    plugin.generation,
                    plugin.registration,
                    by,
                    plugin.registered_at,
                    plugin.changed_at,
                ),
            )
        self._plugins[plugin.id] = plugin
        return plugin

    def move(self, plugin: Plugin, state: State, *, reason: str, at: datetime) -> Plugin:
        """Write a plugin's new state."""
        moved = replace(plugin, state=state, reason=reason, changed_at=timestamp(at))
        with transaction(self._connection) as connection:
            connection.execute(
                "UPDATE plugin SET state=?, reason=?, changed_at=? WHERE plugin_id=?",
                (state.value, reason, moved.changed_at, plugin.id),
            )
        self._plugins[plugin.id] = moved
        return moved

    def adopt_code(self, plugin_id: PluginId, digest: str, *, at: datetime) -> Plugin:
        """Write which snapshot of code is the plugin's; nothing else about it changes."""
        adopted = replace(self._plugins[plugin_id], digest=digest, changed_at=timestamp(at))
        with transaction(self._connection) as connection:
            connection.execute(
                "UPDATE plugin SET digest=?, changed_at=? WHERE plugin_id=?", (digest, adopted.changed_at, plugin_id)
            )
        self._plugins[plugin_id] = adopted
        return adopted

    def next_generation(self, plugin_id: PluginId) -> int:
        """Take the next number of a plugin's generations; it is never given twice."""
        with transaction(self._connection) as connection:
            return next_number(connection, f"generation:{plugin_id}")

    def note_switched(self, plugin: Plugin) -> None:
        """Take in a generation whose switch was written."""
        self._plugins[plugin.id] = plugin

    def forget(self, plugin: Plugin) -> None:
        """Delete a plugin with its consents and requests; the same id later inherits nothing but the noes."""
        there = self._plugins.get(plugin.id)
        if there is None or there.registration != plugin.registration:
            return
        with transaction(self._connection) as connection:
            for table in ("plugin", "consent", "switching"):
                connection.execute(f"DELETE FROM {table} WHERE plugin_id=?", (plugin.id,))  # noqa: S608 (names above)
            # SECURITY: what a person denied stays denied for a while, and is not asked by being installed again.
            connection.execute("DELETE FROM permission_request WHERE plugin_id=? AND state<>'denied'", (plugin.id,))
        del self._plugins[plugin.id]


def _from_row(row: sqlite3.Row) -> Plugin:
    return Plugin(
        manifest=parse_manifest(json.loads(row["manifest"])),
        state=State(row["state"]),
        reason=row["reason"],
        digest=row["digest"],
        generation=row["generation"],
        registration=row["registration"],
        registered_by=row["registered_by"],
        registered_at=row["registered_at"],
        changed_at=row["changed_at"],
    )
