"""What is known of code that somebody, or a scanner, looked at; by its digest."""

import json
import sqlite3
from dataclasses import dataclass
from datetime import datetime

from gateway.domain.decision import timestamp
from gateway.domain.request import Json
from gateway.domain.scan import Finding, Scan
from gateway.registry.store import transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """A person looked at this very code and found it good."""

    id: str
    plugin_id: str
    digest: str
    reviewed_by: str
    reviewed_at: str
    reason: str

    def as_json(self) -> dict[str, Json]:
        """Give the wire shape."""
        return {
            "id": self.id,
            "plugin_id": self.plugin_id,
            "digest": self.digest,
            "reviewed_by": self.reviewed_by,
            "reviewed_at": self.reviewed_at,
            "reason": self.reason,
        }


class Vetting:
    """Keeps reviews and scans in the registry's database."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def keep_review(self, review: Review) -> None:
        """Keep a review.

        Raises:
            UnavailableError: the registry cannot be written.
        """
        with transaction(self._connection) as connection:
            row = (review.id, review.plugin_id, review.digest, review.reviewed_by, review.reviewed_at, review.reason)
            connection.execute("INSERT INTO code_review VALUES(?, ?, ?, ?, ?, ?)", row)

    def reviews(self, plugin_id: str, digest: str | None) -> tuple[Review, ...]:
        """Give the reviews of this very code, the newest first."""
        found = self._connection.execute(
            "SELECT * FROM code_review WHERE plugin_id=? AND digest=? ORDER BY rowid DESC", (plugin_id, digest)
        )
        return tuple(Review(**dict(row)) for row in found)

    def keep_scan(self, scan: Scan) -> None:
        """Keep a scan in place of an earlier one of the same code; what was accepted then is to be accepted anew.

        Raises:
            UnavailableError: the registry cannot be written.
        """
        findings = json.dumps([each.as_json() for each in scan.findings])
        with transaction(self._connection) as connection:
            connection.execute(
                "INSERT OR REPLACE INTO code_scan(plugin_id, digest, scanner, at, report) VALUES(?, ?, ?, ?, ?)",
                (scan.plugin_id, scan.digest, scan.scanner, scan.at, findings),
            )

    def scan(self, plugin_id: str, digest: str | None) -> Scan | None:
        """Give the scan of this very code."""
        row = self._connection.execute(
            "SELECT * FROM code_scan WHERE plugin_id=? AND digest=?", (plugin_id, digest)
        ).fetchone()
        if row is None:
            return None
        told = {name: value for name, value in dict(row).items() if name != "report"}
        return Scan(**told, findings=tuple(Finding.read(each) for each in json.loads(row["report"])))

    def accept_scan(self, scan: Scan, *, by: str, at: datetime, reason: str) -> None:
        """Write who takes what a scan found upon themselves.

        Raises:
            UnavailableError: the registry cannot be written.
        """
        with transaction(self._connection) as connection:
            connection.execute(
                "UPDATE code_scan SET accepted_by=?, accepted_at=?, reason=? WHERE plugin_id=? AND digest=? AND at=?",
                (by, timestamp(at), reason, scan.plugin_id, scan.digest, scan.at),
            )

    def forget(self, plugin_id: str) -> None:
        """Delete all that is known of a plugin's code; the same id later inherits nothing."""
        with transaction(self._connection) as connection:
            connection.execute("DELETE FROM code_review WHERE plugin_id=?", (plugin_id,))
            connection.execute("DELETE FROM code_scan WHERE plugin_id=?", (plugin_id,))
