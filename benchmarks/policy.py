"""Decisions side by side with other engines, in one run, their answers compared: `make bench-policy`."""

import argparse
import gc
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from benchmarks.cerbos_server import NotRunError, cerbos, install
from benchmarks.peers import cedar, rego, stock_casbin
from benchmarks.turns import MIB, Row, resident, turn, turn_apart, turn_in_batches
from benchmarks.workload import FACTS, Workload, make_workload
from gateway.domain.decision import Effect
from gateway.domain.request import AccessRequest
from gateway.policy.engine import PolicySet, build_policy_set
from gateway.policy.parse import parse_policy

SIZES = (100, 1_000, 10_000, 100_000)
ASKED = 20_000


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    options.add_argument("--peers-up-to", type=int, default=100_000, help="stock Casbin is always asked")
    options.add_argument("--load-limit", type=float, default=180.0, help="seconds that another engine may load")
    chosen = options.parse_args()
    print(
        f"{'rules':>7}  {'engine':<22} {'median us':>11} {'p99 us':>11} {'cpu us':>11} {'slower':>10}"
        f" {'answered':>9} {'differing':>9}  note"
    )
    for size in chosen.sizes:
        workload = make_workload(size, asked=ASKED)
        policy = load(workload, size)
        ours = 0.0
        for row in measure(workload, policy, peers=size <= chosen.peers_up_to, limit_s=chosen.load_limit):
            ours = ours or row.median_us
            tell(size, row, ours)


def tell(size: int, row: Row, ours: float) -> None:
    """Print a row."""
    if not row.answered:
        print(f"{size:>7}  {row.engine:<22} {row.note}", flush=True)
        return
    print(
        f"{size:>7}  {row.engine:<22} {row.median_us:>11,.1f} {row.p99_us:>11,.1f} {row.cpu_us:>11,.1f}"
        f" {row.median_us / ours:>9,.1f}x {row.answered:>9,} {row.differing:>9}  {row.note}",
        flush=True,
    )


def load(workload: Workload, size: int) -> PolicySet:
    """Read, check and build the rules, and print what that took."""
    text, before = workload.text, resident()
    gc.collect()
    gc.disable()
    start = time.process_time()
    parsed = parse_policy(text)
    read = time.process_time()
    policy = build_policy_set(parsed, memberships={}, generation=1)
    built = time.process_time()
    gc.enable()
    gc.freeze()
    print(
        f"{size:>7}  load: {read - start:.2f} s reading and checking, {built - read:.2f} s building,"
        f" {(resident() - before) / MIB:.0f} MiB"
    )
    return policy


def measure(workload: Workload, policy: PolicySet, *, peers: bool, limit_s: float) -> Iterator[Row]:
    """Ask every engine the same; what it answers is compared with ours, which come first."""
    wanted: list[bool] = []

    def ours(request: AccessRequest) -> bool:
        return policy.decide(request, FACTS).effect is Effect.ALLOW

    def unkept(request: AccessRequest) -> bool:
        policy._kept.clear()  # noqa: SLF001 (what is measured is a decision that was not kept)
        return ours(request)

    cold = turn("ours, first touch", ours, workload.asked, wanted)
    yield turn("ours", unkept, workload.asked, wanted)
    yield cold
    turn("", ours, workload.asked, wanted)
    yield turn("ours, kept", ours, workload.asked, wanted)
    yield turn("stock casbin", stock_casbin(policy), workload.asked, wanted)
    if peers:
        for engine, make in (("cedarpy", partial(cedar, workload)), ("regopy", partial(rego, workload, policy))):
            yield turn_apart(engine, make, workload.asked, wanted, limit_s=limit_s)
        yield from beside_cerbos(workload, policy, wanted, limit_s)


def beside_cerbos(workload: Workload, policy: PolicySet, wanted: list[bool], limit_s: float) -> Iterator[Row]:
    """Ask a Cerbos server, one question a request and many."""

    def ours(request: AccessRequest) -> bool:
        return policy.decide(request, FACTS).effect is Effect.ALLOW

    try:
        install()
        start = time.perf_counter()
        with cerbos(workload, policy, limit_s=limit_s) as server:
            loaded = f"loaded in {time.perf_counter() - start:.1f} s"
            row = turn("cerbos", server.ask, workload.asked, wanted, cpu_s=server.cpu_s)
            batches = turn_in_batches(server, ours, workload.asked)
            note = f"{loaded}, {server.resident_bytes() / MIB:.0f} MiB; cpu us is the server's"
            yield from (replace(row, note=note), batches)
    except NotRunError as error:
        yield Row(engine="cerbos", note=f"not run: {error}")


if __name__ == "__main__":
    main()
