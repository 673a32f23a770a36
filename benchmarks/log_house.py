"""A gateway to be measured: the house that `hearthgate serve` opens, behind its own listener, on one core.

Whoever is measured without the log gets the same parts with a log whose append returns at once; no gateway has
such a thing.
"""

import argparse
import asyncio
import json
import os
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, cast

import uvloop

from benchmarks.log_workload import USER
from benchmarks.typed_decisions import ask_typed
from gateway.app import open_house
from gateway.app.serve import calm_collector
from gateway.audit.log import DecisionLog
from gateway.domain.names import UserId
from gateway.domain.record import Record
from gateway.http.application import build_asgi
from gateway.http.doors import Refusals
from gateway.http.mcp.door import McpDoor
from gateway.http.server import Listeners, until_signalled
from gateway.http.straight import StraightWay


class SwitchedOff:
    """A log that takes everything and keeps nothing."""

    why = None
    healthy = True

    def __init__(self) -> None:
        self._numbers = count(1)
        self.listeners: dict[str, list[Callable[[Record], None]]] = {}  # nobody is told, for nothing is durable

    async def append(self, *records: Record, sign: bool = False) -> tuple[int, ...]:  # noqa: ARG002 (as a log has it)
        """Give the records numbers and forget them."""
        return tuple(next(self._numbers) for _ in records)


async def serve(home: Path, *, logged: bool) -> None:
    """Serve a home until SIGTERM; tells its port and a key of `USER` in one line of JSON."""
    ended = until_signalled(asyncio.get_running_loop())
    async with open_house(home) as house:
        parts = house.parts
        key, secret = parts.registry.keys.add(UserId(USER), frozenset({"evaluate"}), expires_at=None, at=parts.now())
        if not logged:
            parts = replace(parts, log=cast("DecisionLog", SwitchedOff()))
        asgi = build_asgi(parts, house.settings.http, Refusals(), McpDoor(parts, {}))
        if not isinstance(asgi, StraightWay):
            raise SystemExit("a gateway that tells a collector of spans is not what is measured")
        asgi.application.register(ask_typed)
        listeners = Listeners(asgi)
        _, port = listeners.listen_tcp("127.0.0.1", 0)
        await listeners.start()
        calm_collector()
        told: dict[str, Any] = {"port": port, "key": secret, "key_id": key.id}
        print(json.dumps(told), flush=True)
        await ended.wait()
        await listeners.stop()


def main() -> None:
    """Serve as the arguments say."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("home", type=Path)
    options.add_argument("--core", type=int, required=True)
    options.add_argument("--log", choices=("on", "off"), required=True)
    chosen = options.parse_args()
    os.sched_setaffinity(0, {chosen.core})
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(chosen.home, logged=chosen.log == "on"))


if __name__ == "__main__":
    main()
