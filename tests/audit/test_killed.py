"""Rotations are killed before each of their durable steps: they are not begun or finished, and nothing is lost."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.audit.log import DecisionLog
from gateway.audit.query import LogReader
from gateway.audit.verify import verify_file
from gateway.audit.wanted import Filter
from gateway.domain.record import Record
from tests.audit.test_rotation import export

Open = Callable[..., DecisionLog]
Make = Callable[..., Record]
EVERY = int(os.environ.get("HEARTHGATE_STEPS", "3"))  # 1: each step; `make soak` asks for it
LIVES = """
import asyncio, json, shutil, sys, uuid
from datetime import UTC, datetime
from pathlib import Path
from gateway.audit.log import DecisionLog
from gateway.domain.record import Record, Resolution
from tests.dying import Death, die_everywhere
from sqlite_utils import Database

base, deed, every = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])

def now():
    return datetime.now(UTC)

def record(event_type="started"):
    return Record(event_id=f"audit-{uuid.uuid4()}", at=now(), event_type=event_type, resolution=Resolution.COMPLETED)

async def rotate_the_log(log):
    return (await log.rotate()).last

async def rotate_the_key(log):
    await log.rotate_key(record("key_rotated"))
    return log.verifier

async def life(folder, death):
    log = DecisionLog.open(folder / "data", now=now, new_id=lambda: str(uuid.uuid4()))
    with (folder / "acknowledged").open("a", buffering=1) as told:
        death.near()
        async def say():
            for _ in range(3):
                made = record()
                (seq,) = await log.append(made)
                print(json.dumps([seq, made.event_id]), file=told)
        saying = asyncio.ensure_future(say())
        done = await globals()[deed](log)
        print(json.dumps(["done", done]), file=told)
        await saying
        await say()

def live(at, death):
    folder = base.with_name(f"{base.name}-{at}")
    shutil.copytree(base, folder)
    asyncio.run(life(folder, death))

for at, died in die_everywhere(live, every):
    print(json.dumps([at, died]), flush=True)
"""


def lives(base: Path, deed: str) -> list[tuple[Path, bool]]:
    """Have many processes do a deed, each on a copy of `base`; give the copies, and whether each was killed."""
    ran = subprocess.run(
        [sys.executable, "-c", LIVES, str(base), deed, f"{EVERY}"], check=True, stdout=subprocess.PIPE, text=True
    )
    found = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [died for _, died in found] == [True] * (len(found) - 1) + [False]
    return [(base.with_name(f"{base.name}-{at}"), died) for at, died in found]


@pytest.fixture
def base(tmp_path: Path, now: Callable[[], object], new_id: Callable[[], str], decided: Make) -> Path:
    """A log with a closed file before the live one."""

    async def write() -> None:
        log = DecisionLog.open(tmp_path / "base" / "data", now=now, new_id=new_id)  # type: ignore[arg-type] # a clock
        await log.append(decided(), decided(user="bob"))
        assert await log.rotate()
        await log.append(decided(), decided(user="bob"))
        await log.close()

    asyncio.run(write())
    return tmp_path / "base"


async def checked(folder: Path, record: Make, now: Callable[[], object], new_id: Callable[[], str]) -> DecisionLog:
    """Go on with a log that was killed; give it, closed, when nothing acknowledged is missing and it verifies."""
    data = folder / "data"
    lines = (folder / "acknowledged").read_text().splitlines() if (folder / "acknowledged").exists() else []
    told = [json.loads(line) for line in lines]
    log = DecisionLog.open(data, now=now, new_id=new_id)  # type: ignore[arg-type] # a clock
    try:
        for seq, event_id in told:
            if seq != "done":
                row = LogReader(data).get(event_id)
                assert row is not None
                assert row["seq"] == seq
        await log.append(record())
        await export(log, data, record, folder / "all.jsonl")
        result = verify_file(folder / "all.jsonl", key=log.verifier)
        assert (result.ok, result.complete, result.signer_checked) == (True, True, True), result.findings
    finally:
        await log.close()
    return log


def done(folder: Path) -> object:
    """Give what the deed gave, None if it did not return."""
    path = folder / "acknowledged"
    told = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return next((what for name, what in told if name == "done"), None)


def test_a_rotation_of_the_log_killed_before_any_step_is_not_begun_or_finished(
    base: Path, record: Make, now: Callable[[], object], new_id: Callable[[], str]
) -> None:
    closed = set()
    for folder, _ in lives(base, "rotate_the_log"):
        log = asyncio.run(checked(folder, record, now, new_id))
        files = sorted(each.name for each in (folder / "data" / "segments").iterdir())
        assert files == [each.file for each in log.segments]
        assert len(files) in {1, 2}
        assert done(folder) is None or log.segments[-1].last == done(folder)
        assert not (folder / "data" / "audit.next.db").exists()
        closed.add(len(files))
        shutil.rmtree(folder)
    assert closed == {1, 2}


def test_a_rotation_of_the_key_killed_before_any_step_is_not_begun_or_finished(
    base: Path, record: Make, now: Callable[[], object], new_id: Callable[[], str]
) -> None:
    keys = base / "data" / "keys"
    old = (keys / "log.pub").read_text().strip()
    found = set()
    for folder, _ in lives(base, "rotate_the_key"):
        log = asyncio.run(checked(folder, record, now, new_id))
        rotated = [row["details"] for row in LogReader(folder / "data").find(Filter(event_type="key_rotated")).rows]
        assert (log.verifier != old) == bool(rotated)
        assert done(folder) in {None, log.verifier}
        assert [each["new_key"] for each in rotated] == [log.verifier][: len(rotated)]
        assert verify_file(folder / "all.jsonl", key=old).ok
        keys = folder / "data" / "keys"
        assert (keys / "log.pub").read_text().strip() == log.verifier
        assert {each.read_text().strip() for each in keys.glob("log-*.pub")} == ({old} if rotated else set())
        assert not (keys / "log.next.key").exists()
        found.add(bool(rotated))
        shutil.rmtree(folder)
    assert found == {False, True}
