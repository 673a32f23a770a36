"""The decision log's files, for Python programs."""

from typing import Any

from gateway.client import Client


class LogFiles:
    """What is done to the files of the decision log, as the home's owner."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def rotate(self, reason: str = "") -> dict[str, Any]:
        """Close the live file and begin a new one; gives the closed one's first and last record and its root."""
        done: dict[str, Any] = self._client.request("POST", "/v1/audit/rotate", json={"reason": reason}).body
        return done

    def erase(self, user_id: str, reason: str, *, keep_policy: bool = False) -> dict[str, Any]:
        """Erase a person; `status` is `pending` where a second person must ask for the same.

        Raises:
            ConflictError: policy files or manifests name the person; `keep_policy` leaves them as they are.

        """
        body = {"user": user_id, "reason": reason, "keep_policy": keep_policy}
        done: dict[str, Any] = self._client.request("POST", "/v1/audit/erase", json=body).body
        return done
