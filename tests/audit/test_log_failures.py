"""Whatever happens to the files, nothing is acknowledged that is not kept, and the gap is told."""

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.audit.log import DecisionLog
from gateway.audit.query import LogReader
from gateway.audit.wanted import Filter
from gateway.domain.record import Record
from gateway.errors import LogUnavailableError, VerificationError

Open = Callable[[], DecisionLog]
Make = Callable[..., Record]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MB; without the right to mount one, a limit on file sizes does it (see the test below)."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], check=False, capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk ({mounted.stderr.strip()}); the file size limit is tried instead")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


async def until_refused(log: DecisionLog, record: Make) -> LogUnavailableError:
    for _ in range(2000):
        try:
            await log.append(record(personal={"text": "x" * 20_000}))
        except LogUnavailableError as error:
            return error
    raise AssertionError("never refused")


async def until_taken(log: DecisionLog, record: Make) -> int:
    async with asyncio.timeout(30):
        while True:
            try:
                return (await log.append(record()))[0]
            except LogUnavailableError:
                await asyncio.sleep(0.02)


def test_a_full_disk_refuses_and_an_empty_one_goes_on(small_disk: Path, now: Any, new_id: Any, record: Make) -> None:  # noqa: ANN401 # plain callables
    async def story() -> tuple[str, int, DecisionLog]:
        log = DecisionLog.open(small_disk / "data", now=now, new_id=new_id)
        await log.append(record())
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - 400_000))
        error = await until_refused(log, record)
        size, why = log.size, str(log.why)
        assert not log.healthy
        assert error.retry_after_s == 1
        with pytest.raises(LogUnavailableError):
            await log.append(record(personal={"text": "x" * 20_000}))
        ballast.unlink()
        seq = await until_taken(log, record)
        assert log.healthy
        assert seq > size + 1
        await log.close()
        return why, size, log

    why, size, log = asyncio.run(story())
    assert "full" in why or "I/O" in why
    gaps = LogReader(small_disk / "data").find(Filter(event_type="recovered")).rows
    assert gaps[-1]["seq"] == size + 1
    assert all(gap["details"]["from"] < gap["details"]["to"] and gap["details"]["why"] for gap in gaps)
    assert sum(gap["details"]["refused"] for gap in gaps) == log.counts.refused >= 2


LIMITED = """
import asyncio, resource, signal, sys, uuid
from datetime import UTC, datetime
from pathlib import Path
from gateway.audit.log import DecisionLog
from gateway.domain.record import Record, Resolution
from gateway.errors import LogUnavailableError

def now():
    return datetime.now(UTC)

def record():
    return Record(event_id=f"audit-{uuid.uuid4()}", at=now(), event_type="started", resolution=Resolution.COMPLETED,
                  personal={"text": "x" * 20_000})

async def main():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    log = DecisionLog.open(Path(sys.argv[1]), now=now, new_id=lambda: str(uuid.uuid4()))
    await log.append(record())
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    taken = 1
    try:
        while taken < 1000:
            await log.append(record())
            taken += 1
    except LogUnavailableError as error:
        print("refused", taken == log.size, log.healthy, error.status)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    async with asyncio.timeout(30):
        while True:
            try:
                print("taken", (await log.append(record()))[0] - taken)
                break
            except LogUnavailableError:
                await asyncio.sleep(0.02)
    await log.close()

asyncio.run(main())
"""


def test_a_file_that_may_not_grow_refuses_and_goes_on_when_it_may(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(folder)], check=False, capture_output=True, text=True, timeout=90
    )
    assert done.stdout == "refused True False 503\ntaken 2\n", done.stderr
    lost, found = done.stderr.splitlines()  # told once each, however often it was tried meanwhile
    assert lost.startswith("the decision log cannot be written, so nothing runs until that is mended: ")
    assert found == "the decision log is written again; 1 records were refused meanwhile"


def unlink(folder: Path, aside: Path) -> None:
    (folder / "audit.db").rename(aside)


def replace(folder: Path, aside: Path) -> None:
    (folder / "audit.db").rename(aside)
    shutil.copy(aside, folder / "audit.db")


@pytest.mark.parametrize("spoil", [unlink, replace])
def test_a_database_that_is_not_the_one_opened_is_never_continued(
    spoil: Callable[[Path, Path], None], folder: Path, tmp_path: Path, open_log: Open, record: Make
) -> None:
    async def story() -> None:
        log = open_log()
        await log.append(record())
        spoil(folder, tmp_path / "aside.db")
        for _ in range(3):
            with pytest.raises(LogUnavailableError, match=r"audit\.db.*put the file back"):
                await log.append(record())
        assert not log.healthy
        (tmp_path / "aside.db").replace(folder / "audit.db")
        assert await until_taken(log, record) == 3
        await log.close()

    asyncio.run(story())
    (gap,) = LogReader(folder).find(Filter(event_type="recovered")).rows
    assert gap["details"]["refused"] >= 3


def test_what_goes_into_a_file_just_moved_away_is_not_acknowledged_and_its_trace_is_told(
    folder: Path, tmp_path: Path, open_log: Open, record: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = record()

    async def story() -> None:
        log = open_log()
        await log.append(record())
        write = log._store.write

        def write_and_move(*batch: Any, **how: Any) -> list[tuple[int, str]]:  # noqa: ANN401 # passed on
            notes = write(*batch, **how)
            (folder / "audit.db").rename(tmp_path / "aside.db")
            return notes

        with monkeypatch.context() as patch:
            patch.setattr(log._store, "write", write_and_move)
            with pytest.raises(LogUnavailableError, match=r"audit\.db"):
                await log.append(made)
        (tmp_path / "aside.db").rename(folder / "audit.db")
        assert await until_taken(log, record) == 4
        await log.close()

    asyncio.run(story())
    (gap,) = LogReader(folder).find(Filter(event_type="recovered")).rows
    assert (gap["seq"], gap["details"]["kept_unacknowledged"]) == (3, 1)
    assert LogReader(folder).get(made.event_id)


def test_a_file_that_comes_back_with_less_in_it_is_not_continued(
    folder: Path, tmp_path: Path, open_log: Open, record: Make
) -> None:
    fill(open_log, record, 5)

    async def story() -> None:
        log = open_log()
        (folder / "audit.db").rename(tmp_path / "audit.db")
        with pytest.raises(LogUnavailableError):
            await log.append(record())
        cut(tmp_path)
        (tmp_path / "audit.db").rename(folder / "audit.db")
        async with asyncio.timeout(20):
            while "no longer holds" not in str(log.why):
                with pytest.raises(LogUnavailableError):
                    await log.append(record())
                await asyncio.sleep(0.02)
        with pytest.raises(LogUnavailableError):
            await log.append(record())
        await log.close()

    asyncio.run(story())
    with pytest.raises(VerificationError):
        fill(open_log, record, 1)


def test_a_database_cut_short_under_the_log_is_not_continued(folder: Path, open_log: Open, record: Make) -> None:
    fill(open_log, record, 5)

    async def story() -> None:
        log = open_log()
        os.truncate(folder / "audit.db", 8192)
        with pytest.raises(LogUnavailableError, match="cut short"):
            await log.append(record())
        assert not log.healthy
        await log.close()

    asyncio.run(story())


def test_an_idle_log_notices_that_its_file_is_gone(
    folder: Path, open_log: Open, record: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.audit.upkeep.BEAT_S", 0.02)

    async def story() -> None:
        log = open_log()
        await log.append(record())
        (folder / "audit.db").unlink()
        async with asyncio.timeout(20):
            while log.healthy:  # noqa: ASYNC110 # nothing tells when it changes
                await asyncio.sleep(0.01)
        await log.close()

    asyncio.run(story())


def test_what_a_deleted_write_ahead_log_held_is_not_lost(folder: Path, open_log: Open, record: Make) -> None:
    made = [record() for _ in range(5)]

    async def story() -> None:
        log = open_log()
        await log.append(*made)
        (folder / "audit.db-wal").unlink()
        with pytest.raises(LogUnavailableError, match="wal"):
            await log.append(record())
        await until_taken(log, record)
        await log.close()

    asyncio.run(story())
    assert all(LogReader(folder).get(each.event_id) for each in made)


def test_a_foreign_writer_is_an_outage_and_not_a_wrong_tree(folder: Path, open_log: Open, record: Make) -> None:
    async def story() -> None:
        log = open_log()
        await log.append(record())
        foreign = sqlite3.connect(folder / "audit.db", isolation_level=None)
        foreign.execute("BEGIN IMMEDIATE")
        with pytest.raises(LogUnavailableError, match="locked"):
            await log.append(record())
        foreign.execute("ROLLBACK")
        foreign.close()
        assert await until_taken(log, record) == 3
        await log.close()

    asyncio.run(story())


def fill(open_log: Open, record: Make, count: int) -> None:
    async def story() -> None:
        log = open_log()
        await log.append(*(record() for _ in range(count)))
        await log.close()

    asyncio.run(story())


def cut(folder: Path) -> None:
    connection = sqlite3.connect(folder / "audit.db")
    connection.execute("DROP TRIGGER record_stays")
    connection.execute("DELETE FROM record WHERE seq > 3")
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def rehash(folder: Path) -> None:
    connection = sqlite3.connect(folder / "audit.db")
    connection.execute("DROP TRIGGER record_keeps")
    connection.execute("UPDATE record SET leaf = zeroblob(32) WHERE seq = 2")
    connection.commit()
    connection.close()


def hide_checkpoints(folder: Path) -> None:
    connection = sqlite3.connect(folder / "audit.db")
    connection.execute("DROP TRIGGER checkpoint_stays")
    connection.execute("DELETE FROM checkpoint")
    connection.commit()
    connection.close()
    cut(folder)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "audit.db").unlink(), "is gone"),
        (lambda folder: (folder / "audit.db").write_bytes(b""), "is gone"),
        (cut, "is not the log"),
        (rehash, "is not the log"),
        (hide_checkpoints, "is not the log"),
    ],
)
def test_a_log_that_is_not_what_its_checkpoints_say_is_not_opened(
    spoil: Callable[[Path], None], message: str, folder: Path, open_log: Open, record: Make
) -> None:
    fill(open_log, record, 5)
    spoil(folder)
    for _ in range(2):
        with pytest.raises(VerificationError, match=message):
            open_log()


@pytest.mark.parametrize("content", [b"not a database at all" * 1000, os.urandom(20_000)])
def test_a_file_that_is_no_database_is_an_answer_and_not_a_traceback(
    content: bytes, folder: Path, open_log: Open, record: Make
) -> None:
    fill(open_log, record, 5)
    (folder / "audit.db").write_bytes(content)
    with pytest.raises(LogUnavailableError, match="cannot be opened"):
        open_log()


def test_a_file_of_a_newer_version_is_left_alone(folder: Path, open_log: Open, record: Make) -> None:
    fill(open_log, record, 1)
    connection = sqlite3.connect(folder / "audit.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(LogUnavailableError, match="use the newer version"):
        open_log()
