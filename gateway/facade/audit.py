"""The decision log to a Python program."""

from collections.abc import Iterator
from typing import Any

from gateway.client import Client

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
