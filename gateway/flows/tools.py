"""Tools: what active plugins offer to callers who are shown a list and call by one name, as MCP clients do.

A list is judged for its caller; a tool that is not theirs to call is, to them, one that is not there.
"""

import asyncio
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from gateway.domain.caller import Caller
from gateway.domain.decision import Reason
from gateway.domain.lifecycle import State
from gateway.domain.manifest import Capability
from gateway.domain.names import PluginId, parse_plugin_id
from gateway.domain.permission import Kind, Level
from gateway.domain.record import Record, Resolution
from gateway.domain.request import Json
from gateway.errors import DeniedError, HearthgateError, MalformedError, NotFoundError
from gateway.flows.authorize import authorize, is_known, judge_right
from gateway.flows.call import Call, Execution
from gateway.flows.execute import execute
from gateway.flows.memberships import plugin_rights
from gateway.flows.parts import Parts
from gateway.registry.plugins import Plugin

MAX_NAME = 64  # what the strictest of the models' own interfaces take
_BETWEEN = "__"
_BREATH = 50  # plugins that are judged before others get their turn
_DIGEST_CHARS = 24
_KEPT_CHARS = (MAX_NAME - 2 * len(_BETWEEN) - _DIGEST_CHARS) // 2
_ABROAD = frozenset({Kind.NETWORK, Kind.API, Kind.PLUGIN})
# A caller who meets one of these may call, in principle: another moment, or a person's word, lets them.
_FOR_NOW = frozenset({Reason.APPROVAL_REQUIRED, Reason.RATE_LIMITED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One capability of one active plugin, under the name that callers use."""

    name: str
    plugin: Plugin
    capability: Capability


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What a plugin's rights let it do, as far as a caller should know."""

    reads_only: bool
    abroad: bool  # it may get at what is not the gateway's: hosts, services, other plugins


@dataclass(frozen=True, slots=True)
class Tools:
    """The tools of one home; `names` are those that its settings give in place of the made ones."""

    parts: Parts
    names: Mapping[str, str]

    async def offered(self, caller: Caller) -> list[Tool]:
        """Give what a caller may call, in a lasting order; that they looked is recorded.

        Raises:
            LogUnavailableError: it could not be recorded.
        """
        found: list[Tool] = []
        for number, plugin in enumerate(self._active()):
            if number % _BREATH == _BREATH - 1:
                await asyncio.sleep(0)
            if _may_call(self.parts, caller, plugin.id):
                found += (tool for tool in self._of(plugin) if self.find(tool.name) is not None)
        await self.parts.log.append(_looked(self.parts, caller, len(found)))
        return sorted(found, key=lambda tool: tool.name)

    def find(self, name: str) -> Tool | None:
        """Give the tool of a name; None where there is none, or more than one."""
        plugin_id = self._plugin_id(name)
        plugin = None if plugin_id is None else self.parts.registry.plugins.get(plugin_id)
        among = self._active() if plugin is None else [plugin] if plugin.state is State.ACTIVE else []
        same = [tool for each in among for tool in self._of(each) if tool.name == name]
        # SECURITY: two that share a name are neither: nobody may get the one while they mean the other.
        return same[0] if len(same) == 1 else None

    async def call(self, caller: Caller, name: str, call: Call) -> Execution:
        """Run a tool as any call is run; `call` has everything but which plugin and capability it is of.

        Raises:
            NotFoundError: there is no such tool, or it is not the caller's to call; which of them is not told.
            HearthgateError: whatever else `execute` raises.
        """
        tool = self.find(name)
        taken = sorted(set(call.payload) & {"action", "batch"})
        if tool is None or taken:
            # SECURITY: asked, and recorded, as for one that is there, so that nobody learns it by the time it takes.
            plugin_id = self._plugin_id(name) if tool is None else tool.plugin.id
            if plugin_id is not None:
                try:
                    await authorize(self.parts, caller, Level.EXECUTE, f"plugins/{plugin_id}", key_scope="execute")
                except DeniedError as error:
                    raise unknown(name) from error
            if tool is None:
                raise unknown(name)
            # SECURITY: they are the gateway's own words in a payload: a caller who sent them could call something else.
            raise MalformedError(f"`{taken[0]}` is no parameter of `{name}`")
        payload: dict[str, Json] = {**call.payload, "action": tool.capability.name}
        try:
            return await execute(self.parts, caller, _with(call, tool.plugin.id, payload))
        except (DeniedError, NotFoundError) as error:
            if isinstance(error, NotFoundError) or is_hidden_by(error):
                raise unknown(name) from error
            raise

    async def reaches(self, plugin_ids: Iterable[PluginId]) -> dict[PluginId, Reach]:
        """Give what each of some plugins may do at most."""
        found: dict[PluginId, Reach] = {}
        for number, plugin_id in enumerate(plugin_ids):
            if number % _BREATH == _BREATH - 1:
                await asyncio.sleep(0)
            found[plugin_id] = self.reach(plugin_id)
        return found

    def reach(self, plugin_id: PluginId) -> Reach:
        """Give what a plugin may do at most, by the rules alone: nothing that its author says counts."""
        policy = self.parts.policy.get()
        if policy is None:
            return Reach(reads_only=False, abroad=True)
        rights = [permission for permission, _ in plugin_rights(self.parts, policy, plugin_id)]
        return Reach(
            reads_only=all(each.level is Level.READ for each in rights),
            abroad=any(each.kind in _ABROAD for each in rights),
        )

    def _active(self) -> Iterable[Plugin]:
        found = [each for each in self.parts.registry.plugins.all() if each.state is State.ACTIVE]
        return sorted(found, key=lambda plugin: plugin.id)

    def _of(self, plugin: Plugin) -> Iterator[Tool]:
        given = {full: name for name, full in self.names.items()}
        changed = {each.capability for each in self.parts.registry.changed_tools.of(plugin)}
        for capability in plugin.manifest.capabilities:
            if capability.name in changed:
                continue
            full = f"{plugin.id}{_BETWEEN}{capability.name}"
            name = given.get(full) or made_name(plugin.id, capability.name)
            yield Tool(name=name, plugin=plugin, capability=capability)

    def _plugin_id(self, name: str) -> PluginId | None:
        """Give the plugin that a name speaks of; None where the name was shortened, or speaks of none."""
        plugin_id, between, capability = self.names.get(name, name).partition(_BETWEEN)
        if not between or capability[:1].isdecimal():
            return None
        try:
            return parse_plugin_id(plugin_id)
        except MalformedError:
            return None


def made_name(plugin_id: str, capability: str) -> str:
    """Give the name of a capability among tools: `<plugin>__<capability>`, or, where that is too long, one like it.

    No two short ones are the same, for a plugin's id has no `_`; a long one is none of them, for behind its `__` stands
    a digit, with which no capability's name begins.
    """
    full = f"{plugin_id}{_BETWEEN}{capability}"
    if len(full) <= MAX_NAME:
        return full
    digest = hashlib.sha256(full.encode()).hexdigest()[: _DIGEST_CHARS - 1]
    return f"{plugin_id[:_KEPT_CHARS]}{_BETWEEN}0{digest}{_BETWEEN}{capability[:_KEPT_CHARS]}"


def unknown(name: str) -> NotFoundError:
    """Make the one answer to a name that is nothing to its caller."""
    return NotFoundError(f"there is no tool `{name[:200]}`")


def is_hidden_by(error: HearthgateError) -> bool:
    """Tell whether a denial is one of the caller, who then is not to know that there was something to call."""
    decision = error.extra.get("decision")
    if not isinstance(decision, dict):
        return error.extra.get("reason") == "credential"
    return decision.get("kind") == Kind.GATEWAY and decision.get("reason") not in _FOR_NOW


def _may_call(parts: Parts, caller: Caller, plugin_id: PluginId) -> bool:
    if not is_known(parts, caller) or not caller.holds("execute") or caller.read_only:
        return False
    judged = judge_right(parts, caller, Level.EXECUTE, f"plugins/{plugin_id}")
    return judged.allowed or judged.verdict.reason in _FOR_NOW


def _with(call: Call, plugin_id: str, payload: Mapping[str, Json]) -> Call:
    return Call(
        plugin_id=plugin_id,
        payload=payload,
        user=call.user,
        session_id=call.session_id,
        timeout_s=call.timeout_s,
        trace=call.trace,
        waiting=call.waiting,
    )


def _looked(parts: Parts, caller: Caller, count: int) -> Record:
    return Record(
        event_id=parts.event_id(),
        at=parts.now(),
        event_type="access_granted",
        resolution=Resolution.ALLOWED,
        user_id=caller.user_id,
        details={"list": "tools", "results": count},
        trace_id=caller.trace_id,
    )
