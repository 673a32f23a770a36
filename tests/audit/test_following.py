"""The index is filled by a process of its own, which the gateway keeps alive and takes with it."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from gateway.audit.index import following
from gateway.audit.index.follower import Follower
from gateway.audit.index.following import Following
from gateway.audit.index.schema import FILE, LOCK
from gateway.audit.lock_file import LockFile
from gateway.audit.log import DecisionLog
from gateway.domain.record import Record

Open = Callable[[], DecisionLog]
Make = Callable[..., Record]
WAIT_S = 30.0


def write(open_log: Open, *records: Record) -> None:
    async def story() -> None:
        log = open_log()
        await log.append(*records)
        await log.close()

    asyncio.run(story())


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


@pytest.fixture
def follows(folder: Path, open_log: Open, decided: Make, monkeypatch: pytest.MonkeyPatch) -> Iterator[Following]:
    """Follow a log of forty records until all are indexed."""
    monkeypatch.setattr(following, "FIRST_S", 0.0)
    write(open_log, *(decided(user="rosalind" if number % 2 else "alice") for number in range(40)))
    made = Following(folder)
    made.start()
    try:
        until(lambda: made.state.indexed == 40)
        yield made
    finally:
        made.stop()


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.glob(f"{FILE}*"))


def test_it_is_another_process_with_less_of_a_claim_and_it_ends_when_told(follows: Following) -> None:
    assert follows.pid is not None
    process = psutil.Process(follows.pid)
    assert process.pid != os.getpid()
    assert process.nice() > psutil.Process().nice() or process.nice() == 19
    follows.stop()
    assert not process.is_running()
    assert follows.pid is None


def test_a_process_that_is_killed_is_started_again_and_goes_on(
    follows: Following, open_log: Open, decided: Make
) -> None:
    first = follows.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    until(lambda: follows.state.why is not None)
    write(open_log, decided(user="bob"))
    until(lambda: follows.state.indexed == 41)
    assert follows.pid != first
    until(lambda: follows.state.why is None)


def test_a_gateway_that_is_killed_takes_it_along(folder: Path, open_log: Open, decided: Make) -> None:
    write(open_log, decided())
    script = (
        "import sys, time, pathlib\n"
        "from gateway.audit.index import following\n"
        "following.FIRST_S = 0.0\n"
        "made = following.Following(pathlib.Path(sys.argv[1]))\n"
        "made.start()\n"
        "while made.pid is None or made.state.indexed < 1: time.sleep(0.01)\n"
        "print(made.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    gateway = subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert gateway.stdout is not None
        follower = psutil.Process(int(gateway.stdout.readline()))
    finally:
        gateway.kill()
        gateway.communicate()
    until(lambda: not follower.is_running() or follower.status() == psutil.STATUS_ZOMBIE)


def test_it_ends_without_a_word_where_nobody_hears_it_any_more(folder: Path, open_log: Open, decided: Make) -> None:
    write(open_log, decided())
    heard, said = os.pipe()
    os.close(heard)
    command = [sys.executable, "-P", "-m", "gateway.audit.index", str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=said, stderr=subprocess.PIPE) as process:
        os.close(said)
        until(lambda: process.poll() is not None or Following(folder).state.indexed == 1)
        _, errors = process.communicate(timeout=WAIT_S)
    assert (process.returncode, errors) == (0, b"")


def test_whoever_is_erased_is_gone_from_the_index_when_the_erasure_returns_and_it_goes_on(
    folder: Path, follows: Following, open_log: Open, decided: Make
) -> None:
    assert b"rosalind" in bytes_of(folder)
    with closing(sqlite3.connect(folder / "audit.db")) as connection:
        connection.execute("DELETE FROM pii WHERE seq % 2 = 0")
        connection.commit()
    follows.forget("rosalind", ())
    assert b"rosalind" not in bytes_of(folder)
    write(open_log, decided(user="bob"))
    until(lambda: follows.state.indexed == 41)
    assert b"rosalind" not in bytes_of(folder)


def test_an_index_that_is_made_anew_is_deleted_when_that_returns(folder: Path, follows: Following) -> None:
    before = (folder / FILE).stat().st_ino
    kept = os.open(folder / FILE, os.O_RDONLY)  # so that its number is not given to the next
    try:
        follows.rebuild()
        assert not (folder / FILE).exists() or (folder / FILE).stat().st_ino != before
        until(lambda: follows.state.indexed == 40)
    finally:
        os.close(kept)


def test_who_does_not_hold_the_lock_writes_nothing(folder: Path, open_log: Open, decided: Make) -> None:
    write(open_log, decided())
    lock = LockFile(folder / LOCK)
    told = threading.Event()
    second = Follower(folder, lambda why: told.set() if why else None)
    second.start()
    try:
        assert told.wait(WAIT_S)
        assert not (folder / FILE).exists()
        lock.release()
        until(lambda: second.state.indexed == 1)
    finally:
        second.stop()


def test_a_home_that_is_closed_at_once_starts_no_process(folder: Path) -> None:
    made = Following(folder)
    made.start()
    made.stop()
    assert made.pid is None
