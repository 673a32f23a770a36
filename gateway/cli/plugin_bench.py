"""Benchmarks of a plugin on the terminal: what was measured, and measuring now."""

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from gateway.cli.call import Call, verb
from gateway.cli.output import columns, note, print_facts, print_table, print_text
from gateway.cli.plugin import PluginArgument, app, payload_of
from gateway.cli.progress import time_passing

_HISTORY = columns(
    when="!at",
    kind="kind",
    generation="#generation",
    calls="#executions",
    p50_ms="#response_time.p50_ms",
    p99_ms="#response_time.p99_ms",
    errors="#errors",
    tier="!tier",
    provisional="provisional",
)
_FACTS = columns(
    plugin="plugin_id",
    generation="generation",
    version="version",
    calls="executions",
    errors="errors",
    mean_ms="response_time.mean_ms",
    p50_ms="response_time.p50_ms",
    p95_ms="response_time.p95_ms",
    p99_ms="response_time.p99_ms",
    calls_a_second="throughput_per_s",
    at_once="concurrency",
    cpu_percent="cpu_percent",
    memory_mb="memory_mb",
    disk_mb="disk_mb",
    tier="tier",
)
_NOT_MET = 1
__all__ = ["app", "bench"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """How it is measured, and what is to be met."""

    duration: Annotated[float, typer.Option("--duration", metavar="SECONDS", help="For how long.")] = 10.0
    concurrency: Annotated[int, typer.Option("--concurrency", metavar="N", help="How many at once.")] = 1
    response_time: Annotated[
        float | None, typer.Option("--response-time", metavar="MS", help="Exit 1 if the mean is above it.")
    ] = None
    error_rate: Annotated[
        float | None, typer.Option("--error-rate", metavar="SHARE", help="Exit 1 if more fail, as 0.01.")
    ] = None
    max_cpu: Annotated[
        float | None, typer.Option("--max-cpu", metavar="PERCENT", help="Exit 1 if it uses more of one core.")
    ] = None
    max_memory: Annotated[
        float | None, typer.Option("--max-memory", metavar="MB", help="Exit 1 if a call uses more memory.")
    ] = None
    max_disk: Annotated[
        float | None, typer.Option("--max-disk", metavar="MB", help="Exit 1 if a call writes more.")
    ] = None

    def as_json(self) -> dict[str, Any]:
        """Give the wire shape; what is not wished is left out."""
        limits = {"max_cpu_percent": self.max_cpu, "max_memory_mb": self.max_memory, "max_disk_mb": self.max_disk}
        given: dict[str, Any] = {
            "test_duration": self.duration,
            "concurrency": self.concurrency,
            "response_time_threshold": self.response_time,
            "error_rate_threshold": self.error_rate,
            "resource_limits": {name: limit for name, limit in limits.items() if limit is not None} or None,
        }
        return {name: value for name, value in given.items() if value is not None}


_DEFAULTS = Wishes()


@verb(app, "bench")
def bench(
    call: Call,
    plugin_id: PluginArgument,
    payload: Annotated[
        str | None, typer.Argument(metavar="PAYLOAD", help="What to call again and again; without it the history.")
    ] = None,
    wished: Wishes = _DEFAULTS,
) -> None:
    """Measure a capability that its manifest calls idempotent, or show what was measured."""
    if payload is None:
        found = call.ask("GET", f"/v1/plugins/{plugin_id}/benchmarks")
        call.show(found, lambda: print_table(_HISTORY, found["benchmarks"], empty="never measured"))
        return
    body = {"payload": payload_of(payload), **wished.as_json()}
    with time_passing(f"measuring {plugin_id}", seconds=wished.duration):
        measured = call.ask("POST", f"/v1/plugins/{plugin_id}/benchmarks", json=body)
    call.show(measured, lambda: _tell(measured))
    if not measured["passed"]:
        raise typer.Exit(_NOT_MET)


def _tell(measured: dict[str, Any]) -> None:
    print_facts(measured, _FACTS)
    if measured["provisional"]:
        note(f"the tier is provisional: {measured['sample_needed']:,} calls are needed to be sure of it")
    for advice in measured["advice"]:
        print_text(f"advice: {advice['text']}")
    for name, wish in measured["thresholds"].items():
        if wish["met"] is not True:
            told = "was not measured" if wish["measured"] is None else f"is {wish['measured']:g}"
            note(f"{name}: {wish['wanted']:g} was wanted, it {told}")
    compared = measured["compared"]
    if compared is not None:
        told = f"{compared['change_percent']:+g} % against generation {compared['generation']}"
        print_text(f"{told}: it became slower" if compared["slower"] else told)
