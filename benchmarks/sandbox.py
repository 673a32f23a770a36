"""What a cell costs, and other sandboxes beside it: `make bench-sandbox`.

One interpreter, in turns: A B C A B C, so that what else the machine does falls on all of them: one at a time, and
some in a row. What is compared is what is installed; what is not is told.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import uvloop

from benchmarks.sandbox_http import tell_http
from benchmarks.sandbox_peers import BWRAP, peers
from gateway.domain.isolation import Isolation
from gateway.domain.request import Json
from gateway.executor.broker import Answer, Job
from gateway.executor.pool import Pool
from gateway.executor.resting import Bounds
from sandbox.launcher import Launcher
from sandbox.spec import Limits, Spec

Once = Callable[[], float]
PLUGIN = "def execute(ctx, payload):\n    return payload\n"
RESIDENTS = 100
IN_A_ROW = 25
_PATIENCE_S = 5.0
_REST_S = 0.03  # what a call leaves to be done after it is done by then
_WAITING = Bounds(cells=RESIDENTS, idle_s=600, memory_bytes=64 << 20)


class Executor:
    """Calls of a trivial plugin, on a loop as a gateway's."""

    def __init__(self, runner: asyncio.Runner, launcher: Launcher, code: Path) -> None:
        self._runner, self._launcher, self._code = runner, launcher, code
        self.cold = Pool(launcher, max_cells=8, max_waiting=64)
        self.cpu_s: list[float] = []  # of pristine cells, their making included
        self.warm = Pool(launcher, max_cells=8, max_waiting=64, waiting_cells=_WAITING)

    def spec(self, plugin_id: str = "trivial", cpu_percent: int | None = None) -> Spec:
        """Say how it is confined."""
        return Spec(plugin_id=plugin_id, code=str(self._code), uid=0x6000_0001, limits=Limits(cpu_percent=cpu_percent))

    def spawn(self) -> float:
        """Time a cell until every barrier is up."""
        begun = time.perf_counter()
        cell = self._launcher.spawn(self.spec())
        took = time.perf_counter() - begun
        cell.kill()
        cell.wait(_PATIENCE_S)
        cell.close()
        return took

    def call(self, isolation: Isolation | None, spec: Spec) -> Once:
        """Time whole calls; None: pristine, without anything made before."""
        pool = self.cold if isolation is None else self.warm

        async def once() -> float:
            # WHY: cells of other modes wait in the same pool; one of them is no next cell of this one.
            ready = isolation is not Isolation.PRISTINE or await _until(
                lambda: any(job.isolation is Isolation.PRISTINE for job in pool.resting)
            )
            begun = time.perf_counter()
            await self._run(pool, isolation or Isolation.PRISTINE, spec)
            return time.perf_counter() - begun if ready else float("nan")

        for _ in range(2 if isolation is Isolation.PRISTINE else 1):
            self._runner.run(self._run(pool, isolation or Isolation.PRISTINE, spec))
        return lambda: self._runner.run(once())

    async def _run(self, pool: Pool, isolation: Isolation, spec: Spec) -> None:
        job = Job(
            execution_id=f"e{time.monotonic_ns()}", plugin_id=spec.plugin_id, user_id="alice", function="execute",
            arguments={"payload": {"word": "x" * 100}}, session_id=None, timeout_s=30, isolation=isolation,
        )  # fmt: skip
        result = await pool.run(job, spec, _answer)
        if isolation is Isolation.PRISTINE and result.usage.cpu_s is not None:
            self.cpu_s.append(result.usage.cpu_s)
        if not result.success or result.isolation is not isolation:
            raise SystemExit(f"a call did not end as it should: {result}")

    def rest(self) -> None:
        """Let what earlier calls left to be done be done."""
        self._runner.run(asyncio.sleep(_REST_S))

    def residents(self) -> tuple[int, float]:
        """Keep many plugins loaded; gives how many cells there are, and what one takes: proportional bytes."""
        for number in range(RESIDENTS):
            self._runner.run(self._run(self.warm, Isolation.SHARED, self.spec(f"plugin-{number}")))
        self._runner.run(asyncio.sleep(1))
        taken = [each for each in map(_proportional, _below(self._launcher.zygote_pid or 0)) if each]
        return len(self.warm.resting), sum(taken) / len(self.warm.resting)

    def close(self) -> None:
        """End every cell."""
        self._runner.run(self.warm.close())


async def _answer(_op: str, _args: Mapping[str, Json], _blob: bytes) -> Answer:
    return Answer(body={"ok": True})


async def _until(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + _PATIENCE_S
    while not holds():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.001)
    return True


def _below(pid: int) -> list[int]:
    """Give the processes of cells: two below the zygote's keeper, and all below these."""
    found = [pid]
    for each in found:
        found += [int(child) for child in Path(f"/proc/{each}/task/{each}/children").read_text().split()]
    return found[2:]


def _proportional(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) << 10
    return 0


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--times", type=int, default=100)
    options.add_argument("--without-http", action="store_true")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "main.py").write_text(PLUGIN)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, Launcher() as launcher:
            executor = Executor(runner, launcher, folder)
            compare(executor, chosen.times)
            print(f"a pristine cell takes {statistics.median(executor.cpu_s) * 1000:.1f} ms of processor time")
            cells, taken = executor.residents()
            print(f"{cells} resident plugins: {taken / (1 << 20):.1f} MiB proportional memory each, both processes")
            executor.close()
    if not chosen.without_http:
        tell_http()


def compare(executor: Executor, times: int) -> None:
    """Time what a call costs that comes to a machine at rest, in turns, and then what those cost that come in a row."""
    others, missing = peers()
    spec = executor.spec()
    whole = {"pristine, whole call": executor.call(None, spec)}
    beside = {name: others[name] for name in (BWRAP,) if name in others}
    at_rest: dict[str, Once] = {
        "pristine, spawn alone": executor.spawn,
        **whole,
        "pristine, whole call, cpu 50%": executor.call(None, replace(spec, limits=Limits(cpu_percent=50))),
        "pristine, whole call, cpu 5%": executor.call(None, replace(spec, limits=Limits(cpu_percent=5))),
        **others,
    }
    in_a_row: dict[str, Once] = {
        **whole,
        "pristine, next cell ready": executor.call(Isolation.PRISTINE, spec),
        "fork": executor.call(Isolation.FORK, spec),
        "shared": executor.call(Isolation.SHARED, spec),
        **beside,
    }
    print("to a machine at rest, in turns:")
    _tell(_timed(executor, at_rest, times, 1))
    for each_missing in missing:
        print(each_missing)
    print(f"{IN_A_ROW} in a row, in turns:")
    _tell(_timed(executor, in_a_row, max(1, times // IN_A_ROW), IN_A_ROW))


def _timed(executor: Executor, cases: Mapping[str, Once], turns: int, each: int) -> dict[str, list[float]]:
    took: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(turns):
        for name, once in cases.items():
            executor.rest()
            took[name] += [once() * 1000 for _ in range(each)]
    return took


def _tell(took: Mapping[str, list[float]]) -> None:
    middle = {name: statistics.median(values) for name, values in took.items()}
    for name, values in took.items():
        told = f"p50 {middle[name]:7.2f} ms  p99 {sorted(values)[len(values) * 99 // 100]:7.2f} ms"
        beside = f"  {middle[name] / middle[BWRAP]:.2f} of bwrap's p50" if BWRAP in middle else ""
        print(f"{name:34} n={len(values)}  {told}{beside}")


if __name__ == "__main__":
    main()
