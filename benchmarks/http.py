"""What clients see of a busy gateway: `make bench-http`.

One gateway on one core, every decision durable, asked by wrk from the other: as fast as it answers, at 85 % of that,
with 10,000 idle connections beside, with slow ones beside, and by four times the connections. In turns: A B A B.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import psutil
import uvloop

from benchmarks import wrk
from benchmarks.log import ASKED, LOAD_CORE, RULES, follower_of, gateway
from benchmarks.log_workload import make_home
from benchmarks.wrk import Load
from gateway.descriptors import raise_limit

CONNECTIONS, MANY = 64, 256
IDLE, SLOW = 10_000, 500
SHARE, P99_MS = 0.85, 30
_TRIES = 4  # to meet the share of the rate
_HEAD = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
_DRIP_S = 0.5


@dataclass(frozen=True, slots=True)
class Gate:
    """A gateway that runs, and what it is asked."""

    folder: Path
    port: int
    bodies: list[bytes]
    headers: dict[str, str]
    process: psutil.Process
    seconds: int

    def load(self, connections: int, pause_ms: int = 0) -> Load:
        """Ask for some seconds."""
        asked = wrk.write_questions(self.folder, self.bodies, self.headers, pause_ms=pause_ms)
        url = f"http://127.0.0.1:{self.port}/v1/decisions"
        return wrk.load(url, asked, connections=connections, seconds=self.seconds, core=LOAD_CORE)


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=int, default=4)
    chosen = options.parse_args()
    if not wrk.installed():
        sys.exit(wrk.HOW_TO_GET)
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("two cores are needed: one for the server, one for the load")
    raise_limit()
    with tempfile.TemporaryDirectory() as name:
        home = Path(name) / "home"
        bodies = make_home(home, RULES, ASKED).ours
        with gateway(home, "on") as (process, told):
            follower_of(process)
            headers = {"Authorization": f"Bearer {told['key']}"}
            measure(Gate(Path(name), told["port"], list(bodies), headers, process, chosen.seconds), chosen.rounds)


def measure(gate: Gate, rounds: int) -> None:
    """Take every case in turns."""
    gate.load(CONNECTIONS)  # caches fill
    full: list[Load] = []
    cases: dict[str, list[Load]] = {name: [] for name in ("85 %", "idle", "slow", "many")}
    for _ in range(rounds):
        full.append(gate.load(CONNECTIONS))
        cases["85 %"].append(steadily(gate, SHARE * statistics.median(each.rate for each in full)))
        before = gate.process.memory_info().rss
        with held(gate.port, IDLE, drip=False) as open_now:
            took = gate.process.memory_info().rss - before
            cases["idle"].append(gate.load(CONNECTIONS))
        with held(gate.port, SLOW, drip=True):
            cases["slow"].append(gate.load(CONNECTIONS))
        cases["many"].append(gate.load(MANY))
        print(f"{open_now:,} idle connections took {took / (1 << 20):.0f} MiB", flush=True)
    tell("as fast as it answers", full)
    tell(f"at {SHARE:.0%} of that", cases["85 %"])
    tell(f"with {IDLE:,} idle connections", cases["idle"])
    tell(f"with {SLOW:,} that drip a head", cases["slow"])
    tell(f"over {MANY} connections", cases["many"])
    p99 = statistics.median(each.p99_us for each in cases["85 %"]) / 1000
    print(f"p99 at {SHARE:.0%}: {p99:.1f} ms (promised: {P99_MS})")


def steadily(gate: Gate, wanted: float) -> Load:
    """Ask at a rate, or near it, by pausing before each request."""
    pause_ms = max(1, round(CONNECTIONS / wanted * 1000))
    found = gate.load(CONNECTIONS, pause_ms)
    for _ in range(_TRIES - 1):
        # a connection is busy for 1/rate of all of them; what it was too fast or slow is its pause's to mend
        pause_ms = max(1, pause_ms + round(1000 * CONNECTIONS * (1 / wanted - 1 / found.rate)))
        if abs(found.rate / wanted - 1) < 0.03:
            break
        found = gate.load(CONNECTIONS, pause_ms)
    return found


def tell(name: str, loads: list[Load]) -> None:
    """Print the medians of one case."""
    rate, p50, p99 = (
        statistics.median(values)
        for values in zip(*((each.rate, each.p50_us, each.p99_us) for each in loads), strict=True)
    )
    failed, late = sum(each.failed for each in loads), sum(each.late for each in loads)
    print(f"{name:32} {rate:7.0f}/s  p50 {p50 / 1000:6.2f} ms  p99 {p99 / 1000:6.2f} ms  failed {failed}  late {late}")


@contextmanager
def held(port: int, number: int, *, drip: bool) -> Iterator[int]:
    """Hold connections open beside the load: idle ones that had an answer, or such as never end a head."""
    ready, ended = Event(), Event()
    opened: list[int] = []
    holding = Thread(target=lambda: uvloop.run(_hold(port, number, ready, ended, opened, drip=drip)))
    holding.start()
    try:
        ready.wait()
        yield opened[0]
    finally:
        ended.set()
        holding.join()


async def _hold(port: int, number: int, ready: Event, ended: Event, opened: list[int], *, drip: bool) -> None:
    os.sched_setaffinity(0, {LOAD_CORE})
    writers = []
    for _ in range(number):
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            if not drip:
                writer.write(_HEAD + b"\r\n")
                await reader.readuntil(b"\r\n\r\n")
            writers.append(writer)
        except (OSError, asyncio.IncompleteReadError):
            continue
    opened.append(sum(not writer.is_closing() for writer in writers))
    ready.set()
    at = 0
    while not ended.is_set():
        if drip and at < len(_HEAD):
            for writer in writers:
                if not writer.is_closing():
                    writer.write(_HEAD[at : at + 1])
            at += 1
        await asyncio.sleep(_DRIP_S)
    for writer in writers:
        writer.close()


if __name__ == "__main__":
    main()
