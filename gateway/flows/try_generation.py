"""To try a generation before it comes into force: its code is loaded in a cell, and its self test must return."""

import asyncio

from gateway.domain.names import PluginId
from gateway.domain.reloading import reload_wish
from gateway.domain.request import Json
from gateway.domain.trace import Trace
from gateway.errors import DeniedError, HearthgateError, LogUnavailableError, MalformedError, ReloadFailedError
from gateway.flows.call import Call
from gateway.flows.execute import run_trial
from gateway.flows.inspection import check_functions
from gateway.flows.parts import Parts
from gateway.flows.plan import Step
from gateway.flows.server_call import check_definitions, is_server
from gateway.registry.plugins import Plugin
from sandbox.runtime import LOAD
from sandbox.stdio import TOOLS


async def try_generation(parts: Parts, plugin: Plugin, *, trace: Trace | None = None) -> None:
    """Load a generation's code and run its self test, each decided, recorded and confined like a call.

    It runs on behalf of nobody: no user's data and no consent is within its reach. What it asks for is decided by
    the rights in force.

    Raises:
        ReloadFailedError: it did not pass, and why.
        MalformedError: its functions are not what its manifest says.
        LogUnavailableError: it could not be recorded, so it did not run.
    """
    wish = reload_wish(plugin.manifest)
    call = Call(plugin_id=plugin.id, payload={}, user=None, timeout_s=wish.timeout_s, trace=trace)
    try:
        async with asyncio.timeout(wish.timeout_s):
            await check_functions(parts, plugin.manifest, plugin.digest)
            await _load(parts, call, plugin)
            if wish.self_test is not None:
                await _run(parts, call, plugin, Step(function=wish.self_test, arguments={}, capability=None))
    except TimeoutError:
        raise ReloadFailedError(f"it did not pass within {wish.timeout_s:g} s (reload_timeout)") from None
    except (LogUnavailableError, MalformedError, ReloadFailedError):
        raise
    except DeniedError as error:
        raise ReloadFailedError(f"it may not run: {error.message}", decision_id=error.decision_id) from error
    except HearthgateError as error:
        raise ReloadFailedError(f"it could not be tried: {error.message}", way_out=error.way_out) from error


async def _load(parts: Parts, call: Call, plugin: Plugin) -> None:
    if is_server(plugin.manifest):
        check_definitions(
            plugin.manifest, await _run(parts, call, plugin, Step(function=TOOLS, arguments={}, capability=None))
        )
        return
    missing = await _run(
        parts, call, plugin, Step(function=LOAD, arguments={"names": [*_names(plugin)]}, capability=None)
    )
    # SECURITY: said by the plugin's own process; it spares a mistake from coming into force, and guards nothing.
    if missing != []:
        told = ", ".join(f"`{str(each)[:80]}`" for each in missing[:20]) if isinstance(missing, list) else "functions"
        raise ReloadFailedError(f"`{plugin.manifest.entry_point}` has no {told}")


def _names(plugin: Plugin) -> list[str]:
    self_test = reload_wish(plugin.manifest).self_test
    named = [each.name for each in plugin.manifest.capabilities] or ["execute"]
    return [*named, *([self_test] if self_test else [])]


async def _run(parts: Parts, call: Call, plugin: Plugin, step: Step) -> Json:
    result = await run_trial(parts, call, plugin, step)
    if not result.success:
        what = "it cannot be loaded" if step.function in {LOAD, TOOLS} else f"`{step.function}`"
        raise ReloadFailedError(f"{what}: {(result.error or result.outcome.value)[:2000]}")
    return result.output


def end_trial(parts: Parts, plugin_id: PluginId, generation: int) -> None:
    """End what is left of a generation that was tried in vain."""
    parts.pool.kill(
        lambda job: job.plugin_id == plugin_id and job.generation == generation, "its generation was not taken"
    )
