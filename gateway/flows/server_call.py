"""What a call is to a plugin that is an MCP server: one of its tools, as it was approved, and its answer."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from gateway.domain.caller import Caller
from gateway.domain.manifest import Capability, Manifest, Runtime
from gateway.domain.outcome import Outcome, RunResult
from gateway.domain.permission import Level
from gateway.domain.record import Record, Resolution
from gateway.domain.request import Json
from gateway.errors import ConflictError, HostCannotKeepError, MalformedError, NotFoundError, ReloadFailedError
from gateway.executor.confine import Showing
from gateway.executor.server_tools import stand_ins
from gateway.flows.authorize import authorize
from gateway.flows.event import event
from gateway.flows.lifecycle import find
from gateway.flows.parts import Parts
from gateway.registry.plugins import Plugin
from gateway.resources.views import own_place
from sandbox.spec import NATIVE, Program
from sandbox.stdio import CALL, definition_digest

_PASSED_ON = ("content", "structuredContent")
_NOTHING_THERE = "empty"
_SAID_CHARS = 2000


def is_server(manifest: Manifest) -> bool:
    """Tell whether a plugin's calls are answered by an MCP server."""
    return manifest.runtime is Runtime.MCP_STDIO


def check_unchanged(parts: Parts, plugin: Plugin, capability: Capability | None) -> None:
    """Refuse a call of a tool that was told otherwise than it was approved.

    Raises:
        ConflictError: it was, and nobody has resumed it since.
    """
    if capability is not None and parts.registry.changed_tools.has(plugin, capability.name):
        raise ConflictError(
            f"`{capability.name}` of `{plugin.id}` is suspended: its definition is not the one that was approved",
            way_out="look at it: `hearthgate plugin tools DIR`; then take it with a new version of the manifest, "
            f"or `hearthgate plugin resume {plugin.id} --tool {capability.name} --reason ...`",
        )


async def find_program(parts: Parts, manifest: Manifest, backend: str) -> Program | None:
    """Give what answers the calls of a plugin in place of its code, None where its code does.

    Raises:
        HostCannotKeepError: it cannot be started here, or not in cells of that backend.
    """
    if is_server(manifest) and backend != NATIVE:
        raise HostCannotKeepError(
            f"an MCP server runs in cells of the backend `{NATIVE}` alone, and this one's are made by `{backend}`",
            way_out="see `[sandbox] backend` in hearthgate.toml and `runsc_from` in policies/risk.toml",
        )
    return await asyncio.to_thread(parts.programs.find, manifest.command) if is_server(manifest) else None


def as_asked(capability: Capability, arguments: Mapping[str, Json]) -> tuple[str, dict[str, Json]]:
    """Give the function and the arguments that stand for a call of a tool in a cell."""
    pinned: dict[str, Json] = {capability.tool: capability.definition}
    return CALL, {"tool": capability.tool, "arguments": dict(arguments), "pinned": pinned}


def empty_in_place(
    parts: Parts, manifest: Manifest, program: Program | None, shown: Sequence[Showing]
) -> tuple[Showing, ...]:
    """Show a server, which runs in `program`, an empty folder for each that it expects and may not see."""
    if program is None or not manifest.file_access:
        return ()
    nothing = parts.home / "data" / _NOTHING_THERE
    nothing.mkdir(mode=0o755, exist_ok=True)
    return stand_ins(nothing, [each for each in manifest.file_access if own_place(each) is None], program, shown)


def check_definitions(manifest: Manifest, told: Json) -> None:
    """Hold what a server told of its tools against its manifest.

    Raises:
        ReloadFailedError: one is missing, or defined otherwise.
    """
    listed = told.get("tools") if isinstance(told, dict) else None
    tools = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    found = {each.get("name"): definition_digest(each) for each in tools}
    wrong = [each.tool for each in manifest.capabilities if found.get(each.tool) != each.definition]
    if wrong:
        raise ReloadFailedError(
            f"not as the manifest says: {', '.join(f'`{each}`' for each in wrong[:20])}",
            way_out="`hearthgate plugin tools DIR --map` writes the definitions anew",
        )


async def take_answer(parts: Parts, plugin: Plugin, capability: Capability, result: RunResult) -> RunResult:
    """Give the result of a call from what its cell answered; a tool that is not as approved is suspended."""
    if not result.success:
        return result
    told = result.output if isinstance(result.output, dict) else {}
    if "changed" in told:
        changed = told["changed"] if isinstance(told["changed"], dict) else {}
        now = changed.get(capability.tool)
        await _suspend(parts, plugin, capability, now if isinstance(now, str) else None)
        said = f"`{capability.tool}` is defined otherwise than when it was approved, so it was not called"
        return replace(result, outcome=Outcome.REFUSED, output=None, error=said)
    answer = told.get("result")
    if not isinstance(answer, dict):
        return replace(result, outcome=Outcome.FAILED, output=None, error="its cell gave no answer of a tool")
    if answer.get("isError") is True:
        return replace(result, outcome=Outcome.FAILED, output=None, error=_text_of(answer))
    return replace(result, output={name: answer[name] for name in _PASSED_ON if name in answer})


def _text_of(answer: Mapping[str, Json]) -> str:
    content = answer.get("content")
    texts = [each.get("text") for each in content if isinstance(each, dict)] if isinstance(content, list) else []
    return "\n".join(each for each in texts if isinstance(each, str))[:_SAID_CHARS] or "the tool failed"


async def _suspend(parts: Parts, plugin: Plugin, capability: Capability, told: str | None) -> None:
    # INVARIANT: taking away waits for no record.
    parts.registry.changed_tools.keep(plugin, capability.name, told, at=parts.now())
    await parts.log.append(
        Record(
            event_id=parts.event_id(),
            at=parts.now(),
            event_type="permission_violation",
            resolution=Resolution.DENIED,
            plugin_id=plugin.id,
            details={
                "why": "definition_changed",
                "capability": capability.name,
                "tool": capability.tool,
                "approved": capability.definition,
                "told": told,
                "generation": plugin.generation,
            },
        )
    )


async def resume_tool(parts: Parts, caller: Caller, plugin_id: str, capability: str, reason: str) -> Plugin:
    """Let a suspended tool be called again, if it is defined as it was approved by now.

    Raises:
        DeniedError: the caller may not.
        NotFoundError: there is no such plugin, or it has no such capability that is suspended.
        MalformedError: no reason is given.
    """
    await authorize(parts, caller, Level.ADMIN, f"plugins/{plugin_id}", key_scope="admin")
    if not reason.strip():
        raise MalformedError("reason: say why it may be called again")
    async with parts.editing:
        plugin = find(parts, plugin_id)
        if not parts.registry.changed_tools.has(plugin, capability):
            raise NotFoundError(f"`{plugin.id}` has no suspended tool `{capability[:80]}`")
        facts: dict[str, Json] = {"capability": capability, "from": "definition_changed", "reason": reason}
        await parts.log.append(event(parts, caller, "activated", plugin.id, facts))
        parts.registry.changed_tools.forget(plugin.id, capability)
        return plugin
