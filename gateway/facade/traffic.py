"""The traffic log from a Python program: the requirements' traffic logger."""

from collections.abc import Iterator
from typing import Any

from gateway.client import Client

_PAGE = 500


class TrafficLogger:
    """What plugins' asks moved: where to, how many bytes, how long, and how it ended.

    The filters are `plugin`, `host`, `user`, and `since` and `until` (RFC 3339), as over HTTP.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def transfers(self, **filters: str) -> Iterator[dict[str, Any]]:
        """Give transfers that are over, the newest first, fetched as they are read."""
        cursor = None
        while True:
            page = self._client.request("GET", "/v1/traffic", params={**filters, "limit": _PAGE, "cursor": cursor}).body
            yield from page["transfers"]
            cursor = page["cursor"]
            if cursor is None:
                return

    def summary(self, **filters: str) -> dict[str, Any]:
        """Sum up transfers, by plugin, host, user, ask and outcome."""
        body: dict[str, Any] = self._client.request("GET", "/v1/traffic/summary", params=filters).body
        return body

    def active(self) -> list[dict[str, Any]]:
        """Give the transfers under way, the oldest first."""
        body: list[dict[str, Any]] = self._client.request("GET", "/v1/traffic/active").body["active"]
        return body

    def export(self, form: str = "jsonl", **filters: str) -> Iterator[bytes]:
        """Give transfers as lines of `jsonl` or `csv`, the oldest first; read it to its end or close it."""
        return self._client.stream_lines("/v1/traffic/export", params={**filters, "format": form})
