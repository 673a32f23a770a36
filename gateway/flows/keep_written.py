"""To keep what was written: what a call changed of folders that it was shown, judged and recorded once more.

A call that returned is kept; of one that failed, took too long or was ended nothing is.
"""

import asyncio
import os
from dataclasses import replace

from gateway.domain.decision import Decision
from gateway.domain.outcome import Outcome, RunResult
from gateway.domain.permission import Level
from gateway.domain.request import Json
from gateway.errors import DeniedError, HearthgateError
from gateway.flows.decide import Context, decide
from gateway.flows.parts import Parts
from gateway.flows.record import record_decisions
from gateway.flows.show_files import Shown, Sight, why_not
from gateway.flows.still_allowed import check_still_allowed
from gateway.resources.keep import is_unchanged, keep_changes
from sandbox.disk import Disk


async def keep_written(
    parts: Parts, sight: Sight, context: Context, result: RunResult, disk: Disk, most_bytes: int
) -> RunResult:
    """Put what a call wrote where it belongs; what cannot be kept makes the call one that failed."""
    told: list[Json] = []
    if not result.success:
        return result
    for number, each in enumerate(sight.shown):
        if each.level < Level.WRITE:
            continue
        layer = disk.open_changed(number)
        try:
            if not await asyncio.to_thread(is_unchanged, layer):
                told.append(await _keep(parts, sight, each, context, layer, most_bytes))
        except HearthgateError as error:
            why = f"what it wrote to `{each.target}` was not kept: {error.message}"
            return replace(result, outcome=Outcome.FAILED, output=None, error=why, files={"written": told})
        finally:
            os.close(layer)
    return replace(result, files={"written": told}) if told else result


async def _keep(
    parts: Parts, sight: Sight, shown: Shown, context: Context, layer: int, most_bytes: int
) -> dict[str, Json]:
    decisions = _judged_again(parts, sight, shown, context)
    await record_decisions(parts, decisions, context)
    refused = next((each for each in decisions if not each.allowed), None)
    if refused is not None:
        raise DeniedError(f"denied by now ({refused.verdict.reason.value})", decision_id=refused.decision_id)
    check_still_allowed(parts, decisions)
    kept = await asyncio.to_thread(keep_changes, layer, shown.view, most_bytes)
    return {"path": shown.target, "decision_id": decisions[0].decision_id, **kept.as_json()}


def _judged_again(parts: Parts, sight: Sight, shown: Shown, context: Context) -> list[Decision]:
    for each in shown.decisions:
        if sight.views is not None:
            why = why_not(parts, parts.policy.get(), each.request, shown.view, context, sight.views)
            if why is not None:
                raise DeniedError(why)
    return [decide(parts, each.request, context) for each in shown.decisions]
