"""The decision log as a file: written by the real log, exported, verified: `make bench-log-files`."""

import argparse
import asyncio
import gc
import itertools
import os
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.audit.export import ExportRequest, begin_export
from gateway.audit.index.follower import Follower
from gateway.audit.index.schema import remove_index
from gateway.audit.log import DecisionLog
from gateway.audit.verify import verify_file
from gateway.audit.wanted import Filter
from gateway.domain.decision import Decision, Effect, NearMiss, Reason, RuleRef, Verdict, timestamp
from gateway.domain.names import Subject, UserId
from gateway.domain.record import Record, Resolution
from gateway.domain.request import AccessRequest, Json
from gateway.domain.risk import Risk, RiskPart, Tier

START = datetime(2026, 11, 22, 10, tzinfo=UTC)
BATCH = 1000
RULES = [
    RuleRef(id=f"rule-{number}", file=f"rules/{number % 9}0-vault.csv", line=number, why="because somebody said so")
    for number in range(1000)
]
USERS = [f"user{number}" for number in range(500)]
POLICY = "sha256:" + "0" * 64


def make_record(number: int) -> Record:
    """Make a decision as the gateway records one; a tenth are denials with a near miss."""
    at = START + timedelta(milliseconds=number)
    decision_id = str(uuid.UUID(int=(number << 64) | 0x7000_8000_0000_0000_0000))
    user, rule, allowed = USERS[number % len(USERS)], RULES[number % len(RULES)], number % 10 != 0
    effect = Effect.ALLOW if allowed else Effect.DENY
    miss = NearMiss(rule=rule, unmet=("consent",), reasons=("no consent of the user covers this",))
    verdict = Verdict(
        effect=effect,
        reason=Reason.RULE if allowed else Reason.CONSENT_REQUIRED,
        rule=rule if allowed else None,
        near_misses=() if allowed else (miss,),
        spoke=((rule, effect),) if allowed else (),
    )
    request = AccessRequest(
        subject=Subject(f"plugin:plugin-{number % 40}"),
        user=UserId(user),
        kind="vault",
        level="read",
        scope=f"user_data/{user}/notes-{number % 7}",
    )
    decision = Decision(
        decision_id=decision_id,
        at=at,
        request=request,
        verdict=verdict,
        risk=Risk(score=20, tier=Tier.LOW, parts=(RiskPart(name="vault.read", points=20),)),
        policy_version=POLICY,
        generation=7,
    )
    facts: dict[str, Json] = {
        "at": timestamp(at),
        "risk": 20,
        "consent_id": None,
        "approval_id": None,
        "memberships": ["role:member"],
        "session": False,
        "args_sha256": None,
    }
    return Record(
        event_id=f"audit-{decision_id}",
        at=at,
        event_type="access_granted" if allowed else "access_denied",
        resolution=Resolution.ALLOWED if allowed else Resolution.DENIED,
        plugin_id=f"plugin-{number % 40}",
        user_id=user,
        risk_score=20,
        details={"permission": "vault_read"},
        decision=decision,
        replay=facts,
    )


def open_log(folder: Path) -> DecisionLog:
    """Open the log with ids of its own."""
    return DecisionLog.open(folder, now=lambda: START, new_id=lambda: str(uuid.uuid4()))


def write(folder: Path, rows: int) -> None:
    """Write the log through its only door."""

    async def story() -> None:
        log = open_log(folder)
        for first in range(0, rows, BATCH):
            await log.append(*map(make_record, range(first, min(first + BATCH, rows))))
        await log.close()

    asyncio.run(story())


def export(folder: Path, path: Path, wanted: Filter) -> None:
    """Export into a file, as `audit export` does."""

    async def story() -> None:
        log = open_log(folder)
        request = ExportRequest(event_id=f"audit-{uuid.uuid4()}", at=START, user_id="bench", wanted=wanted)
        begun = await begin_export(log, folder, request)
        with path.open("wb") as file:
            for chunk in begun.chunks():
                file.write(chunk)
        await log.close()

    asyncio.run(story())


def index(folder: Path) -> None:
    """Fill the search index, as the process beside a serving gateway does."""
    following = Follower(folder)
    following.start()
    while following.state.indexed < following.state.records:
        time.sleep(0.1)
    following.stop()


def verify(path: Path, key: str, jobs: int) -> None:
    """Verify a file; a finding is a failure of this benchmark."""
    result = verify_file(path, key=key, jobs=jobs)
    if not result.ok:
        sys.exit(f"{path}: {result.findings[0]}")


def main() -> None:
    """Write, export, verify, each in a process of its own, and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=200_000)
    options.add_argument("--folder", type=Path, help="keep the log here, and take one that is there")
    options.add_argument("--step", nargs="*", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.step:
        run_step(chosen.folder, *chosen.step)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = chosen.folder or Path(scratch)
        print(f"{'what':<32} {'rows':>10} {'seconds':>9} {'CPU s':>8} {'rows/s':>10} {'rows/CPU s':>11} {'RSS MB':>7}")
        if not (folder / "data" / "audit.db").exists():
            step(folder, "write", chosen.rows)
        step(folder, "export", chosen.rows)
        step(folder, "verify", chosen.rows, 1)
        step(folder, "verify", chosen.rows, os.cpu_count() or 1)
        remove_index(folder / "data")
        step(folder, "filtered", chosen.rows // 40)
        step(folder, "filtered-user", chosen.rows // len(USERS))
        step(folder, "index", chosen.rows)
        step(folder, "filtered", chosen.rows // 40)
        step(folder, "filtered-user", chosen.rows // len(USERS))
        step(folder, "verify-filtered", chosen.rows // len(USERS), 1)


def step(folder: Path, name: str, rows: int, *more: int) -> None:
    """Do one step in a fresh process, so that its memory is its own."""
    command = [sys.executable, "-m", "benchmarks.log_files", "--folder", str(folder), "--step", name, str(rows)]
    subprocess.run([*command, *map(str, more)], check=True)


def run_step(folder: Path, name: str, rows: str, jobs: str = "1") -> None:
    """Do a step and print what it took."""
    data, whole, part = folder / "data", folder / "whole.jsonl", folder / "part.jsonl"
    key = (data / "keys" / "log.pub").read_text() if name != "write" else ""
    work: dict[str, Callable[[], None]] = {
        "write": lambda: write(data, int(rows)),
        "export": lambda: export(data, whole, Filter()),
        "verify": lambda: verify(whole, key, int(jobs)),
        "filtered": lambda: export(data, part, Filter(plugin="plugin-7")),
        "filtered-user": lambda: export(data, part, Filter(user="user7")),
        "index": lambda: index(data),
        "verify-filtered": lambda: verify(part, key, int(jobs)),
    }
    gc.collect()
    began, cpu = time.perf_counter(), cpu_s()
    work[name]()
    took, used = time.perf_counter() - began, cpu_s() - cpu
    kib = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    label = f"{name}, {jobs} processes" if jobs != "1" else name
    count = int(rows)
    print(
        f"{label:<32} {count:>10,} {took:>9.2f} {used:>8.2f} {count / took:>10,.0f} {count / used:>11,.0f}"
        f" {kib / 1024:>7,.0f}",
        flush=True,
    )


def cpu_s() -> float:
    """Give the CPU time of this process and of those that it waited for."""
    return sum(
        itertools.chain.from_iterable(
            (used.ru_utime, used.ru_stime)
            for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        )
    )


if __name__ == "__main__":
    main()
