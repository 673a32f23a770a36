"""The parts of one home, put together; nothing else does that."""

import asyncio
import os
import pwd
import sqlite3
import time
from contextlib import AsyncExitStack
from functools import partial
from importlib.metadata import version
from pathlib import Path

import sandbox
from gateway.app.recall import recall_samples
from gateway.app.sinks import sinks_of
from gateway.audit.index.following import Following
from gateway.audit.log import DecisionLog
from gateway.audit.query import LogReader
from gateway.audit.sinks.overview import Sinks
from gateway.bench.board import Board
from gateway.clock import new_id, now
from gateway.config import Settings, UpstreamSettings
from gateway.errors import ConfigError, MalformedError
from gateway.executor.confine import Caps
from gateway.executor.host import Host
from gateway.executor.pool import Pool
from gateway.executor.programs import Programs
from gateway.executor.resting import Bounds
from gateway.flows.isolation import backends_used
from gateway.flows.parts import Parts, Registry, Resources
from gateway.meter import Meter
from gateway.policy.current import CurrentPolicy
from gateway.policy_files import MembershipsFile
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
from sandbox.launcher import Launcher
from sandbox.probe import probe


def put_together(
    home: Path,
    settings: Settings,
    record: tuple[DecisionLog, Following, Meter],
    connection: sqlite3.Connection,
    stack: AsyncExitStack,
    ports: set[int],
) -> Parts:
    """Put the parts of a home together, from its settings; `stack` closes what has to be closed.

    Raises:
        ConfigError: a service's address or credential cannot be used.
    """
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
        memberships=MembershipsFile(home / "data"),
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
        custom_model=settings.policy.custom_model,
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


def owner_name() -> str:
    """Give the login of the user who runs the gateway."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid{os.getuid()}"
