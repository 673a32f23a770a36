"""Lifecycle hooks: a plugin is told what happened to it, after it is in force and recorded, and changes nothing by it.

A hook runs confined like a call, for a short time, on behalf of nobody. Only where something was given to an active
plugin may it ask, as that plugin; told of anything else, it gets no right at all.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from gateway.domain.lifecycle import LIFECYCLE_EVENTS, State
from gateway.domain.names import PluginId, plugin_subject
from gateway.domain.outcome import Outcome, RunResult, Usage
from gateway.domain.permission import Kind
from gateway.domain.record import Record, Resolution
from gateway.domain.request import Json
from gateway.domain.trace import Trace
from gateway.errors import HearthgateError, LogUnavailableError
from gateway.executor.broker import REFUSED, Answer, Ask, Job
from gateway.executor.confine import confine
from gateway.flows.adopt_code import packages_of
from gateway.flows.asking import Asking
from gateway.flows.call import Asks, Call
from gateway.flows.execute import run_plugin
from gateway.flows.isolation import backend_of
from gateway.flows.parts import Parts
from gateway.flows.run_record import EVENT_OF
from gateway.flows.use_resource import asking_as
from gateway.registry.folder import snapshot_path
from gateway.registry.plugins import Plugin

HOOK_S = 5.0  # that one hook may take, if its manifest allows that much
_END_S = 10.0  # that all of them have when the gateway ends
_GIVING = frozenset({"approved", "activated", "updated", "reloaded"})
_RENEWING = frozenset({"registered", "updated", "reloaded"})  # after these the manifest may be another
_TAKING = frozenset({"suspended", "revoked", "uninstalled"})  # of the plugin as it was then, whatever came since
_NOTHING = Usage(wall_s=0.0)
_log = logging.getLogger("hearthgate.plugins")


class Hooks:
    """Runs the hooks of one home's plugins, those of one plugin one after the other."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        for event_type in LIFECYCLE_EVENTS:
            parts.log.listeners.setdefault(event_type, []).append(self._hear)

    def _hear(self, record: Record) -> None:
        # INVARIANT: whoever recorded the event waits for nothing here.
        if record.plugin_id is None or record.resolution is Resolution.FAILED:
            return  # WHY: a reload that failed changed nothing that its plugin could be told of
        known = self._parts.registry.plugins.get(record.plugin_id)
        if record.event_type not in _RENEWING and (known is None or record.event_type not in known.manifest.hooks):
            return
        task = asyncio.create_task(self._follow(record, record.plugin_id, known))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _follow(self, record: Record, plugin_id: str, known: Plugin | None) -> None:
        turn = self._turns[plugin_id]
        async with turn:
            # WHY: an event is recorded before it is in force, by who holds this.
            async with self._parts.editing:
                plugin = known if record.event_type in _TAKING else self._parts.registry.plugins.get(plugin_id)
            try:
                if plugin is not None:
                    await run_hook(self._parts, plugin, record)
            except LogUnavailableError as error:
                _log.warning("plugin %s: the hook of `%s` did not run: %s", plugin_id, record.event_type, error)
            except Exception:  # noqa: BLE001 (a hook that breaks off breaks nothing else)
                _log.exception("plugin %s: the hook of `%s` broke off", plugin_id, record.event_type)

    async def close(self) -> None:
        """Let the hooks that were begun come to their end."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=_END_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


async def run_hook(parts: Parts, plugin: Plugin, told: Record) -> None:
    """Run the function that a plugin has for an event, if it has one; whatever becomes of it is recorded.

    Raises:
        LogUnavailableError: nothing ran, for it could not be recorded; or how it ended could not be.
    """
    function = plugin.manifest.hooks.get(told.event_type)
    if function is None or plugin.digest is None:
        return
    execution_id = parts.new_id()
    facts: dict[str, Json] = {
        "execution_id": execution_id,
        "hook": told.event_type,
        "of": told.event_id,
        "function": function,
        "generation": plugin.generation,
        "digest": plugin.digest,
    }

    def record(event_type: str, resolution: Resolution, more: Mapping[str, Json], ref: str | None = None) -> Record:
        error = {"error": more["error"]} if "error" in more else {}
        return Record(
            event_id=parts.event_id(),
            at=parts.now(),
            event_type=event_type,
            resolution=resolution,
            plugin_id=plugin.id,
            details={**facts, **{name: value for name, value in more.items() if name not in error}},
            personal=error,
            trace_id=told.trace_id,
            ref=ref,
        )

    intent = record("execution_started", Resolution.PENDING, {})
    await parts.log.append(intent)
    try:
        result = _refused(parts, plugin, told) or await _run(parts, plugin, told, function, execution_id)
    except HearthgateError as error:
        result = RunResult(outcome=Outcome.REFUSED, error=error.message, usage=_NOTHING)
    except BaseException:
        gone = RunResult(outcome=Outcome.UNKNOWN, error="the hook was given up", usage=_NOTHING)
        await parts.log.append(record(*EVENT_OF[gone.outcome], _ended(gone), intent.event_id))
        raise
    if not result.success:
        _log.warning("plugin %s: the hook of `%s` %s", plugin.id, told.event_type, result.outcome.value)
    await parts.log.append(record(*EVENT_OF[result.outcome], _ended(result), intent.event_id))


def _ended(result: RunResult) -> dict[str, Json]:
    error: dict[str, Json] = {} if result.error is None else {"error": result.error.splitlines()[0][:300]}
    return {
        "outcome": result.outcome.value,
        "success": result.success,
        "execution_time": result.usage.wall_s,
        "usage": result.usage.as_json(),
        "asks": list(result.asks),
        **error,
    }


def _refused(parts: Parts, plugin: Plugin, told: Record) -> RunResult | None:
    """Give the end of a hook that may not even begin."""
    why = None
    if parts.registry.holds.locked(subject=plugin_subject(plugin.id), user=None, kind=Kind.PLUGIN) is not None:
        why = "a lockdown is in force"
    elif told.event_type in {"approved", "activated", "reloaded"} and plugin.state is not State.ACTIVE:
        why = f"the plugin is {plugin.state.value} by now"
    elif plugin.state is State.REGISTERED and (plugin.manifest.code_review_required or plugin.manifest.security_scan):
        # SECURITY: its author asks for somebody to look at the code before anything of it runs.
        why = "its code is not reviewed or scanned yet"
    return None if why is None else RunResult(outcome=Outcome.REFUSED, error=why, usage=_NOTHING)


async def _run(parts: Parts, plugin: Plugin, told: Record, function: str, execution_id: str) -> RunResult:
    spec = confine(plugin.manifest, snapshot_path(parts.snapshots, plugin.digest or ""), parts.caps)
    timeout_s = min(spec.limits.timeout_s, HOOK_S)
    spec = replace(
        spec,
        packages=packages_of(parts, plugin),
        limits=replace(spec.limits, timeout_s=timeout_s),
        # SECURITY: the same maker of cells as for calls, for it is the same code.
        backend=backend_of(parts, plugin),
    )
    job = Job(
        execution_id=execution_id,
        plugin_id=plugin.id,
        user_id="",
        function=function,
        arguments={},
        session_id=None,
        timeout_s=timeout_s,
        generation=plugin.generation,
    )
    return await parts.pool.run(job, spec, _ask(parts, plugin, told, execution_id))


def _trace(told: Record) -> Trace | None:
    return None if told.trace_id is None else Trace(id=told.trace_id)


def _ask(parts: Parts, plugin: Plugin, told: Record, execution_id: str) -> Ask:
    asking = Asking(
        parts=parts,
        plugin=plugin,
        call=Call(plugin_id=plugin.id, payload={}, user=None, trace=_trace(told), asks=Asks(parts.max_asks)),
        execution_id=execution_id,
        run_plugin=lambda call, context: run_plugin(parts, call, context, None),
    )
    as_plugin = asking_as(asking)

    async def ask(op: str, args: Mapping[str, Json], blob: bytes) -> Answer:
        # SECURITY: a hook of what was taken away, or is not given yet, gets nothing, whatever rules say of that id; nor
        # does one whose plugin is another by now.
        if told.event_type in _GIVING and _is_active(parts, plugin.id, plugin.generation):
            return await as_plugin(op, args, blob)
        if op == REFUSED:
            return Answer(body={})
        note: dict[str, Json] = {"op": op[:40], "decision_id": None, "effect": "deny", "ok": False}
        body: dict[str, Json] = {"ok": False, "error": "denied", "decision_id": None, "reason": "inactive"}
        return Answer(body={**body, "near_misses": []}, note=note)

    return ask


def _is_active(parts: Parts, plugin_id: PluginId, generation: int) -> bool:
    there = parts.registry.plugins.get(plugin_id)
    return there is not None and there.state is State.ACTIVE and there.generation == generation
