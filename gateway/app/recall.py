"""Calls of a plugin that ended before the gateway was started, read back from the log."""

from itertools import chain
from typing import Any

from gateway.audit.query import LogReader
from gateway.audit.wanted import Filter
from gateway.bench.figures import Sample
from gateway.bench.runs import KEPT
from gateway.domain.outcome import Outcome

_ENDS = ("execution_completed", "execution_failed", "execution_timeout")
_UNTOLD = {Outcome.REFUSED.value, Outcome.UNKNOWN.value}


def recall_samples(reader: LogReader, plugin_id: str, generation: int, known: int) -> tuple[Sample, ...]:
    """Give the latest calls of a plugin's generation, the oldest first, without the newest `known`.

    Raises:
        LogUnavailableError: the log cannot be read.
    """
    pages = (reader.find(Filter(plugin=plugin_id, event_type=each), limit=KEPT).rows for each in _ENDS)
    rows = sorted(chain.from_iterable(pages), key=lambda row: int(row["seq"]))
    samples = [_sample(row["details"]) for row in rows if _is_wanted(row["details"], generation)]
    return tuple(samples[: len(samples) - known][-KEPT:])


def _is_wanted(details: dict[str, Any], generation: int) -> bool:
    if details.get("trial"):
        return False  # WHY: a generation that is only tried is called by nobody
    if details.get("from_outside"):
        return False  # WHY: that somebody ended it says nothing of the plugin
    if "hook" in details:
        return False  # WHY: a hook is no call of anybody's.
    return details.get("generation") == generation and details.get("outcome") not in _UNTOLD


def _sample(details: dict[str, Any]) -> Sample:
    usage = details.get("usage") or {}
    return Sample(
        wall_s=float(details.get("execution_time") or 0.0),
        failed=details.get("success") is not True,
        cpu_s=usage.get("cpu_s"),
        memory_bytes=usage.get("memory_peak_bytes"),
        disk_bytes=usage.get("disk_bytes"),
    )
