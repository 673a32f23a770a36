"""Plugins: registered, moved through their life, executed, looked at."""

from typing import Any

from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody

from gateway.domain.caller import Caller
from gateway.domain.lifecycle import State
from gateway.domain.outcome import RunResult
from gateway.domain.permission import Level, parse_permission
from gateway.domain.request import Json
from gateway.errors import MalformedError
from gateway.flows import approval, lifecycle, registration
from gateway.flows.authorize import authorize
from gateway.flows.call import Call, Execution
from gateway.flows.dependencies import dependencies
from gateway.flows.execute_once import Once
from gateway.flows.isolation import backend_of, isolation_of
from gateway.flows.memberships import plugin_risk
from gateway.flows.parts import Parts
from gateway.flows.permissions import grants_in_force, revoke_permissions
from gateway.flows.plugin_risk import is_understated, requested_risk
from gateway.flows.server_call import resume_tool
from gateway.http.bodies import ExecuteBody, ReasonBody, RevokePermissionsBody, as_json
from gateway.registry.plugins import Plugin

MAX_EXECUTE_BYTES = 1 << 20
MAX_MANIFEST_BYTES = 1 << 20


def plugin_json(parts: Parts, plugin: Plugin) -> dict[str, Any]:
    """Give the wire shape of a plugin."""
    manifest = plugin.manifest
    return {
        "plugin_id": plugin.id,
        "status": plugin.state.value,
        "reason": plugin.reason,
        "name": manifest.name,
        "version": manifest.version,
        "description": manifest.description,
        "author": manifest.author,
        "generation": plugin.generation,
        "digest": plugin.digest,
        **_assessment(parts, plugin),
        "isolation": {
            "wish": None if manifest.isolation is None else manifest.isolation.value,
            "effective": isolation_of(parts, plugin).value,
            "backend": backend_of(parts, plugin),
        },
        "requested_permissions": [each.as_json() for each in manifest.permissions],
        "capabilities": [
            {
                "name": each.name,
                "description": each.description,
                "parameters": {name: part.shape.written for name, part in each.parameters.items()},
                "input_schema": each.input_schema,
                "return_type": each.return_type.written,
                **({"tool": each.tool, "definition": each.definition} if each.tool else {}),
            }
            for each in manifest.capabilities
        ],
        "runtime": manifest.runtime.value,
        "changed_tools": [each.as_json() for each in parts.registry.changed_tools.of(plugin)],
        "depends_on": [each.as_json() for each in dependencies(parts, manifest)],
        "warnings": [each.message for each in manifest.warnings],
        "registered_by": plugin.registered_by,
        "registered_at": plugin.registered_at,
        "changed_at": plugin.changed_at,
        "reloading": parts.reloads.is_under_way(plugin.id),
        "running": sum(job.plugin_id == plugin.id for job in parts.pool.running),
        "draining": sum(
            job.plugin_id == plugin.id and job.generation < plugin.generation for job in parts.pool.running
        ),
        "cells_waiting": sum(job.plugin_id == plugin.id for job in parts.pool.resting),
    }


def _assessment(parts: Parts, plugin: Plugin) -> dict[str, Any]:
    policy, declared = parts.policy.get(), plugin.manifest.declared_tier
    requested = requested_risk(parts, plugin.manifest)
    return {
        "risk": None if policy is None else plugin_risk(parts, policy, plugin.id).as_json(),
        "requested_risk": requested.as_json(),
        "declared_tier": None if declared is None else declared.value,
        "understated": is_understated(plugin.manifest, requested),
    }


@post("/v1/plugins", status_code=201, request_max_body_size=MAX_MANIFEST_BYTES)
async def register(
    data: JSONBody[dict[str, Any]], parts: NamedDependency[Parts], caller: NamedDependency[Caller]
) -> dict[str, Any]:
    """Register a plugin by its manifest, or by its folder's name."""
    return plugin_json(parts, await registration.register(parts, caller, data))


@get("/v1/plugins")
async def list_all(
    parts: NamedDependency[Parts], caller: NamedDependency[Caller], status: FromQuery[str | None] = None
) -> dict[str, Any]:
    """List the plugins, those of a state if one is named."""
    await authorize(parts, caller, Level.READ, "plugins")
    if status is not None and status not in set(State):
        raise MalformedError(f"status `{status[:80]}`", way_out=", ".join(State))
    found = [each for each in parts.registry.plugins.all() if status is None or each.state.value == status]
    return {"plugins": [plugin_json(parts, each) for each in found]}


@get("/v1/plugins/{plugin_id:str}")
async def show(
    plugin_id: FromPath[str], parts: NamedDependency[Parts], caller: NamedDependency[Caller]
) -> dict[str, Any]:
    """Give one plugin."""
    return plugin_json(parts, await _readable(parts, caller, plugin_id))


@get("/v1/plugins/{plugin_id:str}/manifest")
async def manifest(
    plugin_id: FromPath[str], parts: NamedDependency[Parts], caller: NamedDependency[Caller]
) -> dict[str, Any]:
    """Give a plugin's manifest as it was registered."""
    return dict((await _readable(parts, caller, plugin_id)).manifest.raw)


@get("/v1/plugins/{plugin_id:str}/permissions")
async def permissions(
    plugin_id: FromPath[str], parts: NamedDependency[Parts], caller: NamedDependency[Caller]
) -> dict[str, Any]:
    """Give what a plugin is granted now, read from the policy in force."""
    plugin = await _readable(parts, caller, plugin_id)
    return {"plugin_id": plugin.id, "grants": grants_in_force(parts, plugin.id)}


@post("/v1/plugins/{plugin_id:str}/permissions/revoke", status_code=200)
async def revoke_some(
    plugin_id: FromPath[str],
    data: JSONBody[RevokePermissionsBody],
    parts: NamedDependency[Parts],
    caller: NamedDependency[Caller],
) -> dict[str, Any]:
    """Take back grants of a plugin; what runs of it is killed."""
    permission = None if data.permission is None else parse_permission(data.permission)
    taken = await revoke_permissions(parts, caller, plugin_id, permission, data.scope, data.reason)
    return {"plugin_id": plugin_id, "revoked": [grant.as_json() for grant in taken]}


@post("/v1/plugins/{plugin_id:str}/approve", status_code=200)
async def approve(
    plugin_id: FromPath[str], data: JSONBody[ReasonBody], parts: NamedDependency[Parts], caller: NamedDependency[Caller]
) -> dict[str, Any]:
    """Approve a plugin; it becomes active with what it asked for."""
    return plugin_json(parts, await approval.approve(parts, caller, plugin_id, data.reason))


@post("/v1/plugins/{plugin_id:str}/suspend", status_code=200)
async def suspend(
    plugin_id: FromPath[str], data: JSONBody[ReasonBody], parts: NamedDependency[Parts], caller: NamedDependency[Caller]
) -> dict[str, Any]:
    """Stop a plugin for now."""
    return plugin_json(parts, await lifecycle.suspend(parts, caller, plugin_id, data.reason))


@post("/v1/plugins/{plugin_id:str}/resume", status_code=200)
async def resume(
    plugin_id: FromPath[str], data: JSONBody[ReasonBody], parts: NamedDependency[Parts], caller: NamedDependency[Caller]
) -> dict[str, Any]:
    """Let a suspended plugin act again."""
    return plugin_json(parts, await lifecycle.resume(parts, caller, plugin_id, data.reason))


@post("/v1/plugins/{plugin_id:str}/tools/{name:str}/resume", status_code=200)
async def resume_one_tool(
    plugin_id: FromPath[str],
    name: FromPath[str],
    data: JSONBody[ReasonBody],
    parts: NamedDependency[Parts],
    caller: NamedDependency[Caller],
) -> dict[str, Any]:
    """Let a tool be called again that was suspended, for its server defined it otherwise than it was approved."""
    return plugin_json(parts, await resume_tool(parts, caller, plugin_id, name, data.reason))


@post("/v1/plugins/{plugin_id:str}/revoke", status_code=200)
async def revoke(
    plugin_id: FromPath[str], data: JSONBody[ReasonBody], parts: NamedDependency[Parts], caller: NamedDependency[Caller]
) -> dict[str, Any]:
    """Take everything away from a plugin for good."""
    return plugin_json(parts, await lifecycle.revoke(parts, caller, plugin_id, data.reason))


@post("/v1/plugins/{plugin_id:str}/uninstall", status_code=200)
async def uninstall(
    plugin_id: FromPath[str], data: JSONBody[ReasonBody], parts: NamedDependency[Parts], caller: NamedDependency[Caller]
) -> dict[str, Any]:
    """Remove a plugin; its folder stays."""
    await lifecycle.uninstall(parts, caller, plugin_id, data.reason)
    return {"plugin_id": plugin_id, "status": "uninstalled"}


@post("/v1/plugins/{plugin_id:str}/execute", status_code=200, request_max_body_size=MAX_EXECUTE_BYTES)
async def execute(
    plugin_id: FromPath[str],
    data: JSONBody[ExecuteBody],
    parts: NamedDependency[Parts],
    caller: NamedDependency[Caller],
    answered: NamedDependency[Once],
) -> dict[str, Any]:
    """Run a call; a plugin that failed, timed out or was killed is an answer, not an error."""
    call = Call(
        plugin_id=plugin_id,
        payload=as_json(data.payload),
        user=caller.acts_for,
        session_id=data.session_id,
        timeout_s=data.timeout_s,
        trace=caller.trace,
    )
    return execution_json(await answered.execute(parts, caller, call, data.idempotency_key))


def execution_json(execution: Execution) -> dict[str, Any]:
    """Give the wire shape of what became of a call."""
    result = execution.result
    return {
        "execution_id": execution.execution_id,
        "success": result.success,
        "outcome": result.outcome.value,
        "output": execution.output,
        "error": result.error,
        "execution_time": sum(each.usage.wall_s for each in execution.results),
        "decision_id": execution.decision.decision_id,
        "generation": execution.generation,
        "sandbox_result": _sandbox_json(result),
    }


def _sandbox_json(result: RunResult) -> dict[str, Json]:
    return {
        "success": result.success,
        "error": result.error,
        "outcome": result.outcome.value,
        "usage": result.usage.as_json(),
        "stdout": result.stdout,
        "logs": list(result.logs),
        "asks": list(result.asks),
        "files": result.files,
        "isolation": result.isolation.value,
        "backend": result.backend,
    }


async def _readable(parts: Parts, caller: Caller, plugin_id: str) -> Plugin:
    # SECURITY: asked before it is told whether the plugin exists.
    await authorize(parts, caller, Level.READ, f"plugins/{plugin_id}")
    return lifecycle.find(parts, plugin_id)


ROUTES = [
    register,
    list_all,
    show,
    manifest,
    permissions,
    revoke_some,
    approve,
    suspend,
    resume,
    resume_one_tool,
    revoke,
    uninstall,
    execute,
]
