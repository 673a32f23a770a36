import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gateway.audit import group_commit, upkeep
from gateway.audit.checkpoint import parse_note, parse_verifier
from gateway.audit.log import DecisionLog
from gateway.audit.query import LogReader
from gateway.domain.record import Record
from gateway.errors import HomeInUseError, LogUnavailableError, MalformedError, TooLargeError

Open = Callable[[], DecisionLog]
Make = Callable[..., Record]


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_records_are_numbered_without_a_gap_and_share_commits(run: Any, open_log: Open, decided: Make) -> None:  # noqa: ANN401 # a loop's `run`
    async def story() -> tuple[list[int], int]:
        log = open_log()
        numbers: list[int] = []

        async def caller() -> None:
            for _ in range(10):
                numbers.extend(await log.append(decided()))

        await asyncio.gather(*(caller() for _ in range(50)))
        await log.close()
        return numbers, log.counts.commits

    numbers, commits = run(story())
    assert sorted(numbers) == list(range(1, 501))
    assert commits < 250


def test_records_of_one_call_stand_side_by_side_and_come_back_as_they_were(
    folder: Path, open_log: Open, record: Make
) -> None:
    made = [record(details={"n": number}, trace_id=f"trace-{number}") for number in range(3)]

    async def story() -> tuple[int, ...]:
        log = open_log()
        numbers = await log.append(*made)
        assert await log.append() == ()
        await log.close()
        return numbers

    assert asyncio.run(story()) == (1, 2, 3)
    rows = [LogReader(folder).get(each.event_id) for each in made]
    assert [row and row["details"] for row in rows] == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert [row and row["trace_id"] for row in rows] == ["trace-0", "trace-1", "trace-2"]


def test_any_loop_in_any_thread_may_use_the_log_after_the_other(open_log: Open, record: Make) -> None:
    log = open_log()
    numbers = [asyncio.run(log.append(record()))]
    thread = threading.Thread(target=lambda: numbers.append(uvloop.run(log.append(record()))))
    thread.start()
    thread.join()
    asyncio.run(log.close())
    assert numbers == [(1,), (2,)]


def test_a_loop_that_ends_in_the_middle_leaves_the_log_usable(open_log: Open, record: Make) -> None:
    log = open_log()

    async def walk_away() -> None:
        task = asyncio.create_task(log.append(record()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()

    for _ in range(5):
        asyncio.run(walk_away())
    (number,) = asyncio.run(log.append(record()))
    assert number == log.size
    asyncio.run(log.close())


def test_a_cancelled_caller_takes_nobody_elses_record_with_it(folder: Path, open_log: Open, record: Make) -> None:
    made = [record() for _ in range(20)]

    async def story() -> list[Any]:
        log = open_log()
        tasks = [asyncio.create_task(log.append(each)) for each in made]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        await log.close()
        return ended

    ended = asyncio.run(story())
    assert all(isinstance(each, asyncio.CancelledError) for each in ended[::2])
    assert all(isinstance(each, tuple) for each in ended[1::2])
    assert all(LogReader(folder).get(each.event_id) for each in made[1::2])


def test_past_the_backlog_callers_are_refused_and_told_when_to_come_again(
    monkeypatch: pytest.MonkeyPatch, open_log: Open, record: Make
) -> None:
    monkeypatch.setattr(group_commit, "MAX_BACKLOG", 10)

    async def story() -> tuple[list[Any], DecisionLog]:
        log = open_log()
        ended = await asyncio.gather(*(log.append(record()) for _ in range(25)), return_exceptions=True)
        assert await log.append(record()) == (11,)
        await log.close()
        return ended, log

    ended, log = asyncio.run(story())
    refused = [each for each in ended if isinstance(each, LogUnavailableError)]
    assert len(refused) == log.counts.refused == 15
    assert {each.retry_after_s for each in refused} == {1}
    assert log.size == 11


def test_a_second_writer_is_turned_away_with_the_way_out(open_log: Open) -> None:
    log = open_log()
    with pytest.raises(HomeInUseError, match=r"pid \d+.*hearthgate\.sock"):
        open_log()
    asyncio.run(log.close())
    asyncio.run(open_log().close())


def test_after_closing_nothing_is_taken(open_log: Open, record: Make) -> None:
    async def story() -> None:
        log = open_log()
        await log.close()
        await log.close()
        assert not log.healthy
        with pytest.raises(LogUnavailableError, match="closed"):
            await log.append(record())

    asyncio.run(story())


def test_closing_writes_what_waits_and_signs_it(folder: Path, open_log: Open, record: Make) -> None:
    async def story() -> DecisionLog:
        log = open_log()
        tasks = [asyncio.create_task(log.append(record())) for _ in range(30)]
        await asyncio.sleep(0)
        await log.close()
        assert sorted(sum(await asyncio.gather(*tasks), ())) == list(range(1, 31))
        return log

    log = asyncio.run(story())
    note = parse_note((folder / "checkpoints.txt").read_text().removesuffix("\n"))
    assert note.size == 30
    assert parse_verifier((folder / "keys" / "log.pub").read_text()).signed(note)
    assert log.note == note.text


def test_what_grew_is_signed_by_itself(folder: Path, open_log: Open, record: Make, monkeypatch: Any) -> None:  # noqa: ANN401 # pytest's own
    monkeypatch.setattr(upkeep, "BEAT_S", 0.01)

    async def story() -> None:
        log = open_log()
        await log.append(record(), record())
        async with asyncio.timeout(20):
            while not (folder / "checkpoints.txt").exists():  # noqa: ASYNC110 # a file has no event
                await asyncio.sleep(0.01)
        note = await log.checkpoint()
        assert parse_note(note).size == 2
        assert await log.checkpoint() == note
        await log.close()

    asyncio.run(story())
    assert (folder / "checkpoints.txt").read_text().count("\u2014") == 1


def test_an_intent_without_outcome_is_found_at_the_next_start(open_log: Open, record: Make) -> None:
    intents = [record(event_type="execution_started", plugin_id="notes") for _ in range(3)]
    done = record(event_type="execution_completed", ref=intents[1].event_id)

    async def story(*records: Record) -> list[str]:
        log = open_log()
        lost = [row["event_id"] for row in log.lost]
        await log.append(*records)
        await log.close()
        return lost

    assert asyncio.run(story(*intents, done)) == []
    left = [intents[0].event_id, intents[2].event_id]
    assert asyncio.run(story(*(record(event_type="execution_lost", ref=each) for each in left))) == left
    assert asyncio.run(story(record())) == []


@pytest.mark.parametrize(
    ("members", "error"),
    [
        ({"event_id": "decision-1"}, MalformedError),
        ({"event_id": "audit-00000000-0000-0000-0000-00000000000G"}, MalformedError),
        ({"ref": "019a"}, MalformedError),
        ({"event_type": "rumour"}, MalformedError),
        ({"trace_id": "x" * 60_000, "plugin_id": "x" * 2_000_000}, TooLargeError),
    ],
)
def test_a_record_that_cannot_be_one_harms_no_other(
    open_log: Open, record: Make, members: dict[str, Any], error: type[Exception]
) -> None:
    async def story() -> list[Any]:
        log = open_log()
        ended = await asyncio.gather(
            log.append(record()), log.append(record(**members)), log.append(record()), return_exceptions=True
        )
        await log.close()
        return ended

    first, bad, last = asyncio.run(story())
    assert (first, last) == ((1,), (2,))
    assert isinstance(bad, error)


def test_the_tables_refuse_changes(folder: Path, open_log: Open, decided: Make) -> None:
    async def story() -> None:
        log = open_log()
        await log.append(decided())
        await log.close()

    asyncio.run(story())
    connection = sqlite3.connect(folder / "audit.db")
    for statement in (
        "UPDATE record SET risk = 0",
        "DELETE FROM record",
        "UPDATE pii SET top = ''",
        "UPDATE person SET pseudonym = ''",
        "DELETE FROM checkpoint",
    ):
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(statement)
    connection.execute("DELETE FROM pii")
    connection.execute("DELETE FROM person")
    connection.close()


def test_personal_values_are_not_in_what_the_tree_commits_to(folder: Path, open_log: Open, decided: Make) -> None:
    made = decided(user="rosalind")

    async def story() -> None:
        log = open_log()
        await log.append(made)
        await log.close()

    asyncio.run(story())
    connection = sqlite3.connect(folder / "audit.db")
    (committed,) = connection.execute("SELECT committed FROM record").fetchone()
    (columns,) = connection.execute("SELECT json_array(event_type, plugin, rule, resolution) FROM record").fetchone()
    connection.close()
    for secret in ("rosalind", "user_data/diary", "owner"):
        assert secret not in committed + columns
    row = LogReader(folder).get(made.event_id)
    assert row is not None
    assert (row["user_id"], row["decision"]["user"], row["decision"]["scope"]) == (
        "rosalind",
        "rosalind",
        "user_data/diary",
    )
    assert made.decision is not None
    assert row["decision"] == made.decision.as_json()
    assert row["replay"] == {"resource": {"owner": "rosalind"}}


def test_every_commit_waits_for_the_disk_and_what_is_deleted_is_overwritten(open_log: Open) -> None:
    log = open_log()
    wanted = {"synchronous": 2, "journal_mode": "wal", "secure_delete": 1, "trusted_schema": 0, "page_size": 8192}
    connection = log._store._connection
    assert {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in wanted} == wanted
    asyncio.run(log.close())


def test_nobody_else_can_read_what_the_log_wrote(folder: Path, open_log: Open, record: Make) -> None:
    log = open_log()

    async def story() -> None:
        await log.append(record())
        await log.checkpoint()

    asyncio.run(story())
    deadline = time.monotonic() + 20
    while not (folder / "checkpoints.txt").exists() and time.monotonic() < deadline:  # written behind the answer
        time.sleep(0.01)
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "log.pub"]
    assert {path.name for path in files} >= {"audit.db", "audit.db-wal", "checkpoints.txt", "log.key"}
    assert {path.stat().st_mode & 0o077 for path in files} == {0}
    assert folder.stat().st_mode & 0o777 == 0o700
    asyncio.run(log.close())
