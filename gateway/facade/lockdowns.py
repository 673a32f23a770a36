"""The kill switch from a Python program."""

from typing import Any

from gateway.client import Client


class Lockdowns:
    """Lockdowns: what they name is denied at once and what runs of it is killed, until they are lifted."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def lock_down(self, scope: str, user_id: str, reason: str = "") -> str:
        """Lock `all`, `plugin:ID`, `user:ID` or `kind:KIND` and give the lockdown's id."""
        body = {"scope": scope, "reason": reason}
        return str(self._client.request("POST", "/v1/lockdown", json=body, on_behalf=user_id).body["id"])

    def lift(self, lockdown_id: str, user_id: str, reason: str) -> bool:
        """Lift a lockdown; a reason is needed."""
        path = f"/v1/lockdown/{lockdown_id}"
        self._client.request("DELETE", path, json={"reason": reason}, on_behalf=user_id)
        return True

    def get_lockdowns(self) -> list[dict[str, Any]]:
        """List the lockdowns in force."""
        found: list[dict[str, Any]] = self._client.request("GET", "/v1/lockdown").body["lockdowns"]
        return found
