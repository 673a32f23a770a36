"""What the log costs a decision, and Cerbos beside it: `make bench-log`.

Real servers on one core, asked by wrk from another, in turns: A B C A B C, so that what else the machine does
falls on all of them. Every figure is the median of the rounds; ratios are of medians of one run. The process that
fills the search index runs on the core of the load, with the low priority it always has; its time is told apart.
"""

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks import wrk
from benchmarks.cerbos_audited import audited_cerbos
from benchmarks.cerbos_server import PATH as CERBOS_PATH
from benchmarks.cerbos_server import NotRunError, answers, install
from benchmarks.log_workload import Questions, make_home
from benchmarks.typed_decisions import PATH as TYPED_PATH
from benchmarks.wrk import Load
from gateway.audit.index.following import Following

SERVER_CORE, LOAD_CORE = 0, 1
RULES, ASKED, COMPARED = 1_000, 4_000, 2_000
CONNECTIONS = (1, 32, 128)
SYNCS, WAIT_S = 300, 30.0
DURABLE, OFF, TYPED, TYPED_OFF, CERBOS = "durable", "log off", "typed, durable", "typed, log off", "cerbos, audit on"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that runs, and what it is asked."""

    name: str
    url: str
    process: psutil.Process
    follower: psutil.Process | None
    data: Path
    questions: tuple[Path, Path]
    bodies: Sequence[bytes]
    headers: dict[str, str]
    allowed: Callable[[dict[str, Any], int], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one server did in one turn."""

    load: Load
    cpu_us: float  # of the server, a request
    indexed: int  # records that the index took in meanwhile
    index_s: float  # processor time of the process that did it
    behind: int  # records that it had still to do when the turn ended


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=4)
    options.add_argument("--seconds", type=int, default=3)
    options.add_argument("--folder", type=Path, help="where the homes are made: the disk that is measured")
    options.add_argument("--ours", action="store_true", help="without Cerbos")
    chosen = options.parse_args()
    if not wrk.installed():
        sys.exit(wrk.HOW_TO_GET)
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("two cores are needed: one for the server, one for the load")
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name, ExitStack() as stack:
        servers, sync_us = start(Path(name), stack, with_cerbos=not chosen.ours)
        compare(servers)
        print(f"one append of 4 KiB and its fdatasync: p50 {sync_us:.0f} us")
        for connections in CONNECTIONS:
            turns: dict[str, list[Turn]] = {server.name: [] for server in servers}
            for _ in range(chosen.rounds):
                for server in servers:
                    turns[server.name].append(take_turn(server, connections, chosen.seconds))
            tell(connections, turns, sync_us)


def start(folder: Path, stack: ExitStack, *, with_cerbos: bool) -> tuple[list[Server], float]:
    """Start every server, and time the disk they write to."""
    questions: Questions | None = None
    servers: list[Server] = []
    for log, names in (("on", (DURABLE, TYPED)), ("off", (OFF, TYPED_OFF))):
        home = folder / log
        questions = make_home(home, RULES, ASKED)
        process, told = stack.enter_context(gateway(home, log))
        follower = follower_of(process)
        headers = {"Authorization": f"Bearer {told['key']}"}
        asked = wrk.write_questions(home, questions.ours, headers)
        for name, path in zip(names, ("/v1/decisions", TYPED_PATH), strict=True):
            servers.append(
                Server(
                    name=name, url=f"http://127.0.0.1:{told['port']}{path}", process=process, questions=asked,
                    follower=follower if log == "on" else None, data=home / "data",
                    bodies=questions.ours, headers=headers, allowed=lambda found, _: found["effect"] == "allow",
                )
            )  # fmt: skip
    servers = [next(server for server in servers if server.name == name) for name in (DURABLE, OFF, TYPED, TYPED_OFF)]
    if with_cerbos and questions is not None:
        servers += start_cerbos(folder, stack, questions)
    return servers, time_sync(folder)


def start_cerbos(folder: Path, stack: ExitStack, questions: Questions) -> list[Server]:
    """Start Cerbos, or tell why it does not run."""
    try:
        install()
        home = folder / "cerbos"
        home.mkdir()
        process, port = stack.enter_context(audited_cerbos(questions.workload, home, core=SERVER_CORE))
    except NotRunError as error:
        print(f"cerbos: not run: {error}")
        return []
    requests = questions.workload.asked
    return [
        Server(
            name=CERBOS, url=f"http://127.0.0.1:{port}{CERBOS_PATH}", process=process, headers={},
            follower=None, data=home,
            questions=wrk.write_questions(home, questions.cerbos, {}), bodies=questions.cerbos,
            allowed=lambda found, number: answers(found, [requests[number]])[0],
        )
    ]  # fmt: skip


@contextmanager
def gateway(home: Path, log: str) -> Iterator[tuple[psutil.Process, dict[str, Any]]]:
    """Run a gateway on a home; it tells its port and a key."""
    command = [sys.executable, "-m", "benchmarks.log_house", str(home), "--core", str(SERVER_CORE), "--log", log]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert started.stdout is not None  # noqa: S101 (a pipe was asked for)
        line = started.stdout.readline()
        if not line:
            sys.exit(f"the gateway ended: {started.wait()}")
        yield psutil.Process(started.pid), json.loads(line)
    finally:
        started.terminate()
        started.wait()
        if started.stdout is not None:
            started.stdout.close()


def follower_of(process: psutil.Process) -> psutil.Process:
    """Find the process that fills the index, and give it the core of the load."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        for child in process.children():
            if "gateway.audit.index" in child.cmdline():
                child.cpu_affinity([LOAD_CORE])
                return child
        time.sleep(0.05)
    sys.exit("nothing fills the search index")


def extent(server: Server) -> tuple[int, int]:
    """Tell how many records a server's index has, and its log."""
    state = Following(server.data).state
    return state.indexed, state.records


def compare(servers: Sequence[Server]) -> None:
    """Ask every server the same and stop where one answers differently."""
    said = [answered(server) for server in servers]
    differing = {
        server.name: sum(one is not other for one, other in zip(said[0], each, strict=True))
        for server, each in zip(servers, said, strict=True)
    }
    print(f"{COMPARED:,} questions at {RULES:,} rules: {sum(said[0]):,} allowed; answers that differ: {differing}")
    if any(differing.values()):
        sys.exit("servers that answer differently cannot be compared")


def answered(server: Server) -> list[bool]:
    """Ask one server over one connection."""
    address, _, path = server.url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(address)
    said = []
    for number, body in enumerate(server.bodies[:COMPARED]):
        connection.request("POST", f"/{path}", body, {"Content-Type": "application/json", **server.headers})
        answer = connection.getresponse()
        found = answer.read()
        if answer.status != http.HTTPStatus.OK:
            sys.exit(f"{server.name} answered {answer.status}: {found[:300].decode(errors='replace')}")
        said.append(server.allowed(json.loads(found), number))
    connection.close()
    return said


def take_turn(server: Server, connections: int, seconds: int) -> Turn:
    """Load one server for some seconds."""
    before, index_before = server.process.cpu_times(), worked(server.follower)
    had = 0 if server.follower is None else extent(server)[0]
    found = wrk.load(server.url, server.questions, connections=connections, seconds=seconds, core=LOAD_CORE)
    after, index_after = server.process.cpu_times(), worked(server.follower)
    has, written = (0, 0) if server.follower is None else extent(server)
    if found.failed or found.late:
        sys.exit(f"{server.name}: {found.failed} requests failed, {found.late} were late")
    worked_s = after.user + after.system - before.user - before.system
    if server.follower is not None:
        settle(server)
    return Turn(
        load=found, cpu_us=worked_s / found.requests * 1e6,
        indexed=has - had, index_s=index_after - index_before, behind=written - has,
    )  # fmt: skip


def worked(process: psutil.Process | None) -> float:
    """Give the processor time that a process has used, in seconds."""
    times = None if process is None else process.cpu_times()
    return 0.0 if times is None else times.user + times.system


def settle(server: Server) -> None:
    """Let the index finish, so that it takes nothing from the next turn."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        indexed, records = extent(server)
        if indexed == records:
            return
        time.sleep(0.05)
    sys.exit(f"{server.name}: the index does not come to the end of the log")


def time_sync(folder: Path) -> float:
    """Give what an append of a page and its way to the disk take, in microseconds."""
    took = []
    descriptor = os.open(folder / "sync", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for _ in range(SYNCS):
            begun = time.perf_counter()
            os.write(descriptor, bytes(4096))
            os.fdatasync(descriptor)
            took.append(time.perf_counter() - begun)
    finally:
        os.close(descriptor)
    return statistics.median(took) * 1e6


def tell(connections: int, turns: dict[str, list[Turn]], sync_us: float) -> None:
    """Print the medians, and what they are to each other."""

    def rate(name: str) -> float:
        return statistics.median(turn.load.rate for turn in turns[name])

    def cpu(name: str) -> float:
        return statistics.median(turn.cpu_us for turn in turns[name])

    def p50(name: str) -> float:
        return statistics.median(turn.load.p50_us for turn in turns[name])

    print(f"\n{connections} connections  {'requests/s':>12} {'p50 us':>9} {'p99 us':>9} {'cpu us':>8}")
    for name, each in turns.items():
        p99 = statistics.median(turn.load.p99_us for turn in each)
        print(f"  {name:<18} {rate(name):>12,.0f} {p50(name):>9,.0f} {p99:>9,.0f} {cpu(name):>8,.1f}")
    print(f"  durable / log off: {rate(DURABLE) / rate(OFF):.2f} of the rate,", end=" ")
    print(f"{cpu(OFF) / cpu(DURABLE):.2f} by processor time;", end=" ")
    print(f"typed {rate(TYPED) / rate(TYPED_OFF):.2f}, {cpu(TYPED_OFF) / cpu(TYPED):.2f}")
    print(f"  the log adds {cpu(DURABLE) - cpu(OFF):.1f} us of processor time a request,", end=" ")
    print(f"{p50(DURABLE) - p50(OFF):.0f} us to the p50 (one sync: {sync_us:.0f})")
    indexed = sum(turn.indexed for turn in turns[DURABLE])
    if indexed:
        index_us = sum(turn.index_s for turn in turns[DURABLE]) / indexed * 1e6
        behind_s = statistics.median(turn.behind / turn.load.rate for turn in turns[DURABLE])
        print(f"  the index (core {LOAD_CORE}) takes {index_us:.1f} us of processor time a record of its own,", end=" ")
        print(f"and is {behind_s:.2f} s behind at the end of a turn")
    if CERBOS in turns:
        print(f"  to cerbos: {rate(DURABLE) / rate(CERBOS):.1f}x the rate,", end=" ")
        print(f"{cpu(CERBOS) / cpu(DURABLE):.1f}x by processor time;", end=" ")
        print(f"typed {rate(TYPED) / rate(CERBOS):.1f}x, {cpu(CERBOS) / cpu(TYPED):.1f}x")


if __name__ == "__main__":
    main()
