"""Recorded decisions judged again, by the policy in force and by an edit of it, on one core: `make bench-impact`.

`cpu/s` are decisions for each second of processor time, the median of the turns and the slowest one; `clock/s` the
median by the clock.
"""

import argparse
import asyncio
import gc
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from msgspec import structs

from benchmarks.workload import Workload, make_workload
from gateway.app import init_home, open_house
from gateway.domain.names import PLUGINS_GROUP, UserId
from gateway.domain.request import AccessRequest
from gateway.domain.risk import Tier
from gateway.flows.decide import Context, decide
from gateway.flows.impact import impact
from gateway.flows.record import record_decisions
from gateway.policy.engine import build_policy_set
from gateway.policy.parse import parse_policy
from gateway.policy.text import PolicyText
from gateway.policy_files import read_policy_folder

SIZES = (1_000, 10_000)
RECORDED = 100_000
BATCH = 200
TURNS = 5
RULES = "rules/50-bench.csv"
USERS = (None, *map(UserId, ("alice", "bob", "carol")))
CONTEXTS = (Context(), Context(sent={"safe": True}), Context(sent={"safe": False, "more": "not kept"}))
ALWAYS = "until(2099-01-01T00:00:00Z)"
TERMS = ("-", "consent", "risk", "hours", "rate", "context")


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """Something that a person may do to the rules, line by line, with the number of each."""

    name: str
    line: Callable[[int, str], str]

    def applied(self, text: PolicyText) -> PolicyText:
        """Give the text with the edit made."""
        lines = text.files[RULES].decode().splitlines()
        return text.with_file(RULES, "".join(f"{self.line(at, line)}\n" for at, line in enumerate(lines)).encode())


def main() -> None:
    """Record decisions, replay them, and print how many a second."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    options.add_argument("--recorded", type=int, default=RECORDED)
    chosen = options.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    head = ("rules", "asked", "edit", "decisions", "flips", "lacking", "cpu/s", "slowest", "clock/s")
    print("{:>7}  {:<15} {:<22} {:>10} {:>8} {:>8} {:>10} {:>10} {:>10}".format(*head))
    for size in chosen.sizes:
        for asked in ("every one new", "ten times each"):
            workload = make_workload(size, asked=chosen.recorded)
            if asked != "every one new":
                workload = replace(workload, asked=workload.asked[::10] * 10)
            with tempfile.TemporaryDirectory(prefix="hearthgate-bench-") as folder:
                home = Path(folder) / "home"
                given = asyncio.run(record(home, workload))
                for edit in EDITS:
                    print(f"{size:>7,}  {asked:<15} {edit.name:<22} {measured(home, given, edit)}", flush=True)


async def record(home: Path, workload: Workload) -> Mapping[str, tuple[str, ...]]:
    """Make a home of the workload's policy, whose log holds a decision on all that is asked; give the memberships."""
    init_home(home)
    shutil.rmtree(home / "policies")
    for path, data in workload.text.files.items():
        (home / "policies" / path).parent.mkdir(exist_ok=True, parents=True)
        (home / "policies" / path).write_bytes(data)
    rng = random.Random(1)
    async with open_house(home) as house:
        parts, current = house.parts, house.parts.policy
        policy = current.get()
        if policy is None:
            raise SystemExit(str(current.problems))
        given = standings(workload)
        current.swap(policy.with_memberships(given, parts.registry.memory.next_generation()))
        for chunk in batches(workload):
            context = rng.choice(CONTEXTS)
            decisions = [decide(parts, structs.replace(request, user=rng.choice(USERS)), context) for request in chunk]
            await record_decisions(parts, decisions, context)
    return given


def batches(workload: Workload) -> Iterator[tuple[AccessRequest, ...]]:
    """Give what is asked, some at a time."""
    return (workload.asked[at : at + BATCH] for at in range(0, len(workload.asked), BATCH))


def standings(workload: Workload) -> dict[str, tuple[str, ...]]:
    """Put every plugin into the groups that the gateway would."""
    tiers = [f"tier:{tier.value}" for tier in Tier]
    plugins = sorted({request.subject for request in workload.asked})
    return {plugin: (PLUGINS_GROUP, tiers[at % len(tiers)]) for at, plugin in enumerate(plugins)}


def measured(home: Path, given: Mapping[str, tuple[str, ...]], edit: Edit) -> str:
    """Replay the whole log against an edit, reading it included, and tell how it went."""
    text = read_policy_folder(home / "policies")
    now, edited = (
        build_policy_set(parse_policy(each), memberships=given, generation=1) for each in (text, edit.applied(text))
    )
    gc.collect()
    gc.freeze()
    worked, took = [], []
    for _ in range(TURNS):
        start, begun = time.perf_counter(), time.process_time()
        found = impact(home / "data", now, edited)
        worked.append(time.process_time() - begun)
        took.append(time.perf_counter() - start)
    lacking = found.missing.total()
    count = found.replayed + lacking
    rates = (count / median(worked), count / max(worked), count / median(took))
    return f"{count:>10,} {found.flipped:>8,} {lacking:>8,} " + " ".join(f"{rate:>10,.0f}" for rate in rates)


def _one_in_a_hundred(at: int, line: str) -> str:
    return line.replace(", -, allow, ", ", -, deny, ") if at % 100 == 0 else line


def _every(_at: int, line: str) -> str:
    for term in TERMS:
        line = line.replace(f", {term}", f", {ALWAYS}; {term}".removesuffix("; -"))
    return line


EDITS = (
    Edit(name="none", line=lambda _at, line: line),
    Edit(name="one rule in a hundred", line=_one_in_a_hundred),
    Edit(name="every rule", line=_every),
)

if __name__ == "__main__":
    main()
