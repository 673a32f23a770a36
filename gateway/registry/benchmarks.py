"""The history of benchmarks: of each plugin the newest few hundred."""

import json
import sqlite3
from dataclasses import dataclass

from gateway.domain.request import Json
from gateway.registry.store import transaction

_KEPT = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptBenchmark:
    """A benchmark as it was told; `report` is its whole JSON."""

    id: str
    plugin_id: str
    generation: int
    kind: str
    at: str
    report: dict[str, Json]


class Benchmarks:
    """Keeps reports in the registry's database."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def keep(self, benchmark: KeptBenchmark) -> None:
        """Keep a report; the oldest of the plugin beyond the newest 200 go.

        Raises:
            UnavailableError: the registry cannot be written.
        """
        row = (
            benchmark.id,
            benchmark.plugin_id,
            benchmark.generation,
            benchmark.kind,
            benchmark.at,
            json.dumps(benchmark.report, separators=(",", ":"), allow_nan=False),
        )
        with transaction(self._connection) as connection:
            connection.execute("INSERT INTO benchmark VALUES(?, ?, ?, ?, ?, ?)", row)
            connection.execute(
                "DELETE FROM benchmark WHERE plugin_id=? AND rowid NOT IN "
                "(SELECT rowid FROM benchmark WHERE plugin_id=? ORDER BY rowid DESC LIMIT ?)",
                (benchmark.plugin_id, benchmark.plugin_id, _KEPT),
            )

    def of(self, plugin_id: str, *, limit: int = _KEPT) -> tuple[KeptBenchmark, ...]:
        """Give the reports of a plugin, the newest first."""
        found = self._connection.execute(
            "SELECT * FROM benchmark WHERE plugin_id=? ORDER BY rowid DESC LIMIT ?", (plugin_id, limit)
        )
        return tuple(map(_from_row, found))

    def latest(self, plugin_id: str, *, before_generation: int, kind: str) -> KeptBenchmark | None:
        """Give the newest report of a kind of the newest generation before this one."""
        row = self._connection.execute(
            "SELECT * FROM benchmark WHERE plugin_id=? AND generation<? AND kind=? "
            "ORDER BY generation DESC, rowid DESC LIMIT 1",
            (plugin_id, before_generation, kind),
        ).fetchone()
        return None if row is None else _from_row(row)

    def forget(self, plugin_id: str) -> None:
        """Delete the reports of a plugin."""
        with transaction(self._connection) as connection:
            connection.execute("DELETE FROM benchmark WHERE plugin_id=?", (plugin_id,))


def _from_row(row: sqlite3.Row) -> KeptBenchmark:
    return KeptBenchmark(
        id=row["id"],
        plugin_id=row["plugin_id"],
        generation=row["generation"],
        kind=row["kind"],
        at=row["at"],
        report=json.loads(row["report"]),
    )
