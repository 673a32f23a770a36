"""A house: every part of one home, put together, recovered, and kept up until it is closed."""

import asyncio
import contextlib
import logging
import os
import pwd
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import sandbox
from gateway.app.home import check_home
from gateway.app.live import LiveReload
from gateway.app.recall import recall_samples
from gateway.app.sinks import sinks_of
from gateway.audit.index.following import Following
from gateway.audit.log import DecisionLog
from gateway.audit.naming import Mentions
from gateway.audit.query import LogReader
from gateway.audit.sinks.overview import Sinks
from gateway.bench.board import Board
from gateway.clock import new_id, now
from gateway.config import LogSettings, Settings, UpstreamSettings, read_settings
from gateway.domain.caller import Caller
from gateway.domain.names import UserId
from gateway.domain.record import Record, Resolution
from gateway.domain.request import Json
from gateway.errors import ConfigError, HearthgateError, LogUnavailableError, MalformedError, UnavailableError
from gateway.executor.confine import Caps
from gateway.executor.host import Host
from gateway.executor.pool import Pool
from gateway.executor.programs import Programs
from gateway.executor.resting import Bounds
from gateway.flows.erase import resume_erasures
from gateway.flows.hooks import Hooks
from gateway.flows.isolation import backends_used
from gateway.flows.keep_log import Keeping, keep_log
from gateway.flows.old_snapshots import drop_old_snapshots
from gateway.flows.parts import Parts, Registry, Resources
from gateway.flows.recount import recount
from gateway.flows.recover import mend_grants_file, recover
from gateway.flows.reload_policy import open_policy, reload_policy
from gateway.flows.tell import settle_later
from gateway.flows.watch_risk import RiskWatch
from gateway.http.application import build_asgi
from gateway.http.doors import Refusals
from gateway.http.mcp.door import McpDoor
from gateway.meter import Meter
from gateway.own_log import quiet_libraries
from gateway.policy.current import CurrentPolicy
from gateway.policy.engine import check_casbin
from gateway.registry.access_requests import AccessRequests
from gateway.registry.benchmarks import Benchmarks
from gateway.registry.call_approvals import CallApprovals
from gateway.registry.changed_tools import ChangedTools
from gateway.registry.conduct import Conduct
from gateway.registry.consents import Consents
from gateway.registry.erasures import Erasures
from gateway.registry.generations import Generations
from gateway.registry.grants import Grants
from gateway.registry.holds import Holds
from gateway.registry.keys import Keys
from gateway.registry.memory import Memory
from gateway.registry.plugins import Plugins
from gateway.registry.policy_sets import PolicySets
from gateway.registry.rates import Rates
from gateway.registry.requests import PermissionRequests
from gateway.registry.store import open_registry
from gateway.registry.vetting import Vetting
from gateway.resources.api import Api, Upstream, read_secret
from gateway.resources.core import Core
from gateway.resources.files import Files
from gateway.resources.network import Network
from gateway.resources.system import System
from gateway.resources.url import parse_url
from gateway.resources.users import Users
from gateway.resources.vault import Vault
from gateway.spans import Spans
from gateway.traffic.log import TrafficLog
from gateway.traffic.store import FILE as TRAFFIC_FILE
from gateway.watch import FolderWatch
from sandbox.launcher import Launcher
from sandbox.probe import probe

_log = logging.getLogger("hearthgate")
_SUMMARY_S = 60.0
_TRAFFIC_S = 1.0
_USES_S = 60.0
_KEEP_S = 60.0
_UNTOLD_S = 1.0
_EDIT_AGAIN_S = 1.0


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
        parts = _parts(home, settings, (log, index, meter), connection, stack, ports)
        stack.push_async_callback(_every(_TRAFFIC_S, partial(write_traffic, parts)))
        stack.push_async_callback(_every(_USES_S, partial(write_key_uses, parts)))
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
        stack.callback(_watch(parts))
        stack.push_async_callback(_begin(LiveReload(parts).run()))
        stack.push_async_callback(_every(_UNTOLD_S, partial(settle_later, parts)))
        stack.push_async_callback(_every(_SUMMARY_S, partial(tell_refusals, parts, refusals)))
        stack.push_async_callback(_every(_KEEP_S, partial(_keep_log, parts, settings.log)))
        mcp = McpDoor(parts, settings.mcp.names)
        stack.push_async_callback(mcp.close)
        asgi = build_asgi(parts, settings.http, refusals, mcp, settings.jwt)
        parts.forgetting.append(partial(_forget_in_memory, parts))
        await _go_on_erasing(parts)
        stack.push_async_callback(_every(_KEEP_S, partial(_go_on_erasing, parts)))
        yield House(asgi=asgi, parts=parts, settings=settings, ports=ports)


def _parts(
    home: Path,
    settings: Settings,
    record: tuple[DecisionLog, Following, Meter],
    connection: sqlite3.Connection,
    stack: AsyncExitStack,
    ports: set[int],
) -> Parts:
    caps = Caps(
        timeout_s=settings.sandbox.max_timeout_s,
        memory_mb=settings.sandbox.max_memory_mb,
        scratch_mb=settings.sandbox.max_scratch_mb,
        processes=settings.sandbox.max_processes,
        output_bytes=settings.sandbox.max_output_kb << 10,
        connections=settings.sandbox.max_connections,
        egress_bytes=settings.sandbox.max_egress_mb << 20,
    )
    accepted = frozenset(settings.sandbox.accept_missing)
    launcher = Launcher()
    pool = Pool(
        launcher,
        max_cells=settings.sandbox.max_cells,
        max_waiting=settings.sandbox.max_waiting,
        accept_missing=accepted,
        waiting_cells=Bounds(
            cells=settings.sandbox.max_idle_cells,
            idle_s=settings.sandbox.idle_cell_s,
            memory_bytes=settings.sandbox.max_idle_cell_mb << 20,
            server_bytes=settings.sandbox.max_idle_server_mb << 20,
        ),
    )
    memory = Memory(connection)
    policy = CurrentPolicy(on_swap=pool.policy_changed)
    backend = settings.sandbox.backend
    plugins, holds, consents = Plugins(connection), Holds(connection), Consents(connection)
    return Parts(
        home=home,
        owner=owner_name(),
        policy=policy,
        log=record[0],
        index=record[1],
        forgetting=[record[1].forget],
        registry=Registry(
            plugins=plugins,
            generations=Generations(connection, plugins, holds, consents),
            grants=Grants(connection),
            requests=PermissionRequests(connection),
            holds=holds,
            consents=consents,
            approvals=CallApprovals(connection),
            keys=Keys(connection),
            rates=Rates(),
            erasures=Erasures(connection),
            memory=memory,
            conduct=Conduct(connection),
            sets=PolicySets(home / "data" / "policy"),
            benchmarks=Benchmarks(connection),
            vetting=Vetting(connection),
            changed_tools=ChangedTools(connection),
            access_requests=AccessRequests(connection),
        ),
        resources=_resources(home, settings, stack, ports),
        traffic=_traffic(home, settings, stack),
        meter=record[2],
        bench=Board(recall=partial(recall_samples, LogReader(home / "data"))),
        pool=pool,
        programs=Programs(settings.sandbox.programs),
        caps=caps,
        backend=backend,
        max_asks=settings.sandbox.max_asks,
        host=Host(lambda: probe(launcher, backends_used(backend, policy.get())), accepted),
        now=now,
        new_id=new_id,
        sinks=Sinks(home / "data", sinks_of(settings, home)),
        unconfined=frozenset(settings.sandbox.unconfined),
        spans=_spans(settings, stack),
    )


def _spans(settings: Settings, stack: AsyncExitStack) -> Spans | None:
    if not settings.otel.endpoint:
        return None
    spans = Spans.open(settings.otel.endpoint, sample=settings.otel.sample)
    stack.push_async_callback(asyncio.to_thread, spans.close)
    return spans


def _resources(home: Path, settings: Settings, stack: AsyncExitStack, ports: set[int]) -> Resources:
    # SECURITY: no plugin reaches the home or the gateway's own code through a resource, whatever a rule says.
    hidden = [home, Path(__file__).resolve().parents[1], Path(sandbox.__file__).resolve().parent]
    vault = Vault(home / "data" / "vault.db")
    stack.callback(vault.close)
    users = Users(home / "data" / "vault.db")
    stack.callback(users.close)
    network = Network(own_ports=lambda: ports)
    return Resources(
        vault=vault,
        users=users,
        files=Files(hidden),
        network=network,
        api=Api(network, [_upstream(home, name, each) for name, each in settings.upstream.items()]),
        system=System(hidden),
        core=Core(version=version("hearthgate"), now=now, monotonic=time.monotonic),
    )


def _upstream(home: Path, name: str, settings: UpstreamSettings) -> Upstream:
    """Take a service from the settings.

    Raises:
        ConfigError: its address or its credential cannot be used.
    """
    try:
        parse_url(settings.url)
    except MalformedError as error:
        raise ConfigError(f"hearthgate.toml: upstream.{name}.url: {error.message}") from None
    secret_file = home / settings.secret_file
    read_secret(secret_file)
    return Upstream(
        name=name,
        url=settings.url,
        header=settings.header,
        prefix=settings.prefix,
        secret_file=secret_file,
        private=settings.private,
    )


def _traffic(home: Path, settings: Settings, stack: AsyncExitStack) -> TrafficLog:
    kept = settings.traffic
    traffic = TrafficLog(
        home / "data" / TRAFFIC_FILE, keep_days=kept.keep_days, max_entries=kept.max_entries, paths=kept.paths
    )
    stack.callback(lambda: traffic.close(now()))
    return traffic


async def write_key_uses(parts: Parts) -> None:
    """Write when keys and consents were last used, off the requests' path."""
    with contextlib.suppress(UnavailableError):  # WHY: what could not be written is written a minute later
        await asyncio.to_thread(parts.registry.keys.write_uses)
        await asyncio.to_thread(parts.registry.consents.write_uses)


def _forget_in_memory(parts: Parts, user: str, _seqs: Sequence[int]) -> None:
    parts.traffic.forget(user, Mentions(user).in_text)
    parts.rights.clear()


async def write_traffic(parts: Parts) -> None:
    """Write the traffic of the last moments, off the calls' path."""
    await asyncio.to_thread(parts.traffic.flush, parts.now())


def owner_name() -> str:
    """Give the login of the user who runs the gateway."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid{os.getuid()}"


def _watch(parts: Parts) -> Callable[[], None]:
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    async def reload() -> None:
        while True:
            try:
                await reload_policy(parts, by=None, why="files were edited")
            except LogUnavailableError as error:
                _log.error("an edit of the policy files waits for the decision log: %s", error)
                # INVARIANT: it is not forgotten meanwhile, for it may take something away.
                await asyncio.sleep(_EDIT_AGAIN_S)
            except HearthgateError as error:
                _log.error("an edit of the policy files could not be judged: %s", error)
                return
            else:
                return

    def start() -> None:
        task = loop.create_task(reload())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def changed() -> None:
        with contextlib.suppress(RuntimeError):  # WHY: the loop closed between the edit and this call
            loop.call_soon_threadsafe(start)

    folders = [parts.policies, parts.policies / "rules", parts.policies / "tests"]
    watch = FolderWatch(folders, changed)
    watch.start()
    # WHY: an edit made between the reading at start and the watch's beginning is told by nobody.
    start()

    def stop() -> None:
        watch.stop()
        for task in tasks:
            task.cancel()

    return stop


async def _keep_log(parts: Parts, settings: LogSettings) -> None:
    keeping = Keeping(
        segment_bytes=settings.segment_bytes,
        segment_days=settings.segment_days,
        keep_days=settings.keep_days,
        keep_segments=settings.keep_segments,
    )
    try:
        await keep_log(parts, keeping)
    except LogUnavailableError as error:
        _log.error("the log's files could not be looked after: %s", error)


async def _go_on_erasing(parts: Parts) -> None:
    try:
        await resume_erasures(parts)
    except HearthgateError as error:
        _log.error("an erasure could not be finished and will be tried again: %s", error)


async def tell_refusals(parts: Parts, refusals: Refusals) -> None:
    """Record how many requests were turned away undecided, if any were."""
    counts = refusals.take()
    if not counts:
        return
    try:
        await parts.log.append(
            Record(
                event_id=parts.event_id(),
                at=parts.now(),
                event_type="requests_refused",
                resolution=Resolution.REFUSED,
                details={"by_status": dict(counts)},
            )
        )
    except LogUnavailableError:
        refusals.put_back(counts)


def _begin(work: Coroutine[Any, Any, None]) -> Callable[[], Awaitable[None]]:
    task = asyncio.create_task(work)

    async def stop() -> None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    return stop


def _every(period_s: float, work: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        while True:
            await asyncio.sleep(period_s)
            await work()

    task = asyncio.create_task(run())

    async def stop() -> None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await work()

    return stop


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
