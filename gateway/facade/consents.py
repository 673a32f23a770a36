"""Consents from a Python program: who may do what with a user's things, since when, and when it was last done."""

from typing import Any

from gateway.client import Client


class ConsentLedger:
    """The consents of a home's users.

    They are given by the owner on behalf of `user_id`, which every use of them tells; to what is the user's own
    (`user_*`) only the user can consent, with a key.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def get_consents(self, user_id: str | None = None, plugin_id: str | None = None) -> list[dict[str, Any]]:
        """List the consents of a user or to a plugin, ended ones too, with when each was given and last used."""
        params = {"user_id": user_id, "plugin_id": plugin_id}
        found: list[dict[str, Any]] = self._client.request("GET", "/v1/consents", params=params).body["consents"]
        return found

    def get_uses_without_consent(self, user_id: str) -> list[dict[str, Any]]:
        """List what plugins may do with a user's things without a consent, since when, and when they last did."""
        body = self._client.request("GET", "/v1/consents", params={"user_id": user_id}).body
        found: list[dict[str, Any]] = body["without_consent"]
        return found

    def give_consent(self, user_id: str, plugin_id: str, permission: str, scope: str, **more: Any) -> str:  # noqa: ANN401 (any JSON value)
        """Consent for a user and give the consent's id; `more` may be `purpose`, `until`, `once` and `session_id`."""
        body = {"user_id": user_id, "plugin_id": plugin_id, "permission": permission, "scope": scope, **more}
        return str(self._client.request("POST", "/v1/consents", json=body, on_behalf=user_id).body["id"])

    def withdraw_consent(self, consent_id: str, user_id: str) -> bool:
        """Withdraw a consent at once; what reads by it is killed."""
        self._client.request("DELETE", f"/v1/consents/{consent_id}", on_behalf=user_id)
        return True
