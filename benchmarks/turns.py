"""A turn of one engine: asked the same as the others, timed, its answers compared with ours."""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection

from msgspec import structs

from benchmarks.cerbos_server import BATCH, Cerbos
from gateway.domain.request import AccessRequest

TURN_S = 2.0  # for an engine that cannot answer all of it in that time
MIB = 1024 * 1024
Ask = Callable[[AccessRequest], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What was measured of one engine; `note` is what else there is to tell, or why there is nothing."""

    engine: str
    median_us: float = 0.0
    p99_us: float = 0.0
    cpu_us: float = 0.0  # mean processor time of a decision: of this process, or of a server
    answered: int = 0
    differing: int = 0
    note: str = ""


def turn(
    engine: str,
    ask: Ask,
    asked: Sequence[AccessRequest],
    wanted: list[bool],
    *,
    cpu_s: Callable[[], float] = time.process_time,
) -> Row:
    """Ask one engine, and count where it differs from the first."""
    took: list[int] = []
    said: list[bool] = []
    clock = time.perf_counter_ns
    begun = cpu_s()
    until = clock() + int(TURN_S * 1e9)
    for request in asked:
        start = clock()
        answer = ask(request)
        took.append(clock() - start)
        said.append(answer)
        if clock() > until:
            break
    worked_us = (cpu_s() - begun) * 1e6
    if not wanted:
        wanted.extend(said)
    took.sort()
    return Row(
        engine=engine,
        median_us=took[len(took) // 2] / 1000,
        p99_us=took[len(took) * 99 // 100] / 1000,
        cpu_us=worked_us / len(took),
        answered=len(took),
        differing=sum(one is not other for one, other in zip(said, wanted, strict=False)),
    )


def turn_in_batches(server: Cerbos, ours: Ask, asked: Sequence[AccessRequest]) -> Row:
    """Ask a server many questions of one subject at a time; times are of one question."""
    took: list[float] = []
    differing = 0
    begun = server.cpu_s()
    until = time.perf_counter() + TURN_S
    for first in range(0, len(asked) - BATCH, BATCH):
        batch = [structs.replace(each, subject=asked[first].subject) for each in asked[first : first + BATCH]]
        start = time.perf_counter()
        said = server.ask_all(batch)
        took.append((time.perf_counter() - start) / BATCH * 1e6)
        differing += sum(one is not ours(request) for one, request in zip(said, batch, strict=True))
        if time.perf_counter() > until:
            break
    worked_us = (server.cpu_s() - begun) * 1e6
    took.sort()
    return Row(
        engine=f"cerbos, {BATCH} a request", median_us=took[len(took) // 2], p99_us=took[len(took) * 99 // 100],
        cpu_us=worked_us / len(took) / BATCH, answered=len(took) * BATCH, differing=differing,
    )  # fmt: skip


def turn_apart(
    engine: str, make: Callable[[], Ask], asked: Sequence[AccessRequest], wanted: list[bool], *, limit_s: float
) -> Row:
    """Load and ask an engine in a process of its own, which is ended if it takes longer than `limit_s` to load."""
    forked = multiprocessing.get_context("fork")
    here, there = forked.Pipe(duplex=False)

    def work(answer: Connection) -> None:
        before, start = resident(), time.perf_counter()
        ask = make()
        loaded = f"loaded in {time.perf_counter() - start:.1f} s, {(resident() - before) / MIB:.0f} MiB"
        answer.send(loaded)
        answer.send(replace(turn(engine, ask, asked, wanted), note=loaded))

    process = forked.Process(target=work, args=(there,))
    process.start()
    there.close()
    try:
        if not here.poll(limit_s):
            return Row(engine=engine, note=f"not run: not loaded in the {limit_s:.0f} s that it was given")
        here.recv()
        row: Row = here.recv()
    except EOFError:
        return Row(engine=engine, note="not run: it ended while loading or answering")
    else:
        return row
    finally:
        process.kill()
        process.join()
        here.close()


def resident() -> int:
    """Give the memory of this process."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 (not a file of anybody's)
        return int(file.read().split()[1]) * 4096
