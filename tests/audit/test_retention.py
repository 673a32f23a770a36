"""Dropping closed files: what goes, what stays to prove the rest, and what is told."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from gateway.audit.export import ExportRequest, begin_export
from gateway.audit.log import DecisionLog
from gateway.audit.merkle import proves_inclusion
from gateway.audit.query import LogReader
from gateway.audit.verify import Verification, verify_file
from gateway.audit.wanted import Filter
from gateway.domain.record import Record
from gateway.errors import NotFoundError, VerificationError

Open = Callable[[], DecisionLog]
Make = Callable[..., Record]


async def drop(log: DecisionLog, record: Make) -> bool:
    segment = next(each for each in log.segments if each.kept)
    return await log.drop(segment, record(event_type="segment_dropped", details=segment.as_json()))


@pytest.fixture
def notes() -> list[str]:
    """Checkpoints: behind the first file, behind the second, and within the first."""
    return []


@pytest.fixture
def dropped(open_log: Open, record: Make, notes: list[str]) -> list[str]:
    """Write 1,000 records into files of 300, 400 and 300, drop the first, and give the ids."""
    made = [record() for _ in range(1000)]

    async def story() -> None:
        log = open_log()
        for number, each in enumerate(made, 1):
            await log.append(each)
            if number in {300, 700}:
                assert await log.rotate()
            if number in {150, 300, 700}:
                notes.append(await log.checkpoint())
        assert await drop(log, record)
        await log.close()

    asyncio.run(story())
    return [each.event_id for each in made]


def export(
    open_log: Open, folder: Path, path: Path, new_id: Callable[[], str], since: str | None = None
) -> Verification:
    async def story() -> tuple[bytes, str]:
        log = open_log()
        begun = await begin_export(
            log, folder, ExportRequest(event_id=f"audit-{new_id()}", at=log._now(), user_id=None)
        )
        await log.close()
        return b"".join(begun.chunks()), log.verifier

    text, key = asyncio.run(story())
    path.write_bytes(text)
    return verify_file(path, key=key, since=since)


def test_a_dropped_file_is_gone_and_the_rest_is_read_and_proven(
    folder: Path, dropped: list[str], open_log: Open, record: Make
) -> None:
    assert [each.name for each in sorted((folder / "segments").iterdir())] == ["audit-000000000301.db"]
    reader = LogReader(folder)
    assert reader.get(dropped[299]) is None
    log = open_log()
    root_at = log._store.root_at
    for seq in (301, 512, 513, 700, 701, 1000):
        _, index, proof = reader.inclusion(dropped[seq - 1], 1000)
        row = reader.get(dropped[seq - 1])
        assert row
        assert proves_inclusion(index, 1000, bytes.fromhex(row["leaf"]), proof, root_at(1000))
    assert reader.consistency(300, 1000)
    with pytest.raises(NotFoundError, match="up to 300 are gone"):
        reader.consistency(150, 1000)
    assert asyncio.run(log.append(record())) == (1002,)
    asyncio.run(log.close())


def test_a_whole_export_begins_at_the_first_kept_record_and_goes_on_to_the_checkpoint(
    folder: Path, tmp_path: Path, open_log: Open, dropped: list[str], new_id: Callable[[], str], notes: list[str]
) -> None:
    del dropped
    path = tmp_path / "all.jsonl"
    within, behind, later = notes
    for since in (None, behind, later):
        result = export(open_log, folder, path, new_id, since)
        assert (result.ok, result.complete, result.first_seq) == (True, True, 301), result.findings
        assert "the records 1 to 300 are not in this file" in result.notes[0]
    assert "this file begins at 301" in str(export(open_log, folder, path, new_id, within).findings[0])


def test_an_export_that_was_cut_cannot_pass_for_one_of_a_log_whose_beginning_was_dropped(
    folder: Path, tmp_path: Path, open_log: Open, dropped: list[str], new_id: Callable[[], str]
) -> None:
    del dropped
    path = tmp_path / "all.jsonl"
    export(open_log, folder, path, new_id)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[1:]))
    assert "has seq 302, 301 expected" in str(verify_file(path).findings[0])
    path.write_bytes(b"".join(lines).replace(b'"first":301', b'"first":302'))
    assert not verify_file(path).ok
    path.write_bytes(b"".join(lines).replace(b'"frontier":["', b'"frontier":["00').replace(b'"seq":999', b'"seq":999'))
    assert not verify_file(path).ok


def test_a_file_with_an_open_intent_is_not_dropped(open_log: Open, record: Make) -> None:
    begun = record(event_type="execution_started")

    async def story() -> None:
        log = open_log()
        await log.append(begun)
        await log.rotate()
        assert not await drop(log, record)
        await log.append(record(event_type="execution_completed", ref=begun.event_id))
        assert await drop(log, record)
        await log.close()

    asyncio.run(story())


def test_files_are_dropped_from_the_oldest_on(open_log: Open, record: Make) -> None:
    async def story() -> None:
        log = open_log()
        for _ in range(3):
            await log.append(record())
            await log.rotate()
        told = record(event_type="segment_dropped")
        assert not await log.drop(log.segments[1], told)
        for _ in range(3):
            assert await drop(log, record)
        await log.close()

    asyncio.run(story())
    asyncio.run(open_log().close())


def test_the_last_checkpoint_of_a_dropped_file_is_kept_even_if_the_book_had_lost_it(
    folder: Path, open_log: Open, record: Make
) -> None:
    async def story() -> str:
        log = open_log()
        await log.append(record())
        segment = await log.rotate()
        assert segment
        (folder / "checkpoints.txt").unlink()
        await log.append(record())
        assert await drop(log, record)
        await log.close()
        return segment.note

    note = asyncio.run(story())
    assert note in (folder / "checkpoints.txt").read_text()
    with LogReader(folder).whole() as whole:
        assert whole.segments[0].note == note
    asyncio.run(open_log().close())


def test_a_file_that_was_only_said_to_be_dropped_is_missed(folder: Path, open_log: Open, dropped: list[str]) -> None:
    del dropped
    with closing(sqlite3.connect(folder / "audit.db", isolation_level=None)) as connection:
        connection.execute("UPDATE segment SET dropped = 1000 WHERE first = 301")
    with pytest.raises(VerificationError, match="no record says that it was dropped"):
        open_log()


def test_a_file_that_a_stop_left_behind_is_removed_at_the_next_start(
    folder: Path, open_log: Open, dropped: list[str]
) -> None:
    del dropped
    left = folder / "segments" / "audit-000000000001.db"
    left.write_bytes(b"left")
    asyncio.run(open_log().close())
    assert not left.exists()


def test_what_is_kept_is_searched_as_before(folder: Path, dropped: list[str]) -> None:
    rows = LogReader(folder).find(Filter(), limit=1000).rows
    assert [row["seq"] for row in rows] == list(range(1001, 300, -1))
    assert rows[-1]["event_id"] == dropped[300]
