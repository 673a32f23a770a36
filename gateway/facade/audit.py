"""The decision log for Python programs."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from gateway.client import Client
from gateway.client.export import save_export

_PAGE = 500


class AuditLog:
    """The decision log of a home."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def search(self, q: str | None = None, *, limit: int | None = None, **filters: object) -> Iterator[dict[str, Any]]:
        """Give records, newest first, page by page as they are taken.

        `filters` are those of `GET /v1/audit`: plugin, user, event_type, category, effect, rule, min_risk, since ...

        Raises (when the first is taken):
            MalformedError: a filter or the words cannot be understood.
            DeniedError: the policy says no.
        """
        cursor, left = None, limit
        while left is None or left > 0:
            size = _PAGE if left is None else min(left, _PAGE)
            params = {**filters, "q": q, "limit": size, "cursor": cursor}
            page = self._client.request("GET", "/v1/audit", params=params).body
            yield from page["records"]
            left = None if left is None else left - len(page["records"])
            cursor = page["cursor"]
            if cursor is None:
                return

    def get(self, event_id: str) -> dict[str, Any] | None:
        """Give one record by its event's or its decision's id, None if there is none."""
        found = self._client.request("GET", "/v1/audit", params={"event_id": event_id}).body["records"]
        return found[0] if found else None

    def report(
        self, *, since: str | None = None, until: str | None = None, subject_data: str | None = None
    ) -> dict[str, Any]:
        """Give the report over a period, as JSON; `subject_data` names the person whose data is asked about."""
        params = {"since": since, "until": until, "subject_data": subject_data, "format": "json"}
        body: dict[str, Any] = self._client.request("GET", "/v1/audit/report", params=params).body
        return body

    def report_page(
        self, *, since: str | None = None, until: str | None = None, subject_data: str | None = None
    ) -> str:
        """Give the same report as a self-contained page to print."""
        params = {"since": since, "until": until, "subject_data": subject_data, "format": "html"}
        page: str = self._client.request("GET", "/v1/audit/report", params=params).body
        return page

    def export(
        self,
        file: str | Path,
        *,
        form: str = "jsonl",
        compress: str | None = None,
        redact: Iterable[str] = (),
        force: bool = False,
        **filters: str | int | datetime | None,
    ) -> dict[str, Any]:
        """Write an export to `file` and its manifest beside it, and give the manifest.

        `form` is jsonl, csv, parquet, ocsf, cef, cloudevents, opa or syslog, `compress` gzip or zstd. `redact` names
        what is left out: user_id, scope, near_misses, replay, details, or all. `filters` are plugin, user, event_type,
        category, effect, min_risk, since, until and q; a moment needs a zone.

        Raises:
            MalformedError: a filter, a format or a field cannot be.
            ConflictError: the file is there, and `force` was not given.

        """
        given = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in filters.items()}
        params = {**given, "format": form, "compress": compress, "redact": ",".join(redact) or None}
        return save_export(self._client, Path(file), params, force=force)

    def sinks(self) -> list[dict[str, Any]]:
        """Give where records go on to, how far each sink is, and its last error."""
        found: list[dict[str, Any]] = self._client.request("GET", "/v1/audit/sinks").body["sinks"]
        return found
