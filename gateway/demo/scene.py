"""Where the story plays: a home, its gateway, the owner at the socket, and alice with a key."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from gateway.client import Client
from gateway.demo.story import Story
from gateway.demo.upstream import Service

ALICE = "alice"
EDIT_DEADLINE_S = 5.0
_POLL_S = 0.02
_CALL_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What the chapters share."""

    story: Story
    folder: Path  # temporary; holds the home and what is taken out of it
    home: Path
    url: str  # of the gateway on loopback
    owner: Client  # over the unix socket
    service: Service
    state: dict[str, str] = field(default_factory=dict)

    @property
    def rules(self) -> Path:
        """The folder of rules files."""
        return self.home / "policies" / "rules"

    def policy(self) -> dict[str, Any]:
        """Ask what is in force."""
        body: dict[str, Any] = self.owner.request("GET", "/v1/policy").body
        return body

    def wait_for_policy(self, arrived: Callable[[Mapping[str, Any]], bool]) -> tuple[dict[str, Any], float]:
        """Ask what is in force until it is as wished, or for some seconds; give it and how long that took."""
        begun = time.monotonic()
        while True:
            policy, waited = self.policy(), time.monotonic() - begun
            if arrived(policy) or waited > EDIT_DEADLINE_S:
                return policy, waited
            time.sleep(_POLL_S)

    def run_as_alice(
        self, plugin_id: str, payload: Mapping[str, Any], *, timeout_s: float = _CALL_S
    ) -> tuple[int, dict[str, Any]]:
        """Execute a plugin over HTTP with alice's key; give status and body."""
        answer = httpx.post(
            f"{self.url}/v1/plugins/{plugin_id}/execute",
            headers={"Authorization": f"Bearer {self.state['key']}"},
            json={"payload": dict(payload), "timeout_s": timeout_s},
            timeout=2 * _CALL_S,
        )
        body: dict[str, Any] = {}
        with suppress(ValueError):
            body = answer.json()
        return answer.status_code, body
