"""To call a tool for a client: it hears how far the call is, may give it up, and may be asked for a user's consent."""

import asyncio
import logging
from typing import Any

import anyio
import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types.version import is_version_at_least
from msgspec.structs import replace

from gateway.domain.caller import Caller
from gateway.domain.manifest import Capability
from gateway.domain.trace import Trace
from gateway.domain.visible import clean
from gateway.errors import DeniedError, HearthgateError, LogUnavailableError, NotFoundError
from gateway.executor.waiting import Waiting
from gateway.flows.call import Call, Execution
from gateway.flows.consent import ConsentWish
from gateway.flows.execute import give_up
from gateway.flows.parts import Parts
from gateway.flows.tools import Tools
from gateway.http.mcp.answers import as_denial, as_problem, as_result
from gateway.http.mcp.consents import MAX_ASKED, Consents, hint_for

CALLER = "hearthgate.caller"
_FORM = types.ClientCapabilities(elicitation=types.ElicitationCapability(form=types.FormElicitationCapability()))
_ANSWER_S = 600.0
_QUESTION = "consent"
_SINCE_INPUT_REQUIRED = "2026-07-28"
_log = logging.getLogger("hearthgate.http")
Ctx = ServerRequestContext[Any, Any]
Answer = types.CallToolResult | types.InputRequiredResult


class Calling:
    """Calls tools for clients of one home."""

    def __init__(self, parts: Parts, tools: Tools) -> None:
        self._parts = parts
        self._tools = tools
        self._consents = Consents(parts)

    async def __call__(self, ctx: Ctx, params: types.CallToolRequestParams) -> Answer:
        """Run one call to its end.

        Raises:
            MCPError: there is no such tool for this caller, or nothing could be recorded.
        """
        caller = caller_of(ctx)
        try:
            return await self._called(ctx, caller, params)
        except NotFoundError as error:
            raise MCPError(types.INVALID_PARAMS, error.message) from error
        except LogUnavailableError as error:
            raise MCPError(types.INTERNAL_ERROR, error.message, as_problem(error)) from error
        except HearthgateError as error:
            return as_denial(error, hint=hint_for(caller, error))

    async def _called(self, ctx: Ctx, caller: Caller, params: types.CallToolRequestParams) -> Answer:
        asked, may_ask = 0, True
        taken = None if params.request_state is None else self._consents.take(caller, params.name, params.request_state)
        if taken is not None:
            wish, asked = taken
            may_ask = await self._consents.settle(caller, wish, (params.input_responses or {}).get(_QUESTION))
        while True:
            told, lacked = await self._tried(ctx, caller, params)
            if lacked is None or not may_ask or asked >= MAX_ASKED or not _can_ask(ctx):
                return told
            asked += 1
            question = self._consents.question(lacked)
            if is_version_at_least(ctx.protocol_version, _SINCE_INPUT_REQUIRED):
                return types.InputRequiredResult(
                    input_requests={_QUESTION: types.ElicitRequest(params=question)},
                    request_state=self._consents.open(caller, params.name, lacked, asked),
                )
            answer = await _asked(ctx, question)
            may_ask = await self._consents.settle(caller, lacked, answer)
            if not may_ask:
                return told

    async def _tried(
        self, ctx: Ctx, caller: Caller, params: types.CallToolRequestParams
    ) -> tuple[types.CallToolResult, ConsentWish | None]:
        """Run the call once; gives what is told of it, and the consent for want of which it did not come to its end."""
        try:
            execution = await self._run(ctx, caller, params)
        except DeniedError as error:
            lacked = self._consents.missing(caller, error)
            if lacked is None and hint_for(caller, error) is None:
                raise
            return as_denial(error, hint=hint_for(caller, error)), lacked
        tool = self._tools.find(params.name)
        if execution.result.success or tool is None or not _may_repeat(tool.capability):
            return as_result(execution), None
        return as_result(execution), await asyncio.to_thread(self._consents.missing_within, caller, execution)

    async def _run(self, ctx: Ctx, caller: Caller, params: types.CallToolRequestParams) -> Execution:
        progress = _Progress()
        waiting = Waiting(progress.tell)
        call = Call(
            plugin_id="",
            payload=params.arguments or {},
            user=caller.acts_for,
            trace=caller.trace,
            waiting=waiting,
        )
        running = asyncio.create_task(self._tools.call(caller, params.name, call))
        running.add_done_callback(lambda _: progress.end())
        try:
            await progress.report(ctx)
            return await asyncio.shield(running)
        finally:
            if not running.done():
                # WHY: the client gave up, or is gone: what runs for it is ended, and its end recorded, before we go.
                give_up(self._parts, waiting)
                with anyio.CancelScope(shield=True):
                    await asyncio.wait([running])
                _ = running.exception()  # looked at, for nobody else will
                _log.debug("a call of %s was given up by its client", params.name)


class _Progress:
    """What a plugin tells of one call, passed on to the client that asked for it; numbers only grow."""

    def __init__(self) -> None:
        self._told: asyncio.Queue[tuple[float | None, str] | None] = asyncio.Queue()

    def tell(self, fraction: float | None, message: str) -> None:
        self._told.put_nowait((fraction, message))

    def end(self) -> None:
        self._told.put_nowait(None)

    async def report(self, ctx: Ctx) -> None:
        """Pass on what is told until the call ends."""
        at, steps = -1.0, 0
        while (told := await self._told.get()) is not None:
            fraction, message = told[0], clean(told[1])
            if fraction is None and at < 0:
                steps += 1
                await ctx.session.report_progress(steps, None, message or None)
            elif fraction is not None and not steps and fraction > at:
                at = fraction
                await ctx.session.report_progress(fraction, 1.0, message or None)


def caller_of(ctx: Ctx) -> Caller:
    """Give whose credential came with this very request."""
    caller: Caller = ctx.request.scope[CALLER]  # type: ignore[union-attr] # put there by our own door
    parent = (ctx.meta or {}).get("traceparent")
    if caller.trace_id is not None or not isinstance(parent, str):
        return caller
    return replace(caller, trace=Trace.parse(parent))


def _can_ask(ctx: Ctx) -> bool:
    return ctx.session.check_client_capability(_FORM) and (
        is_version_at_least(ctx.protocol_version, _SINCE_INPUT_REQUIRED) or ctx.session.can_send_request
    )


async def _asked(ctx: Ctx, question: types.ElicitRequestFormParams) -> object:
    try:
        async with asyncio.timeout(_ANSWER_S):
            return await ctx.session.elicit_form(
                question.message, question.requested_schema, related_request_id=ctx.request_id
            )
    except (TimeoutError, MCPError, ValueError) as error:
        _log.debug("a client did not answer what its user was asked: %s", type(error).__name__)
        return None


def _may_repeat(capability: Capability) -> bool:
    # WHY: a call that failed half-way is made again only where its author says that once or twice is the same.
    return capability.idempotent
