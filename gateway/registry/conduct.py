"""What plugins tried and were refused by their cells, as far as it counts against them."""

import hashlib
import sqlite3

from gateway.domain.names import PluginId
from gateway.registry.store import transaction

PER_STEP = 10  # different tries that raise a plugin's risk by one step
MOST_STEPS = 5


class Conduct:
    """Counts for each registration of a plugin; what is counted stays until a person takes it away."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def note(self, plugin_id: PluginId, registration: int, tried: str, *, weight: int = 1) -> int:
        """Count a try once; gives the step that is reached by it, 0 if it reaches none."""
        # WHY: a digest, for what was tried may name a person.
        digest = hashlib.sha256(tried.encode("utf-8", "replace")).digest()[:16]
        before = self._weight(plugin_id, registration)
        if before >= PER_STEP * MOST_STEPS:
            return 0
        with transaction(self._connection) as connection:
            connection.execute(
                "INSERT OR IGNORE INTO misconduct(plugin_id, registration, try, weight) VALUES(?, ?, ?, ?)",
                (plugin_id, registration, digest, weight),
            )
        after = self._weight(plugin_id, registration)
        return _step(after) if _step(after) > _step(before) else 0

    def steps(self) -> dict[PluginId, int]:
        """Give the step of each plugin that has one, by its present registration."""
        rows = self._connection.execute(
            "SELECT plugin_id, sum(weight) FROM misconduct JOIN plugin USING(plugin_id, registration)"
            " GROUP BY plugin_id"
        )
        return {PluginId(row[0]): step for row in rows if (step := _step(row[1]))}

    def forget(self, plugin_id: PluginId) -> None:
        """Take away what was counted, for a person has looked at it."""
        with transaction(self._connection) as connection:
            connection.execute("DELETE FROM misconduct WHERE plugin_id = ?", (plugin_id,))

    def _weight(self, plugin_id: PluginId, registration: int) -> int:
        row = self._connection.execute(
            "SELECT coalesce(sum(weight), 0) FROM misconduct WHERE plugin_id = ? AND registration = ?",
            (plugin_id, registration),
        ).fetchone()
        return int(row[0])


def _step(weight: int) -> int:
    return min(weight // PER_STEP, MOST_STEPS)
