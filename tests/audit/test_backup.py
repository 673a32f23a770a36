"""Copies of the log: made while it is written, opened elsewhere, and refused where they would hide what came later."""

import asyncio
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.audit.backup import back_up
from gateway.audit.export import ExportRequest, begin_export
from gateway.audit.log import DecisionLog
from gateway.audit.query import LogReader
from gateway.audit.verify import verify_file
from gateway.audit.wanted import Filter
from gateway.domain.record import Record
from gateway.errors import ConfigError, ConflictError, NotFoundError, VerificationError

Open = Callable[[], DecisionLog]
Make = Callable[..., Record]


async def write(log: DecisionLog, record: Make, count: int) -> None:
    for _ in range(count):
        await log.append(record(user_id="alice"))


def test_a_copy_made_while_the_log_is_written_opens_elsewhere_goes_on_and_verifies(
    folder: Path, tmp_path: Path, open_log: Open, record: Make, now: Callable[..., object], new_id: Callable[[], str]
) -> None:
    target, elsewhere = tmp_path / "backup", tmp_path / "elsewhere" / "data"

    async def story() -> None:
        log = open_log()
        await write(log, record, 300)
        await log.rotate()
        await write(log, record, 20)
        writing = asyncio.create_task(write(log, record, 300))
        await asyncio.sleep(0)
        made = await asyncio.to_thread(back_up, folder, target, with_private_key=True)
        await writing
        assert 320 <= made.size <= 620
        await log.close()

    asyncio.run(story())
    shutil.copytree(target, elsewhere)
    copied = len(LogReader(elsewhere).find(Filter(), limit=1000).rows)

    async def go_on() -> tuple[bytes, str]:
        log = DecisionLog.open(elsewhere, now=now, new_id=new_id)  # type: ignore[arg-type] # a clock
        await write(log, record, 3)
        begun = await begin_export(
            log, elsewhere, ExportRequest(event_id=f"audit-{new_id()}", at=log._now(), user_id=None)
        )
        await log.close()
        return b"".join(begun.chunks()), log.verifier

    text, key = asyncio.run(go_on())
    (tmp_path / "all.jsonl").write_bytes(text)
    result = verify_file(tmp_path / "all.jsonl", key=key)
    assert (result.ok, result.lines, result.complete) == (True, copied + 4, True), result.findings


def test_the_private_key_is_only_in_a_copy_that_was_asked_to_have_it(
    folder: Path, tmp_path: Path, open_log: Open, record: Make
) -> None:
    asyncio.run(write(log := open_log(), record, 3))
    asyncio.run(log.close())
    seed = (folder / "keys" / "log.key").read_bytes().strip().split(b"+", 4)[4]
    without, within = back_up(folder, tmp_path / "a"), back_up(folder, tmp_path / "b", with_private_key=True)
    assert (without.files, within.private_key) == (("audit.db", "checkpoints.txt", "keys/log.pub"), True)
    assert not any(seed in each.read_bytes() for each in (tmp_path / "a").rglob("*") if each.is_file())
    assert (tmp_path / "b" / "keys" / "log.key").is_file()
    for each in (tmp_path / "b").rglob("*"):
        assert stat.S_IMODE(each.stat().st_mode) & 0o077 == 0
    with pytest.raises(ConfigError, match=r"log\.key` is gone"):
        DecisionLog.open(tmp_path / "a", now=log._now, new_id=log._new_id)


def test_an_older_copy_over_a_newer_log_is_refused_with_the_way_out(
    folder: Path, tmp_path: Path, open_log: Open, record: Make
) -> None:
    async def story() -> None:
        log = open_log()
        await write(log, record, 5)
        await asyncio.to_thread(back_up, folder, tmp_path / "backup")
        await write(log, record, 5)
        await log.close()

    asyncio.run(story())
    shutil.copy(tmp_path / "backup" / "audit.db", folder / "audit.db")
    with pytest.raises(VerificationError, match="10 records") as caught:
        open_log()
    assert "checkpoints.txt" in (caught.value.way_out or "")
    (folder / "checkpoints.txt").rename(tmp_path / "checkpoints.old")
    log = open_log()
    assert log.size == 5
    asyncio.run(log.close())


def test_nothing_is_written_over(folder: Path, tmp_path: Path, open_log: Open) -> None:
    with pytest.raises(NotFoundError, match="no decision log"):
        back_up(folder, tmp_path / "backup")
    asyncio.run(open_log().close())
    (tmp_path / "there").mkdir()
    with pytest.raises(ConflictError, match="not there yet"):
        back_up(folder, tmp_path / "there")
