"""Approvals of exact calls from a Python program."""

from typing import Any

from gateway.client import Client


class CallApprovals:
    """Exact calls that need a person's yes.

    `user_id` is recorded as the one on whose behalf the home's owner answers; it gives no rights, and a call that the
    owner made stays the owner's own.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def get_call_approvals(self, status: str | None = "pending") -> list[dict[str, Any]]:
        """List the exact calls of a status (pending, approved, denied, used, expired, void), or all of them."""
        reply = self._client.request("GET", "/v1/call-approvals", params={"status": status})
        found: list[dict[str, Any]] = reply.body["approvals"]
        return found

    def approve_call(self, approval_id: str, user_id: str, reason: str = "", *, until: str | None = None) -> bool:
        """Let one exact call be made, once, until a time (RFC 3339), else within the next hour."""
        body = {"reason": reason, **({} if until is None else {"until": until})}
        self._client.request("POST", f"/v1/call-approvals/{approval_id}/approve", json=body, on_behalf=user_id)
        return True

    def deny_call(self, approval_id: str, user_id: str, reason: str = "") -> bool:
        """Refuse one exact call."""
        path = f"/v1/call-approvals/{approval_id}/deny"
        self._client.request("POST", path, json={"reason": reason}, on_behalf=user_id)
        return True
