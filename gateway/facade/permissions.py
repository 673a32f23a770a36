"""Permissions from a Python program: the requirements' permission manager."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.client import Client
from gateway.facade.values import Grant, Permission, PermissionRequest

_OWN_ID = "plugin_execute"  # the one permission whose scope goes without saying


class PermissionManager:
    """What plugins ask for and what they were granted.

    `user_id` is recorded as the one on whose behalf the home's owner acts; it gives no rights and is no
    second pair of eyes.
    """

    def __init__(self, client: Client) -> None:
        self.logger = logging.getLogger("gateway.permissions")
        self._client = client

    def request_permissions(
        self, plugin_id: str, user_id: str, permissions: Sequence[Mapping[str, Any]], reason: str = ""
    ) -> str:
        """Ask for permissions of a plugin, each `permission`, `scope` and perhaps `level`, `conditions`, `purpose`.

        Gives the id of the request, which waits for a person unless approval.toml says otherwise.
        """
        body = {"plugin_id": plugin_id, "permissions": [dict(one) for one in permissions], "reason": reason}
        reply = self._client.request("POST", "/v1/permission-requests", json=body, on_behalf=user_id)
        return str(reply.body["id"])

    def approve_permissions(
        self,
        request_id: str,
        user_id: str,
        reason: str = "",
        *,
        permissions: Sequence[str] | None = None,
        until: str | None = None,
    ) -> bool:
        """Grant what a request asks for, or only `permissions` of it, or only until a time (RFC 3339)."""
        more = {"permissions": None if permissions is None else list(permissions), "until": until}
        body = {"reason": reason, **{name: value for name, value in more.items() if value is not None}}
        self._client.request("POST", f"/v1/permission-requests/{request_id}/approve", json=body, on_behalf=user_id)
        self.logger.debug("approved %s on behalf of %s", request_id, user_id)
        return True

    def deny_permissions(self, request_id: str, user_id: str, reason: str = "") -> bool:
        """Refuse a request."""
        path = f"/v1/permission-requests/{request_id}/deny"
        self._client.request("POST", path, json={"reason": reason}, on_behalf=user_id)
        self.logger.debug("denied %s on behalf of %s", request_id, user_id)
        return True

    def check_permission(self, plugin_id: str, permission: str, level: str, scope: str | None = None) -> bool:
        """Tell whether a plugin would be allowed this now; asking uses up nothing.

        No scope is never any scope, so the answer is False; but `plugin_execute` then means the plugin itself.
        """
        if scope is None:
            if permission != _OWN_ID:
                return False
            scope = plugin_id
        body = {
            "subject": f"plugin:{plugin_id}",
            "permission": permission,
            "level": level,
            "scope": scope,
            "dry_run": True,
        }
        allowed: bool = self._client.request("POST", "/v1/decisions", json=body).body["effect"] == "allow"
        return allowed

    def get_plugin_permissions(self, plugin_id: str) -> list[Permission]:
        """List what a plugin may do now, by grants and by rules that name it."""
        return [Permission.read(body) for body in self._granted(plugin_id)]

    def get_plugin_grants(self, plugin_id: str) -> list[Grant]:
        """List what approvals gave a plugin, each with its id in grants.csv."""
        return [Grant.read(body) for body in self._granted(plugin_id) if body["granted"]]

    def get_pending_requests(self) -> list[PermissionRequest]:
        """List the requests that wait for a person's answer."""
        reply = self._client.request("GET", "/v1/permission-requests", params={"status": "pending"})
        return [PermissionRequest.read(body) for body in reply.body["requests"]]

    def revoke_permissions(
        self,
        plugin_id: str,
        user_id: str,
        reason: str = "",
        *,
        permission: str | None = None,
        scope: str | None = None,
    ) -> bool:
        """Take all grants of a plugin away at once, or only those of a permission or scope; running work is killed."""
        given = {"reason": reason, "permission": permission, "scope": scope}
        body = {name: value for name, value in given.items() if value is not None}
        path = f"/v1/plugins/{plugin_id}/permissions/revoke"
        self._client.request("POST", path, json=body, on_behalf=user_id)
        self.logger.debug("revoked grants of %s on behalf of %s", plugin_id, user_id)
        return True

    def export_permissions(self) -> dict[str, Any]:
        """Give every grant and request as versioned JSON."""
        body: dict[str, Any] = self._client.request("GET", "/v1/permissions/export").body
        return body

    def import_permissions(
        self, data: Mapping[str, Any], user_id: str | None = None, reason: str = "", *, dry_run: bool = False
    ) -> dict[str, Any]:
        """Grant what `data` holds and this home lacks, all of it or nothing, and give the difference.

        With `dry_run` the difference alone; nothing is ever taken away by an import.
        """
        body = dict(data) if dry_run else {**data, "reason": reason}
        params = {"dry_run": "true" if dry_run else "false"}
        reply = self._client.request("POST", "/v1/permissions/import", json=body, params=params, on_behalf=user_id)
        found: dict[str, Any] = reply.body
        self.logger.debug("import on behalf of %s: %d grants to add", user_id, len(found["add"]))
        return found

    def get_unused_grants(self, days: int = 90) -> list[dict[str, Any]]:
        """List the grants that were never used, or not in the last `days`, as the log tells it."""
        reply = self._client.request("GET", "/v1/permissions/unused", params={"days": str(days)})
        found: list[dict[str, Any]] = reply.body["grants"]
        return found

    def _granted(self, plugin_id: str) -> list[Mapping[str, Any]]:
        grants: list[Mapping[str, Any]] = self._client.request("GET", f"/v1/plugins/{plugin_id}/permissions").body[
            "grants"
        ]
        return grants
