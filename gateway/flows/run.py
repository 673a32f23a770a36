"""To run one step of a call: decided, recorded, confined, and its end recorded."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from msgspec import structs

from gateway.domain.decision import Decision
from gateway.domain.isolation import Isolation
from gateway.domain.names import plugin_subject
from gateway.domain.outcome import Outcome, RunResult
from gateway.domain.permission import Kind, Level
from gateway.domain.record import Record
from gateway.domain.request import AccessRequest, Json
from gateway.errors import HostCannotKeepError, OverloadedError
from gateway.executor.broker import Job
from gateway.executor.confine import confine
from gateway.executor.egress import Passing
from gateway.flows.adopt_code import packages_of
from gateway.flows.asking import Asking
from gateway.flows.authorize import denied
from gateway.flows.call import Asks, Call, Execution
from gateway.flows.decide import Context, decide
from gateway.flows.egress import carrying_as, needs_relay
from gateway.flows.isolation import backend_of, isolation_of
from gateway.flows.keep_written import keep_written
from gateway.flows.parts import Parts
from gateway.flows.plan import Step
from gateway.flows.record import record_decisions
from gateway.flows.run_record import NOTHING_USED, RunRecord
from gateway.flows.server_call import as_asked, empty_in_place, find_program, is_server, take_answer
from gateway.flows.show_files import Sight, find_sight, watch_sight
from gateway.flows.still_allowed import still_allowed
from gateway.flows.use_resource import asking_as
from gateway.registry.folder import snapshot_path
from gateway.registry.plugins import Plugin
from sandbox.disk import Disk
from sandbox.spec import Spec

GIVEN_UP = "its caller gave it up"
CallPlugin = Callable[[Call, Context], Awaitable[Execution]]


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
        record = RunRecord(
            parts,
            self.call,
            self.plugin,
            function=self.step.function,
            arguments=self.step.arguments,
            execution_id=self.execution_id,
            trial=self.trial,
        )
        intent = record.beginning()
        await self._begin(record, [*recorded, *sight.decisions], intent)
        # INVARIANT: from here the intent is durable; every way on ends in a record that names it.
        try:
            result = self._stopped([*decisions, *sight.decisions]) or await self._run(sight)
            if self.plugin.manifest.file_access:
                result = replace(result, files={**sight.as_json(), **(result.files or {})})
        except (HostCannotKeepError, OverloadedError) as error:
            await record.refused(intent, error)
            error.decision_id = decisions[0].decision_id
            raise
        except BaseException:
            await record.end(
                intent, RunResult(outcome=Outcome.UNKNOWN, error="the call was given up", usage=NOTHING_USED)
            )
            raise
        await record.end(intent, result, decisions[0])
        return result, decisions[0]

    async def _begin(self, record: RunRecord, decisions: list[Decision], intent: Record) -> None:
        """Record that it begins; who is cancelled meanwhile goes on only when that is recorded, or not."""
        recording = asyncio.ensure_future(record_decisions(self.parts, decisions, self.context, intent))
        try:
            await asyncio.shield(recording)
        except asyncio.CancelledError:
            while not recording.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([recording])
            if recording.exception() is None:
                given_up = RunResult(outcome=Outcome.KILLED, error=GIVEN_UP, usage=NOTHING_USED, from_outside=True)
                await record.end(intent, given_up)
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
