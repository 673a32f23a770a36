"""Who asks for something, in which call, and with which arguments."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from gateway.domain.names import PluginId, UserId, plugin_subject
from gateway.domain.permission import Kind, Level
from gateway.domain.request import AccessRequest, Json
from gateway.domain.trace import TRACEPARENT, TRACESTATE
from gateway.errors import MalformedError
from gateway.flows.call import Call, Execution, Moved
from gateway.flows.decide import Context, decide
from gateway.flows.parts import Parts
from gateway.registry.plugins import Plugin
from gateway.traffic.transfer import Passage

_JUDGED_AT_ONCE = 8  # questions of a list before others have their turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """With which machine a deed speaks, and how."""

    method: str
    host: str
    port: int
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """What a deed gives back."""

    value: Json = None
    blob: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """Who asks, in which call."""

    parts: Parts
    plugin: Plugin
    call: Call
    execution_id: str
    run_plugin: Callable[[Call, Context], Awaitable[Execution]]  # how one plugin calls another
    passage: Passage | None = None  # where what the deed moves is counted
    moved: Moved = field(default_factory=Moved)  # and what all deeds of this call do

    def count(self, sent: int, received: int) -> None:
        """Count bytes that the deed moves."""
        if self.passage is not None:
            self.passage.count(sent, received)

    def note_status(self, status: int) -> None:
        """Say what an HTTP server answered."""
        if self.passage is not None:
            self.passage.status = status

    def traced(self, headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Give the headers of a request that is sent for the call, with the trace that the call belongs to."""
        header = None if self.call.trace is None else self.call.trace.header
        if header is None:
            return [*headers]
        own = [(name, value) for name, value in headers if name.lower() not in {TRACEPARENT, TRACESTATE}]
        return [*own, (TRACEPARENT, header)]

    @property
    def user(self) -> UserId:
        """The user on whose behalf the call runs, and nobody else.

        Raises:
            MalformedError: it runs on behalf of nobody.
        """
        if self.call.user is None:
            raise MalformedError("this runs on behalf of nobody, so there is nothing that is kept for them")
        return self.call.user

    @property
    def subjects(self) -> tuple[PluginId, ...]:
        """All whose rights are needed: the plugin that asks, and those through which the call came."""
        return tuple(self.running)

    @property
    def running(self) -> dict[PluginId, str | None]:
        """The same, each with the digest of the code that it runs; a reload changes nothing of a call under way."""
        return {self.plugin.id: self.plugin.digest, **self.call.chain}

    def may(self, kind: Kind, level: Level, scope: str) -> bool:
        """Tell whether all of them would be allowed; records nothing."""
        return all(decide(self.parts, request, dry_run=True).allowed for request in self.requests(kind, level, scope))

    async def readable(self, kind: Kind, scopes: Mapping[str, str]) -> Value:
        """Give the names, of names and their scopes, that all of them would be allowed to read."""
        found: list[Json] = []
        for number, (name, scope) in enumerate(scopes.items(), start=1):
            if self.may(kind, Level.READ, scope):
                found.append(name)
            if number % _JUDGED_AT_ONCE == 0:
                # INVARIANT: nobody waits for a long list, least of all who takes something away.
                await asyncio.sleep(0)
        return Value(value=found)

    def requests(self, kind: Kind, level: Level, scope: str) -> list[AccessRequest]:
        """Make the questions that one deed asks."""
        return [
            AccessRequest(subject=plugin_subject(each), user=self.call.user, kind=kind, level=level.word, scope=scope)
            for each in self.subjects
        ]


class Args:
    """The arguments of an ask, each taken with its type."""

    def __init__(self, args: Mapping[str, Json], blob: bytes) -> None:
        self._args = args
        self.blob = blob

    def text(self, name: str) -> str:
        """Take a text."""
        value = self._args.get(name)
        if not isinstance(value, str):
            raise MalformedError(f"`{name}`: text is needed")
        return value

    def value(self, name: str) -> Json:
        """Take any JSON value."""
        if name not in self._args:
            raise MalformedError(f"`{name}` is missing")
        return self._args[name]

    def texts(self, name: str) -> list[str]:
        """Take a list of texts."""
        value = self._args.get(name)
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise MalformedError(f"`{name}`: a list of texts is needed")
        return [str(each) for each in value]

    def headers(self) -> dict[str, str]:
        """Take header fields; none where none are given."""
        value = self._args.get("headers") or {}
        if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
            raise MalformedError("`headers`: an object of texts is needed")
        return {name: str(each) for name, each in value.items()}
