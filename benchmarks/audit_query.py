"""How long a search takes over a large log, how fast its index is made, and what following costs who decides.

python -m benchmarks.audit_query [--rows 5000000] [--folder DIR]
"""

import argparse
import asyncio
import random
import tempfile
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median, quantiles

from gateway.audit.index.follower import Follower
from gateway.audit.index.schema import FILE as INDEX
from gateway.audit.index.schema import remove_index
from gateway.audit.key_files import read_or_make_key
from gateway.audit.leaf import prepare
from gateway.audit.log import DecisionLog
from gateway.audit.place import FILE
from gateway.audit.query import LogReader
from gateway.audit.store import Store
from gateway.audit.wanted import Filter
from gateway.domain.decision import Decision, Effect, NearMiss, Reason, RuleRef, Verdict
from gateway.domain.names import Subject, UserId
from gateway.domain.record import Record, Resolution
from gateway.domain.request import AccessRequest
from gateway.domain.risk import Risk, RiskPart, Tier

START = datetime(2026, 1, 1, tzinfo=UTC)
STEP = timedelta(milliseconds=200)
BATCH, ALIKE = 1024, 8  # records of a batch, and how many of them differ in nothing but their number
USERS, PLUGINS, RULES = 400, 40, 200
REPEATS = 101
WORDS = ("diary", "letters", "photos", "recipes", "invoices", "travel", "health", "music")
RATE, SECONDS = 300, 6.0


def record(chance: random.Random, at: datetime) -> Record:
    """Make a record as the gateway does: nine in ten are decisions."""
    user, plugin = f"user{int(chance.paretovariate(0.6)) % USERS}", f"plugin{chance.randrange(PLUGINS)}"
    event_id = str(uuid.UUID(int=chance.getrandbits(128)))
    if chance.random() < 0.1:
        kind = chance.choice(("execution_started", "execution_completed", "consent_given", "permission_approved"))
        return Record(
            event_id=f"audit-{event_id}", at=at, event_type=kind, resolution=Resolution.COMPLETED, plugin_id=plugin,
            user_id=user, details={"reason": f"for the {chance.choice(WORDS)} of {plugin}", "function": "execute"},
        )  # fmt: skip
    rule = RuleRef(id=f"rule-{chance.randrange(RULES)}", file="rules/20-vault.csv", line=14, why="plugins read notes")
    effect = Effect.ALLOW if chance.random() < 0.7 else Effect.DENY
    allowed = effect is Effect.ALLOW
    score = min(100, int(chance.expovariate(1 / 15)))
    scope = f"user_data/{chance.choice(WORDS)}/{chance.randrange(100)}"
    decision = Decision(
        decision_id=event_id,
        at=at,
        request=AccessRequest(
            subject=Subject(f"plugin:{plugin}"), user=UserId(user), kind="vault", level="read", scope=scope
        ),
        verdict=Verdict(
            effect=effect,
            reason=Reason.RULE if allowed else Reason.CONSENT_REQUIRED,
            rule=rule if allowed else None,
            near_misses=() if allowed else (NearMiss(rule=rule, unmet=("consent",)),),
        ),
        risk=Risk(score=score, tier=Tier.LOW, parts=(RiskPart(name="vault.read", points=score),)),
        policy_version="sha256:" + "0" * 64,
        generation=7,
    )
    return Record(
        event_id=f"audit-{event_id}", at=at, event_type="access_granted" if allowed else "access_denied",
        resolution=Resolution.ALLOWED if allowed else Resolution.DENIED, plugin_id=plugin, user_id=user,
        risk_score=score, decision=decision, replay={"at": "2026-01-01T00:00:00Z", "risk": score},
    )  # fmt: skip


def fill(folder: Path, rows: int) -> None:
    """Write a log of so many records, through the log's own store."""
    folder.mkdir(parents=True, exist_ok=True)
    store, chance = Store(folder, read_or_make_key(folder / "keys")), random.Random(7)
    began = time.monotonic()
    while store.head.size < rows:
        made = [record(chance, START + STEP * (store.head.size + number)) for number in range(0, BATCH, ALIKE)]
        batch = [item for each in made for item in [prepare(each, store.persons)] * ALIKE]
        store.write(batch, sign_end=False, ts_us=0)
        store.commit()
    store.close()
    print(f"{rows:,} records written in {time.monotonic() - began:.0f} s")


def index(folder: Path) -> None:
    """Make the index from the log, and tell how fast."""
    remove_index(folder)
    made, began, spent = Follower(folder), time.monotonic(), time.process_time()
    rows = LogReader(folder).extent()[1]
    made.start()
    while made.state.indexed < rows:
        time.sleep(0.2)
        if made.state.why:
            print(made.state.why)
    wall, cpu = time.monotonic() - began, time.process_time() - spent
    made.stop()
    sizes = [(folder / name).stat().st_size / 1e6 for name in (FILE, INDEX)]
    print(f"indexed in {wall:.0f} s ({rows / wall:,.0f} rows/s, {cpu / rows * 1e6:.1f} µs of processor time a row)")
    print(f"audit.db {sizes[0]:,.0f} MB, {INDEX} {sizes[1]:,.0f} MB ({sizes[1] * 1e6 / rows:.0f} bytes a row)")


def filters(rows: int) -> Iterator[tuple[str, Filter]]:
    """Give what is asked, with its name."""
    middle = START + STEP * (rows // 2)
    day = timedelta(days=1)
    yield "plugin", Filter(plugin="plugin7")
    yield "a rare user", Filter(user="user399")
    yield "a frequent user", Filter(user="user1")
    yield "event type", Filter(event_type="consent_given")
    yield "category", Filter(category="permission")
    yield "effect", Filter(effect="deny")
    yield "rule", Filter(rule="rule-17")
    yield "risk from 90", Filter(min_risk=90)
    yield "a day", Filter(since=middle, until=middle + day)
    yield "a day, a plugin", Filter(since=middle, until=middle + day, plugin="plugin7")
    yield "plugin, user, deny, risk from 50", Filter(plugin="plugin7", user="user3", effect="deny", min_risk=50)
    yield "user and rule that never meet", Filter(user="nobody", rule="rule-17")
    yield "all that can be", Filter(plugin="plugin1", user="user398", rule="rule-3", effect="allow", min_risk=80)
    yield "a word", Filter(q="diary")
    yield "two words", Filter(q="diary plugin7")
    yield "a phrase", Filter(q='"for the photos of plugin3"')
    yield "a beginning", Filter(q="invoi*")
    yield "a word and a plugin", Filter(q="travel", plugin="plugin9")
    yield "a word and a rare user", Filter(q="travel", user="user399")
    yield "a word that is nowhere", Filter(q="zebra")


def ask(folder: Path, rows: int) -> None:
    """Ask each filter again and again, a hundred records a page, at several places of the log."""
    reader, chance = LogReader(folder), random.Random(3)
    print(f"\n{'asked':34}{'found':>7}{'p50 ms':>9}{'p99 ms':>9}{'processor p50':>15}{'p99 ms':>9}")
    for name, wanted in filters(rows):
        took: list[float] = []
        spent: list[float] = []
        found = 0
        for number in range(REPEATS):
            cursor = None if number % 2 == 0 else f"s{chance.randrange(rows // 10, rows)}"
            began, worked = time.perf_counter(), time.thread_time()
            page = reader.find(wanted, limit=100, cursor=cursor)
            took.append((time.perf_counter() - began) * 1e3)
            spent.append((time.thread_time() - worked) * 1e3)
            found = max(found, len(page.rows))
        wall, busy = (f"{median(each):9.1f}{_p99(each):9.1f}" for each in (took, spent))
        print(f"{name:34}{found:7}{wall}      {busy}", flush=True)


def _p99(values: list[float]) -> float:
    return quantiles(values, n=100, method="inclusive")[98]


def disturb() -> None:
    """Append at a steady rate with the follower and without, in turns; tell how late the answers came."""
    taken: dict[bool, list[list[float]]] = {False: [], True: []}
    for number in range(6):
        follows = number % 2 == 1
        with tempfile.TemporaryDirectory(dir=".") as folder:
            taken[follows].append(asyncio.run(_paced(Path(folder), follows=follows)))
    print(f"\n{RATE} records/s appended singly: ms until each is durable, median of three turns")
    for follows, name in ((False, "nobody follows"), (True, "the index follows")):
        p50 = median(median(each) for each in taken[follows])
        p99 = median(_p99(each) for each in taken[follows])
        print(f"{name:34}p50 {p50:6.2f}  p99 {p99:6.2f}")


async def _paced(folder: Path, *, follows: bool) -> list[float]:
    chance, loop = random.Random(1), asyncio.get_running_loop()
    log = DecisionLog.open(folder, now=lambda: datetime.now(UTC), new_id=lambda: str(uuid.uuid4()))
    made = Follower(folder)
    if follows:
        made.start()
    took: list[float] = []
    lags: list[int] = []

    async def one(item: Record, due: float) -> None:
        await log.append(item)
        took.append((loop.time() - due) * 1e3)

    tasks = []
    begin = loop.time() + 0.2
    for number in range(int(RATE * SECONDS)):
        due = begin + number / RATE
        if due > loop.time():
            await asyncio.sleep(due - loop.time())
        tasks.append(loop.create_task(one(record(chance, datetime.now(UTC)), max(due, loop.time() - 0.001))))
        if follows and number % (RATE // 2) == 0:
            lags.append(log.size - made._store.size if made._store is not None else 0)  # noqa: SLF001 (how far it is)
    await asyncio.gather(*tasks)
    if follows:
        print(f"  the index was at most {max(lags) / RATE:.2f} s behind")
    await asyncio.to_thread(made.stop) if follows else None
    await log.close()
    return took


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    disturb()
    with tempfile.TemporaryDirectory(dir=".") as temporary:
        folder = given.folder or Path(temporary)
        if not (folder / FILE).exists():
            fill(folder, given.rows)
        if not (folder / INDEX).exists():
            index(folder)
        ask(folder, LogReader(folder).extent()[1])


if __name__ == "__main__":
    main()
