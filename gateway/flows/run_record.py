"""What the log keeps of one run: that it begins, before it does, and how it ended."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.domain.decision import Decision
from gateway.domain.outcome import Outcome, RunResult, Usage
from gateway.domain.record import Record, Resolution
from gateway.domain.request import Json
from gateway.errors import HearthgateError, LogUnavailableError, OutcomeUnknownError
from gateway.executor.broker import json_size
from gateway.flows.benchmark_recorded import note_run
from gateway.flows.call import Call
from gateway.flows.conduct import PROTOCOL, count_try
from gateway.flows.parts import Parts
from gateway.flows.tell import tell
from gateway.flows.without_texts import without_texts
from gateway.registry.plugins import Plugin

_log = logging.getLogger("hearthgate.execute")
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
class RunRecord:
    """Records one run of one function of a plugin."""

    parts: Parts
    call: Call
    plugin: Plugin
    function: str
    arguments: Mapping[str, Json]
    execution_id: str
    trial: bool  # of a generation that is not in force

    def beginning(self) -> Record:
        """Give what is recorded before it begins."""
        return self._record("execution_started", Resolution.PENDING, {"function": self.function})

    async def refused(self, intent: Record, why: HearthgateError) -> None:
        """Record that nothing ran.

        Raises:
            OutcomeUnknownError: that could not be recorded.
        """
        _log.error("execution %s of %s did not run: %s", self.execution_id, self.plugin.id, why)
        await self.end(intent, RunResult(outcome=Outcome.REFUSED, error=why.message, usage=NOTHING_USED))

    async def end(self, intent: Record, result: RunResult, decision: Decision | None = None) -> None:
        """Record how it ended, and count what that says of the plugin; `intent` is what was recorded before.

        Raises:
            OutcomeUnknownError: that could not be recorded; it names `decision`.
        """
        event_type, resolution = EVENT_OF[result.outcome]
        self._tell(result)
        details: dict[str, Json] = {
            "function": self.function,
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
            {} if result.error is None else {"error": without_texts(result.error, self.arguments)}
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

    def _tell(self, result: RunResult) -> None:
        # SECURITY: outcome and ids alone, for what an error says may be a user's words.
        level = logging.DEBUG if result.success else logging.WARNING
        if _log.isEnabledFor(level):
            outcome = (self.plugin.id, result.outcome.value, result.usage.wall_s)
            more = "" if result.success else f": `hearthgate audit search {self.execution_id}` tells more"
            _log.log(level, "execution %s of %s %s after %.3f s%s", self.execution_id, *outcome, more)

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
