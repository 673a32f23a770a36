"""What every story is told with: the parts of one home, put together by `gateway.app`."""

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

from gateway.audit.index.following import Following
from gateway.audit.log import DecisionLog
from gateway.audit.sinks.overview import Sinks
from gateway.bench.board import Board
from gateway.domain.record import Record
from gateway.executor.confine import Caps
from gateway.executor.host import Host
from gateway.executor.pool import Pool
from gateway.executor.programs import Programs
from gateway.flows.reload_turns import ReloadTurns
from gateway.flows.rights import Rights
from gateway.meter import Meter
from gateway.policy.current import CurrentPolicy
from gateway.policy_files import KeptFiles, MembershipsFile
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
from gateway.resources.api import Api
from gateway.resources.core import Core
from gateway.resources.files import Files
from gateway.resources.network import Network
from gateway.resources.system import System
from gateway.resources.users import Users
from gateway.resources.vault import Vault
from gateway.spans import Spans
from gateway.traffic.log import TrafficLog


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """What is known of plugins and people."""

    plugins: Plugins
    generations: Generations
    grants: Grants
    requests: PermissionRequests
    holds: Holds
    consents: Consents
    approvals: CallApprovals
    keys: Keys
    rates: Rates
    erasures: Erasures
    memory: Memory
    conduct: Conduct
    sets: PolicySets
    benchmarks: Benchmarks
    vetting: Vetting
    changed_tools: ChangedTools
    access_requests: AccessRequests


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What allowed calls really do."""

    vault: Vault
    users: Users
    files: Files
    network: Network
    api: Api
    system: System
    core: Core


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """One home's parts; `editing` lets one change of policy or plugins in at a time.

    Each of `forgetting` is called, in a thread, with a user who is erased and the records that lost something by it.
    """

    home: Path
    owner: str
    policy: CurrentPolicy
    memberships: MembershipsFile  # what the set in force says of them, for others to read
    log: DecisionLog
    index: Following
    registry: Registry
    resources: Resources
    traffic: TrafficLog
    bench: Board
    meter: Meter
    pool: Pool
    programs: Programs
    caps: Caps
    backend: str  # who makes cells, where the policy names no other
    max_asks: int  # questions that one call may ask, what it calls included
    host: Host
    now: Callable[[], datetime]
    new_id: Callable[[], str]
    sinks: Sinks
    spans: Spans | None = None  # None: no collector is set
    custom_model: bool = False  # whether the operator accepts a model of their own
    unconfined: frozenset[str] = frozenset()  # plugins whose `sandbox: false` the operator accepts
    editing: asyncio.Lock = field(default_factory=asyncio.Lock)
    announced: dict[str, tuple[str, str]] = field(default_factory=dict)  # a version of files to come: by whom, and why
    unfinished: deque[Callable[[], Awaitable[None]]] = field(default_factory=deque)  # corrections that have to wait
    forgetting: list[Callable[[str, Sequence[int]], None]] = field(
        default_factory=list
    )  # who else keeps things of users
    ending: asyncio.Event = field(default_factory=asyncio.Event)  # the gateway stops: what streams on ends
    untold: deque[Record] = field(default_factory=deque)  # in force, and not recorded yet
    rights: Rights = field(default_factory=Rights)
    binding_key: bytes = field(default_factory=partial(secrets.token_bytes, 32), repr=False)  # of denials, for minutes
    reloads: ReloadTurns = field(default_factory=ReloadTurns)
    policy_files: KeptFiles = field(default_factory=KeptFiles)  # read at start, and by who holds `editing`

    @property
    def policies(self) -> Path:
        """The folder of policy files."""
        return self.home / "policies"

    @property
    def packages(self) -> Path:
        """The folder of what plugins depend on."""
        return self.home / "data" / "packages"

    @property
    def snapshots(self) -> Path:
        """The store of plugin code that may run."""
        return self.home / "data" / "snapshots"

    def event_id(self) -> str:
        """Give the id of a new record."""
        return f"audit-{self.new_id()}"
