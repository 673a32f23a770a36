"""Decisions side by side with other engines, in one run, their answers compared: `make bench-policy`."""

import argparse
import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.peers import cedar, rego, stock_casbin
from benchmarks.workload import FACTS, Workload, make_workload
from gateway.domain.decision import Effect
from gateway.domain.request import AccessRequest
from gateway.policy.engine import PolicySet, build_policy_set
from gateway.policy.parse import parse_policy

SIZES = (100, 1_000, 10_000, 100_000)
ASKED = 20_000
TURN_S = 2.0  # for an engine that cannot answer all of it in that time
MIB = 1024 * 1024
Ask = Callable[[AccessRequest], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What was measured of one engine."""

    engine: str
    median_us: float
    p99_us: float
    answered: int
    differing: int


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    options.add_argument("--peers-up-to", type=int, default=10_000, help="stock Casbin is always asked")
    chosen = options.parse_args()
    print(
        f"{'rules':>7}  {'engine':<24} {'median us':>12} {'p99 us':>12} {'slower':>9} {'answered':>9} {'differing':>9}"
    )
    for size in chosen.sizes:
        workload = make_workload(size, asked=ASKED)
        policy = load(workload, size)
        rows = measure(workload, policy, peers=size <= chosen.peers_up_to)
        for row in rows:
            ratio = row.median_us / rows[0].median_us
            print(
                f"{size:>7}  {row.engine:<24} {row.median_us:>12,.1f} {row.p99_us:>12,.1f} {ratio:>8,.1f}x"
                f" {row.answered:>9,} {row.differing:>9}"
            )


def load(workload: Workload, size: int) -> PolicySet:
    """Read, check and build the rules, and print what that took."""
    text, before = workload.text, resident()
    gc.collect()
    gc.disable()
    start = time.perf_counter()
    parsed = parse_policy(text)
    read = time.perf_counter()
    policy = build_policy_set(parsed, memberships={}, generation=1)
    built = time.perf_counter()
    gc.enable()
    gc.freeze()
    print(
        f"{size:>7}  load: {read - start:.2f} s reading and checking, {built - read:.2f} s building,"
        f" {(resident() - before) / MIB:.0f} MiB"
    )
    return policy


def resident() -> int:
    """Give the memory of this process."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 (not a file of anybody's)
        return int(file.read().split()[1]) * 4096


def measure(workload: Workload, policy: PolicySet, *, peers: bool) -> list[Row]:
    """Ask every engine the same; what it answers is compared with ours."""
    wanted: list[bool] = []

    def ours(request: AccessRequest) -> bool:
        return policy.decide(request, FACTS).effect is Effect.ALLOW

    def unkept(request: AccessRequest) -> bool:
        policy._kept.clear()  # noqa: SLF001 (what is measured is a decision that was not kept)
        return ours(request)

    cold = turn("ours, first touch", ours, workload.asked, wanted)
    rows = [turn("ours", unkept, workload.asked, wanted), cold]
    turn("", ours, workload.asked, wanted)
    rows.append(turn("ours, kept", ours, workload.asked, wanted))
    rows.append(turn("stock casbin", stock_casbin(policy), workload.asked, wanted))
    if peers:
        rows.append(turn("cedarpy", cedar(workload), workload.asked, wanted))
        rows.append(turn("regopy", rego(workload, policy), workload.asked, wanted))
    return rows


def turn(engine: str, ask: Ask, asked: Sequence[AccessRequest], wanted: list[bool]) -> Row:
    """Ask one engine, and count where it differs from the first."""
    took: list[int] = []
    said: list[bool] = []
    clock = time.perf_counter_ns
    until = clock() + int(TURN_S * 1e9)
    for request in asked:
        start = clock()
        answer = ask(request)
        took.append(clock() - start)
        said.append(answer)
        if clock() > until:
            break
    if not wanted:
        wanted.extend(said)
    took.sort()
    return Row(
        engine=engine,
        median_us=took[len(took) // 2] / 1000,
        p99_us=took[len(took) * 99 // 100] / 1000,
        answered=len(took),
        differing=sum(one is not other for one, other in zip(said, wanted, strict=False)),
    )


if __name__ == "__main__":
    main()
