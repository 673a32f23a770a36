"""Edits of the policy of a real, open home: how long until they are in force, and who waits meanwhile.

`make bench-edits`. The home is open with all its parts; an edit goes the way that a person's or an approval's goes.
Lateness is how much later than due somebody has their answer who asks once a millisecond, from a thread of their
own or on the gateway's loop; whoever had to wait catches up, and each question that had to wait is counted. `a second`
is how many were really asked: whoever cannot keep up is late for ever, and asks less than 1,000.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

from benchmarks.workload import FACTS, Workload, make_workload
from gateway.app.home import init_home
from gateway.app.house import open_house
from gateway.domain.caller import Caller
from gateway.domain.manifest import RequestedPermission
from gateway.domain.names import PLUGINS_GROUP, UserId
from gateway.domain.permission import parse_permission
from gateway.domain.request import Json
from gateway.flows.approval import approve
from gateway.flows.decide import decide
from gateway.flows.parts import Parts
from gateway.flows.permissions import Answer, Wanted, approve_request, request_permissions, revoke_permissions
from gateway.flows.registration import register
from gateway.flows.reload_policy import reload_policy
from gateway.policy.engine import PolicySet, build_policy_set
from gateway.policy.parse import parse_policy
from gateway.policy_files import read_policy_folder
from gateway.policy_files.kept import STEP_S

ASKED = 2_000
PERIOD_S = 0.001
CASES = 100
OWNER = Caller(user_id=UserId("bench"), owner=True)
MANIFEST: dict[str, Json] = {
    "plugin_id": "bench", "name": "bench", "version": "1.0.0", "description": "asks for grants",
    "author": "bench", "requested_permissions": [],
}  # fmt: skip


@dataclass(slots=True)
class Asking:
    """Somebody who asks at a fixed rate: how late each answer was, and how long they asked in all."""

    late: list[float] = field(default_factory=list)
    spent_s: float = 0.0

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Add the time of a block to that in which questions were asked."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.spent_s += time.perf_counter() - start

    def tell(self, size: int, what: str) -> None:
        """Print a row, with the rate that was reached."""
        tell(size, what, self.late, rate=len(self.late) / self.spent_s)


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--sizes", type=int, nargs="*", default=(10_000, 100_000))
    options.add_argument("--rounds", type=int, default=8)
    chosen = options.parse_args()
    print(f"{'rules':>7}  {'what':<44} {'median ms':>10} {'p99 ms':>9} {'max ms':>9} {'times':>8} {'a second':>9}")
    for size in chosen.sizes:
        asyncio.run(measure(size, chosen.rounds))


async def measure(size: int, rounds: int) -> None:
    """Open a home with so many rules and 100 cases, and edit it."""
    workload = make_workload(size, asked=ASKED)
    async with AsyncExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "home"
        init_home(home)
        write(home / "policies", workload)
        house = await stack.enter_async_context(open_house(home))
        parts = house.parts
        if parts.policy.get() is None:
            sys.exit("\n".join(map(str, parts.policy.problems[:5])))
        await asyncio.sleep(2)  # the look that the watch takes at its beginning
        await edits(parts, workload, size, rounds)
        await grants(parts, workload, size, rounds)


def write(folder: Path, workload: Workload) -> None:
    """Put the rules of a workload beside the starter policy, and cases that they pass."""
    for name, data in workload.text.files.items():
        if name.startswith("rules/") or name == "roles.csv":
            with (folder / name).open("ab") as file:
                file.write(data)
    members = {str(each.subject): (PLUGINS_GROUP,) for each in workload.asked}
    policy = build_policy_set(parse_policy(read_policy_folder(folder)), memberships=members, generation=1)
    told = [
        f'[[case]]\nname = "case {number}"\nask = {{ subject = "{asked.subject}", kind = "{asked.kind}",'
        f' level = "{asked.level}", scope = "{asked.scope}" }}\n'
        f'given = {{ at = "2026-11-23T11:00:00Z", risk = 30, user = "a",'
        f' consents = ["{asked.kind}_{asked.level} *"] }}\nwant = "{policy.decide(asked, FACTS).effect}"\n'
        for number, asked in enumerate(each for each in workload.asked if each.level in {"read", "write"})
        if number < CASES
    ]
    (folder / "tests" / "bench.toml").write_text("".join(told), encoding="utf-8")


async def edits(parts: Parts, workload: Workload, size: int, rounds: int) -> None:
    """Change one rule among all, again and again; somebody decides meanwhile, or nobody."""
    took: list[float] = []
    asking = {"a thread": Asking(), "the loop": Asking()}
    calm = Asking()
    with deciding(parts, workload, calm):
        await asyncio.sleep(1)
    file = parts.policies / "rules" / "50-bench.csv"
    for number in range(rounds):
        one, other = [b"because of r1\n", b"because of another\n"][:: 1 if number % 2 == 0 else -1]
        file.write_bytes(file.read_bytes().replace(one, other))
        took.append(await reloaded(parts))
        file.write_bytes(file.read_bytes().replace(other, one))
        with deciding(parts, workload, asking["a thread"]):
            await reloaded(parts)
        file.write_bytes(file.read_bytes().replace(one, other))
        async with deciding_on_the_loop(parts, workload, asking["the loop"]):
            await reloaded(parts)
    tell(size, f"an edit of a file, {CASES} cases, in force", took)
    calm.tell(size, "lateness of a thread, no edit")
    for where, each in asking.items():
        each.tell(size, f"lateness of {where} during an edit")


async def reloaded(parts: Parts) -> float:
    """Take the way of an edit that the watch has noticed, and give how long it took."""
    start = time.perf_counter()
    done = await reload_policy(parts, by=None, why="files were edited")
    took = time.perf_counter() - start
    if not done.activated:
        sys.exit("\n".join(map(str, done.problems[:5])) or "somebody else noticed the edit first")
    await asyncio.sleep(0.6)  # until the watch, too, has looked
    return took


async def grants(parts: Parts, workload: Workload, size: int, rounds: int) -> None:
    """Grant a plugin a little more and take it back, the way of an approval and of a revocation."""
    await asyncio.sleep(2 * STEP_S)  # files that were edited a moment ago are read again: see KeptFiles
    await reload_policy(parts, by=None, why="a look at files that rest")
    await register(parts, OWNER, MANIFEST)
    await approve(parts, OWNER, "bench", "bench")
    given: list[float] = []
    answered: list[float] = []
    worked: list[float] = []
    denied: list[float] = []
    gone: list[float] = []
    asking = Asking()
    permission = parse_permission("vault_read")
    for number in range(2 * rounds):
        wanted = RequestedPermission(permission=permission, scope=f"bench/{number}", condition="-")
        asked = await request_permissions(
            parts, OWNER, Wanted(plugin_id="bench", permissions=(wanted,), reason="bench")
        )
        async with deciding_on_the_loop(parts, workload, asking) if number % 2 else nullcontext():
            start, begun = time.perf_counter(), time.process_time()
            with first_swap(parts) as swapped:
                await approve_request(parts, OWNER, asked.id, Answer(reason="bench"))
            if number % 2 == 0:
                answered.append(time.perf_counter() - start)
                given.append(swapped[0] - start)
                worked.append(time.process_time() - begun)
        await asyncio.sleep(0.3)
    for number in range(2 * rounds):
        async with deciding_on_the_loop(parts, workload, asking) if number % 2 else nullcontext():
            start = time.perf_counter()
            taking = asyncio.create_task(
                revoke_permissions(parts, OWNER, "bench", permission, f"bench/{number}", "bench")
            )
            while not parts.registry.holds.held_grants("bench"):  # noqa: ASYNC110 (nobody tells of it)
                await asyncio.sleep(0)
            denied.append(time.perf_counter() - start)
            await taking
            if number % 2 == 0:
                gone.append(time.perf_counter() - start)
        await asyncio.sleep(0.3)
    tell(size, "a grant, from the approval until in force", given)
    tell(size, "a grant, until answered", answered)
    tell(size, "a grant, processor time", worked)
    tell(size, "a revocation, until it denies", denied)
    tell(size, "a revocation, until its line is gone", gone)
    asking.tell(size, "lateness of the loop during these")


@contextmanager
def first_swap(parts: Parts) -> Iterator[list[float]]:
    """Note when sets come into force until the block ends."""
    swap = parts.policy.swap
    at: list[float] = []

    def noting(policy_set: PolicySet) -> None:
        swap(policy_set)
        at.append(time.perf_counter())

    parts.policy.swap = noting  # type: ignore[method-assign] # only to look
    try:
        yield at
    finally:
        parts.policy.swap = swap  # type: ignore[method-assign] # as it was


@contextmanager
def deciding(parts: Parts, workload: Workload, asking: Asking) -> Iterator[None]:
    """Let a thread ask once a millisecond until the block ends."""
    done = threading.Event()

    def work() -> None:
        due = time.perf_counter()
        for asked in cycle(workload.asked):
            due += PERIOD_S
            if (early := due - time.perf_counter()) > 0:
                time.sleep(early)
            decide(parts, asked)
            asking.late.append(time.perf_counter() - due)
            if done.is_set():
                return

    thread = threading.Thread(target=work)
    with asking.counted():
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


@asynccontextmanager
async def deciding_on_the_loop(parts: Parts, workload: Workload, asking: Asking) -> AsyncIterator[None]:
    """Let the loop itself ask once a millisecond until the block ends."""

    async def work() -> None:
        due = time.perf_counter()
        for asked in cycle(workload.asked):
            due += PERIOD_S
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            decide(parts, asked)
            asking.late.append(time.perf_counter() - due)

    task = asyncio.create_task(work())
    with asking.counted():
        try:
            yield
        finally:
            task.cancel()


def tell(size: int, what: str, took: Sequence[float], *, rate: float | None = None) -> None:
    """Print a row."""
    ordered = sorted(took)
    p99 = ordered[len(ordered) * 99 // 100] if len(ordered) >= 100 else ordered[-1]
    print(
        f"{size:>7}  {what:<44} {statistics.median(ordered) * 1000:>10.2f} {p99 * 1000:>9.2f}"
        f" {ordered[-1] * 1000:>9.2f} {len(ordered):>8,}" + ("" if rate is None else f" {rate:>9,.0f}"),
        flush=True,
    )


if __name__ == "__main__":
    main()
