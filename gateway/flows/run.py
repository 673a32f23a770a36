"""To run one step of a call: decided, recorded, confined, and its end recorded."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from msgspec import structs

from gateway.domain.decision import Decision
from gateway.domain.isolation import Isolation
from gateway.domain.names import plugin_subject
from gateway.domain.outcome import Outcome, RunResult, Usage
from gateway.domain.permission import Kind, Level
from gateway.domain.record import Record, Resolution
from gateway.domain.request import AccessRequest, Json
from gateway.errors import (
    HearthgateError,
    HostCannotKeepError,
    LogUnavailableError,
    OutcomeUnknownError,
    OverloadedError,
)
from gateway.executor.broker import Job, json_size
from gateway.executor.confine import confine
from gateway.executor.egress import Passing
from gateway.flows.adopt_code import packages_of
from gateway.flows.asking import Asking
from gateway.flows.authorize import denied
from gateway.flows.benchmark_recorded import note_run
from gateway.flows.call import Asks, Call, Execution
from gateway.flows.conduct import PROTOCOL, count_try
from gateway.flows.decide import Context, decide
from gateway.flows.egress import carrying_as, needs_relay
from gateway.flows.isolation import backend_of, isolation_of
from gateway.flows.keep_written import keep_written
from gateway.flows.parts import Parts
from gateway.flows.plan import Step
from gateway.flows.record import record_decisions
from gateway.flows.server_call import (
    as_asked,
    empty_in_place,
    find_program,
    is_server,
    take_answer,
)
from gateway.flows.show_files import Sight, find_sight, watch_sight
from gateway.flows.still_allowed import still_allowed
from gateway.flows.tell import tell
from gateway.flows.use_resource import asking_as
from gateway.flows.without_texts import without_texts
from gateway.registry.folder import snapshot_path
from gateway.registry.plugins import Plugin
from sandbox.disk import Disk
from sandbox.spec import Spec

GIVEN_UP = "its caller gave it up"
_log = logging.getLogger("hearthgate.execute")
CallPlugin = Callable[[Call, Context], Awaitable[Execution]]
_NO_MEMBERS: Mapping[str, Json] = {}
NOTHING_USED = Usage(wall_s=0.0)
EVENT_OF: Mapping[Outcome, tuple[str, Resolution]] = {
    Outcome.RETURNED: ("execution_completed", Resolution.COMPLETED),
    Outcome.FAILED: ("execution_failed", Resolution.FAILED),
    Outcome.KILLED: ("execution_failed", Resolution.KILLED),
    Outcome.REFUSED: ("execution_failed", Resolution.REFUSED),
    Outcome.TIMED_OUT: ("execution_timeout", Resolution.TIMED_OUT),
    Outcome.UNKNOWN: ("execution_failed", Resolution.UNKNOWN),
}


@dataclass(frozen=True, slots=True)
class Run:
    """One step of one call, from the plugin's decision to the record of its outcome."""

    parts: Parts
    call: Call
    context: Context
    plugin: Plugin
    step: Step
    execution_id: str
    call_plugin: CallPlugin
    repeats: bool = False  # another call of the same batch came before
    trial: bool = False  # of a generation that is not in force

    async def to_the_end(self, asked: Decision | None) -> tuple[RunResult, Decision]:
        """Run it, and record how it ended; `asked`, who called's decision, is recorded with its own.

        Raises:
            Everything that `execute` raises.
        """
        parts = self.parts
        decisions = self._plugin_decisions()
        recorded = decisions if asked is None else [asked, *decisions]
        refused = next((each for each in decisions if not each.allowed), None)
        if refused is not None:
            recorded = await record_decisions(parts, recorded, self.context)
            raise denied(next(each for each in recorded if not each.allowed))
        sight = await find_sight(parts, self.plugin, self.call, self.context)
        intent = self._record("execution_started", Resolution.PENDING, {"function": self.step.function})
        await self._begin([*recorded, *sight.decisions], intent)
        # INVARIANT: from here the intent is durable; every way on ends in a record that names it.
        try:
            result = self._stopped([*decisions, *sight.decisions]) or await self._run(sight)
            if self.plugin.manifest.file_access:
                result = replace(result, files={**sight.as_json(), **(result.files or {})})
        except (HostCannotKeepError, OverloadedError) as error:
            _log.error("execution %s of %s did not run: %s", self.execution_id, self.plugin.id, error)
            await self._close(intent, RunResult(outcome=Outcome.REFUSED, error=error.message, usage=NOTHING_USED))
            error.decision_id = decisions[0].decision_id
            raise
        except BaseException:
            await self._close(
                intent, RunResult(outcome=Outcome.UNKNOWN, error="the call was given up", usage=NOTHING_USED)
            )
            raise
        await self._close(intent, result, decisions[0])
        return result, decisions[0]

    async def _begin(self, decisions: list[Decision], intent: Record) -> None:
        """Record that it begins; who is cancelled meanwhile goes on only when that is recorded, or not."""
        recording = asyncio.ensure_future(record_decisions(self.parts, decisions, self.context, intent))
        try:
            await asyncio.shield(recording)
        except asyncio.CancelledError:
            while not recording.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([recording])
            if recording.exception() is None:
                await self._close(
                    intent,
                    RunResult(outcome=Outcome.KILLED, error=GIVEN_UP, usage=NOTHING_USED, from_outside=True),
                )
            raise

    def _plugin_decisions(self) -> list[Decision]:
        own, through = plugin_subject(self.plugin.id), [plugin_subject(each) for each in self.call.chain]
        to_run = (Kind.PLUGIN, Level.EXECUTE, str(self.plugin.id))
        required = () if self.step.capability is None else self.step.capability.requires
        asks = [(own, *to_run)]
        # WHY: for the first call of a batch those through which it came were asked when they called.
        asks += [(subject, *to_run) for subject in through if self.repeats]
        # SECURITY: called by another plugin it acts with what both may do, so both need what it requires.
        asks += [(subject, need.kind, need.level, scope) for subject in (own, *through) for need, scope in required]
        return [
            decide(
                self.parts,
                AccessRequest(subject=subject, user=self.call.user, kind=kind, level=level.word, scope=scope),
                self.context,
            )
            # WHY: what a capability names twice is one question, with one answer to use up.
            for subject, kind, level, scope in dict.fromkeys(asks)
        ]

    def _stopped(self, decisions: list[Decision]) -> RunResult | None:
        """Give the end of a call that was given up, or whose right to run was taken away, while it was recorded."""
        if self.call.waiting is not None and self.call.waiting.has_given_up:
            return RunResult(outcome=Outcome.KILLED, error=GIVEN_UP, usage=NOTHING_USED, from_outside=True)
        # SECURITY: whatever took it away has killed what ran; this call was not among it yet.
        there = self.parts.registry.plugins.get(self.plugin.id)
        # WHY: a reload meanwhile takes nothing away; the call ends on the generation that it began with.
        same = there is not None and there.registration == self.plugin.registration
        if same and all(still_allowed(self.parts, each) for each in decisions):
            return None
        taken = "its right to run was taken away"
        return RunResult(outcome=Outcome.KILLED, error=taken, usage=NOTHING_USED, from_outside=True)

    async def _run(self, sight: Sight) -> RunResult:
        backend = backend_of(self.parts, self.plugin)
        program = await find_program(self.parts, self.plugin.manifest, backend)
        stand_ins = empty_in_place(self.parts, self.plugin.manifest, program, sight.showings)
        spec = confine(
            self.plugin.manifest,
            snapshot_path(self.parts.snapshots, self.plugin.digest or ""),
            self.parts.caps,
            relay=needs_relay(self.parts, self.plugin),
            showings=(*sight.showings, *stand_ins),
            program=program,
        )
        spec = replace(spec, packages=packages_of(self.parts, self.plugin), backend=backend)
        timeout_s = spec.limits.timeout_s
        function, arguments = self._asked()
        job = Job(
            execution_id=self.execution_id,
            plugin_id=self.plugin.id,
            user_id=self.call.user or "",
            by_user=self.call.by or "",
            function=function,
            arguments=arguments,
            session_id=self.call.session_id,
            timeout_s=min(timeout_s, self.call.timeout_s or timeout_s),
            # SECURITY: a cell that stays may hold what an earlier call read, and those who call now may not.
            isolation=Isolation.PRISTINE if self.trial or self.call.chain else isolation_of(self.parts, self.plugin),
            generation=self.plugin.generation,
            waiting=self.call.waiting,
        )
        asking = Asking(
            parts=self.parts,
            plugin=self.plugin,
            # INVARIANT: what a call calls asks out of the same measure, else a chain of calls would have no bound.
            call=replace(self.call, asks=self.call.asks or Asks(self.parts.max_asks)),
            execution_id=self.execution_id,
            run_plugin=self.call_plugin,
        )
        caps = self.parts.caps
        passing = Passing(carry=carrying_as(asking), connections=caps.connections, egress_bytes=caps.egress_bytes)
        depth = len(self.call.chain)
        watching = asyncio.create_task(watch_sight(self.parts, sight, self.context, self.execution_id))
        try:
            finish = partial(self._finish, sight, spec)
            result = await self.parts.pool.run(
                job, spec, asking_as(asking), passing=passing, depth=depth, finish=finish
            )
        finally:
            watching.cancel()
        moved = asking.moved
        usage = replace(result.usage, bytes_out=moved.bytes_out, bytes_in=moved.bytes_in)
        return replace(result, usage=usage, backend=backend)

    def _asked(self) -> tuple[str, Mapping[str, Json]]:
        if self.step.capability is None or not is_server(self.plugin.manifest):
            return self.step.function, self.step.arguments
        return as_asked(self.step.capability, self.step.arguments)

    async def _finish(self, sight: Sight, spec: Spec, result: RunResult, disk: Disk) -> RunResult:
        if self.step.capability is not None and is_server(self.plugin.manifest):
            result = await take_answer(self.parts, self.plugin, self.step.capability, result)
        checked = self._checked(result)
        context = structs.replace(self.context, execution_id=self.execution_id)
        return await keep_written(self.parts, sight, context, checked, disk, spec.limits.scratch_bytes)

    def _checked(self, result: RunResult) -> RunResult:
        capability = self.step.capability
        fault = None if not result.success or capability is None else capability.return_type.fault(result.output)
        if capability is None or fault is None:
            return result
        wrong = f"`{capability.name}` returned something that is not of type {capability.return_type.spelt}: {fault}"
        return replace(result, outcome=Outcome.FAILED, output=None, error=wrong)

    def _tell(self, result: RunResult) -> None:
        # SECURITY: outcome and ids alone, for what an error says may be a user's words.
        level = logging.DEBUG if result.success else logging.WARNING
        if _log.isEnabledFor(level):
            outcome = (self.plugin.id, result.outcome.value, result.usage.wall_s)
            more = "" if result.success else f": `hearthgate audit search {self.execution_id}` tells more"
            _log.log(level, "execution %s of %s %s after %.3f s%s", self.execution_id, *outcome, more)

    async def _close(self, intent: Record, result: RunResult, decision: Decision | None = None) -> None:
        event_type, resolution = EVENT_OF[result.outcome]
        self._tell(result)
        details: dict[str, Json] = {
            "function": self.step.function,
            "outcome": result.outcome.value,
            "success": result.success,
            "execution_time": result.usage.wall_s,
            "output_size": json_size(result.output) if result.success else 0,
            "usage": result.usage.as_json(),
            "asks": list(result.asks),
            "isolation": result.isolation.value,
            "backend": result.backend,
            **({"from_outside": True} if result.from_outside else {}),
        }
        # WHY: personal, for the words of a plugin's exception may be a user's.
        personal: dict[str, Json] = (
            {} if result.error is None else {"error": without_texts(result.error, self.step.arguments)}
        )
        if result.files is not None:
            personal["files"] = result.files
        try:
            # WHY: what cannot be recorded now is recorded later, so that no call seems to run for ever.
            await tell(self.parts, self._record(event_type, resolution, details, personal, ref=intent.event_id))
        except LogUnavailableError as error:
            raise OutcomeUnknownError(
                "the call ran, but how it ended could not be recorded",
                way_out="do not repeat it blindly",
                decision_id=None if decision is None else decision.decision_id,
            ) from error
        if not self.trial:
            note_run(self.parts, self.plugin, result)
            self.parts.meter.ran(self.plugin.id, result.outcome, result.isolation, result.usage.wall_s)
            self._tell_span(result)
        if result.broke_protocol:
            await self._count_against()

    def _tell_span(self, result: RunResult) -> None:
        if self.parts.spans is not None:
            more = {
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": str(self.plugin.id),
                "hearthgate.outcome": result.outcome.value,
                "hearthgate.isolation": result.isolation.value,
            }
            self.parts.spans.took(f"execute_tool {self.plugin.id}", result.usage.wall_s, more)

    async def _count_against(self) -> None:
        try:
            await count_try(self.parts, self.plugin, f"protocol {self.execution_id}", weight=PROTOCOL)
        except HearthgateError as error:
            # WHY: the call is over and its end is recorded; what comes of that must not be taken for its end.
            _log.error("what %s did was not counted: %s", self.plugin.id, error)  # no fault of this code

    def _record(
        self,
        event_type: str,
        resolution: Resolution,
        details: Mapping[str, Json],
        personal: Mapping[str, Json] = _NO_MEMBERS,
        *,
        ref: str | None = None,
    ) -> Record:
        return Record(
            event_id=self.parts.event_id(),
            at=self.parts.now(),
            event_type=event_type,
            resolution=resolution,
            plugin_id=self.plugin.id,
            user_id=self.call.user,
            details={
                "execution_id": self.execution_id,
                "generation": self.plugin.generation,
                "digest": self.plugin.digest,
                "chain": list(self.call.chain),
                **({"trial": True} if self.trial else {}),
                **details,
            },
            personal=personal,
            trace_id=self.call.trace_id,
            ref=ref,
        )
