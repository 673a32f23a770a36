"""A house: every part of one home, put together, recovered, and kept up until it is closed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gateway.app.home import check_home
from gateway.app.live import LiveReload
from gateway.app.parts import put_together
from gateway.app.rounds import (
    begin,
    every,
    go_on_erasing,
    keep_up_log,
    tell_refusals,
    watch_policy,
    write_key_uses,
    write_traffic,
)
from gateway.audit.index.following import Following
from gateway.audit.log import DecisionLog
from gateway.audit.naming import Mentions
from gateway.clock import new_id, now
from gateway.config import Settings, read_settings
from gateway.domain.caller import Caller
from gateway.domain.names import UserId
from gateway.domain.record import Record, Resolution
from gateway.domain.request import Json
from gateway.flows.hooks import Hooks
from gateway.flows.old_snapshots import drop_old_snapshots
from gateway.flows.parts import Parts
from gateway.flows.recount import recount
from gateway.flows.recover import mend_grants_file, recover
from gateway.flows.reload_policy import open_policy
from gateway.flows.tell import settle_later
from gateway.flows.watch_risk import RiskWatch
from gateway.http.application import build_asgi
from gateway.http.doors import Refusals
from gateway.http.mcp.door import McpDoor
from gateway.meter import Meter
from gateway.own_log import quiet_libraries
from gateway.policy.engine import check_casbin
from gateway.registry.store import open_registry

_SUMMARY_S = 60.0
_TRAFFIC_S = 1.0
_USES_S = 60.0
_KEEP_S = 60.0
_UNTOLD_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """An open home: its ASGI application, its parts and its settings."""

    asgi: Callable[..., Awaitable[None]]
    parts: Parts
    settings: Settings
    ports: set[int]  # the gateway's own listeners, which no plugin may reach


@asynccontextmanager
async def open_house(folder: Path) -> AsyncIterator[House]:
    """Open a home in this process.

    Raises:
        NoHomeError: the folder is no home.
        HomeInUseError: another process has it open.
        ConfigError: its settings are wrong.
    """
    home = check_home(folder)
    settings = read_settings(home)
    quiet_libraries()
    check_casbin()
    async with AsyncExitStack() as stack:
        data = home / "data"
        data.mkdir(mode=0o700, exist_ok=True)
        data.chmod(0o700)
        log = await asyncio.to_thread(DecisionLog.open, data, now=now, new_id=new_id)
        meter = Meter()
        log.when_committed(meter.committed)
        stack.push_async_callback(log.close)
        index = Following(data)
        index.start()
        stack.push_async_callback(asyncio.to_thread, index.stop)
        connection = open_registry(data / "registry.db")
        stack.callback(connection.close)
        ports: set[int] = set()
        parts = put_together(home, settings, (log, index, meter), connection, stack, ports)
        stack.push_async_callback(every(_TRAFFIC_S, partial(write_traffic, parts)))
        stack.push_async_callback(every(_USES_S, partial(write_key_uses, parts)))
        stack.push_async_callback(parts.bench.close)
        stack.push_async_callback(parts.pool.close)
        stack.push_async_callback(Hooks(parts).close)
        risks = RiskWatch(parts)
        stack.push_async_callback(risks.close)
        refusals = Refusals()
        owner = Caller(user_id=UserId(parts.owner), owner=True)
        await mend_grants_file(parts)
        await open_policy(parts, by=parts.owner)
        await risks.begin()
        await recover(parts, owner)
        await asyncio.to_thread(recount, parts)
        await asyncio.to_thread(drop_old_snapshots, parts)
        stack.callback(watch_policy(parts))
        stack.push_async_callback(begin(LiveReload(parts).run()))
        stack.push_async_callback(every(_UNTOLD_S, partial(settle_later, parts)))
        stack.push_async_callback(every(_SUMMARY_S, partial(tell_refusals, parts, refusals)))
        stack.push_async_callback(every(_KEEP_S, partial(keep_up_log, parts, settings.log)))
        mcp = McpDoor(parts, settings.mcp.names)
        stack.push_async_callback(mcp.close)
        asgi = build_asgi(parts, settings.http, refusals, mcp, settings.jwt)
        parts.forgetting.append(partial(_forget_in_memory, parts))
        await go_on_erasing(parts)
        stack.push_async_callback(every(_KEEP_S, partial(go_on_erasing, parts)))
        yield House(asgi=asgi, parts=parts, settings=settings, ports=ports)


def _forget_in_memory(parts: Parts, user: str, _seqs: Sequence[int]) -> None:
    parts.traffic.forget(user, Mentions(user).in_text)
    parts.rights.clear()


def lifecycle_record(parts: Parts, event_type: str, details: dict[str, Json]) -> Record:
    """Make the record that the gateway itself started or stopped."""
    return Record(
        event_id=parts.event_id(),
        at=parts.now(),
        event_type=event_type,
        resolution=Resolution.COMPLETED,
        user_id=parts.owner,
        details=details,
    )
