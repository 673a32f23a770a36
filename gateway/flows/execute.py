"""To execute: ask twice (the caller, the plugin), record, run in the sandbox, record how it ended."""

from dataclasses import replace

from msgspec import structs

from gateway.domain.caller import Caller
from gateway.domain.decision import Decision
from gateway.domain.exact_call import ExactCall
from gateway.domain.lifecycle import State, legal_verbs
from gateway.domain.names import parse_plugin_id
from gateway.domain.outcome import Outcome, RunResult
from gateway.domain.permission import Level
from gateway.errors import (
    HearthgateError,
    IllegalTransitionError,
    MalformedError,
    NotFoundError,
    OutcomeUnknownError,
)
from gateway.executor.waiting import Waiting
from gateway.flows.adopt_code import adopt_code
from gateway.flows.authorize import authorize, check_credential, denied, judge_caller
from gateway.flows.call import Call, Execution
from gateway.flows.decide import Context
from gateway.flows.exact import exact_step
from gateway.flows.parts import Parts
from gateway.flows.plan import Step, plan
from gateway.flows.record import record_decisions
from gateway.flows.run import GIVEN_UP, CallPlugin, Run
from gateway.flows.run_record import NOTHING_USED
from gateway.flows.server_call import check_unchanged
from gateway.registry.plugins import Plugin


async def execute(parts: Parts, caller: Caller, call: Call) -> Execution:
    """Run a call for a caller.

    Raises:
        DeniedError: the caller, or the plugin, may not.
        NotFoundError: there is no such plugin (told only to who may execute it).
        IllegalTransitionError: it is not active.
        NoCodeError: it has a manifest but no code.
        MalformedError: the payload is not what its manifest says.
        LogUnavailableError: nothing ran, for it could not be recorded.
        OutcomeUnknownError: it ran, and how it ended could not be recorded.
    """
    try:
        parse_plugin_id(call.plugin_id)
    except MalformedError:
        # SECURITY: who may execute none learns of no id whether it is one.
        await authorize(parts, caller, Level.EXECUTE, "plugins", key_scope="execute")
        raise NotFoundError(f"there is no plugin `{call.plugin_id[:80]}`") from None
    scope = f"plugins/{call.plugin_id}"
    await check_credential(parts, caller, Level.EXECUTE, scope, key_scope="execute")
    exact = ExactCall(op="execute", args=call.payload, by=caller.user_id)
    by_caller = judge_caller(parts, caller, Level.EXECUTE, scope, exact)
    context = Context(session_id=call.session_id, args=call.payload, trace_id=call.trace_id, exact=exact)
    if not by_caller.allowed:
        (recorded,) = await record_decisions(parts, [by_caller], context)
        raise denied(recorded)
    return await run_plugin(parts, replace(call, by=caller.user_id), context, by_caller)


async def run_plugin(parts: Parts, call: Call, context: Context, asked: Decision | None) -> Execution:
    """Run a call that may be made; `asked`, the caller's decision, is recorded with the plugin's own ones.

    `asked` is None where a plugin calls another: its asking is recorded already.

    Raises:
        Everything that `execute` raises.
    """
    try:
        plugin = await _ready(parts, call.plugin_id)
        steps = plan(plugin.manifest, call.payload)
        for step in steps:
            check_unchanged(parts, plugin, step.capability)
    except HearthgateError:
        # INVARIANT: what was decided has a record, also where nothing comes of it.
        if asked is not None:
            await record_decisions(parts, [asked], context)
        raise
    results: list[RunResult] = []
    decisions: list[Decision] = []
    execution_id = parts.new_id()
    for step in steps:
        number = parts.new_id() if results else execution_id
        own = structs.replace(context, exact=_exact(context, plugin, step, call))
        run = Run(parts, call, own, plugin, step, number, _calling(parts), repeats=bool(results))
        try:
            result, by_plugin = await run.to_the_end(asked if not results else None)
        except OutcomeUnknownError:
            raise
        except HearthgateError as error:
            if not results:
                raise
            # WHY: the calls before it ran, and their caller must learn how they ended.
            results.append(RunResult(outcome=Outcome.REFUSED, error=error.message, usage=NOTHING_USED))
            continue
        results.append(result)
        decisions.append(by_plugin)
    return Execution(
        execution_id=execution_id,
        decision=decisions[0],
        generation=plugin.generation,
        results=tuple(results),
        batch="batch" in call.payload and bool(plugin.manifest.capabilities),
        decisions=tuple(decisions) if asked is None else (asked, *decisions),
    )


def give_up(parts: Parts, waiting: Waiting) -> None:
    """End the call that somebody waited for, wherever it is; it comes to its end with a record, as killed."""
    # INVARIANT: not by cancelling it: between the record of its intent and that of its end nothing may break off.
    waiting.has_given_up = True
    parts.pool.kill(lambda job: job.waiting is waiting, GIVEN_UP)


async def run_trial(parts: Parts, call: Call, plugin: Plugin, step: Step) -> RunResult:
    """Run one function of a generation that is not in force, decided, recorded and confined like any call.

    Raises:
        Everything that `execute` raises.
    """
    context = Context(args=step.arguments, trace_id=call.trace_id)
    run = Run(parts, call, context, plugin, step, parts.new_id(), _calling(parts), trial=True)
    result, _ = await run.to_the_end(None)
    return result


def _calling(parts: Parts) -> CallPlugin:
    """Say how a plugin that runs calls another: its asking is recorded already."""
    return lambda call, context: run_plugin(parts, call, context, None)


def _exact(context: Context, plugin: Plugin, step: Step, call: Call) -> ExactCall | None:
    exact = exact_step(context.exact, step.function, step.arguments, call.payload)
    # SECURITY: a reload between two calls of a batch is not for the second one: it runs what the first one ran.
    return None if exact is None else structs.replace(exact, running={**call.chain, plugin.id: plugin.digest})


async def _ready(parts: Parts, plugin_id: str) -> Plugin:
    plugin = _active(parts, plugin_id)
    if plugin.digest is not None:
        return plugin
    await adopt_code(parts, plugin)
    return _active(parts, plugin_id)


def _active(parts: Parts, plugin_id: str) -> Plugin:
    plugin = parts.registry.plugins.get(plugin_id)
    if plugin is None:
        raise NotFoundError(f"there is no plugin `{plugin_id}`")
    if plugin.state is not State.ACTIVE:
        legal = legal_verbs(plugin.state)
        raise IllegalTransitionError(
            f"`{plugin_id}` is {plugin.state.value}, not active",
            way_out=f"what can be done: {', '.join(legal) or 'nothing'}",
            extra={"state": plugin.state.value, "legal": list(legal)},
        )
    return plugin
