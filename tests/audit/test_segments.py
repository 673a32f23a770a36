"""A log in several files: written, read, exported and proven as if it were one; killed at every step between."""

import asyncio
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.audit import rotation
from gateway.audit.decisions import count_records, read_allows, read_decisions
from gateway.audit.export import Export, ExportRequest, begin_export
from gateway.audit.log import DecisionLog
from gateway.audit.merkle import Frontier, proves_consistency, proves_inclusion
from gateway.audit.query import LogReader
from gateway.audit.verify import Verification, verify_file
from gateway.audit.wanted import Filter
from gateway.domain.decision import timestamp
from gateway.domain.record import Record
from gateway.errors import LogUnavailableError, VerificationError

Open = Callable[[], DecisionLog]
Make = Callable[..., Record]
BOUNDS = (300, 301, 812, 1100)  # beside, on and across tiles of 256


def fill(open_log: Open, made: list[Record]) -> list[str]:
    """Write records into a log of five files; give what was written."""

    async def story() -> None:
        log = open_log()
        for number, each in enumerate(made, 1):
            await log.append(each)
            if number in BOUNDS:
                assert await log.rotate()
        await log.close()

    asyncio.run(story())
    return [each.event_id for each in made]


def export(open_log: Open, folder: Path, path: Path, new_id: Callable[[], str], **wanted: object) -> Verification:
    async def story() -> tuple[Export, str]:
        log = open_log()
        request = ExportRequest(event_id=f"audit-{new_id()}", at=log._now(), user_id=None, wanted=Filter(**wanted))  # type: ignore[arg-type] # its own members
        begun = await begin_export(log, folder, request)
        await log.close()
        return begun, log.verifier

    begun, key = asyncio.run(story())
    path.write_bytes(b"".join(begun.chunks()))
    return verify_file(path, key=key)


@pytest.fixture
def written(open_log: Open, decided: Make) -> list[str]:
    made = [decided(user="alice" if number % 3 else "bob") for number in range(1200)]
    return fill(open_log, [replace(each, replay={"at": timestamp(each.at), "risk": 20}) for each in made])


def test_what_was_written_is_read_as_from_one_file(folder: Path, written: list[str]) -> None:
    assert len(list((folder / "segments").glob("audit-*.db"))) == len(BOUNDS)
    reader, found, cursor = LogReader(folder), [], None
    while True:
        page = reader.find(Filter(), limit=170, cursor=cursor)
        found += [(row["seq"], row["event_id"]) for row in page.rows]
        cursor = page.cursor
        if cursor is None:
            break
    assert found == [(number, written[number - 1]) for number in range(1200, 0, -1)]
    assert all((row := reader.get(written[at])) and row["seq"] == at + 1 for at in (0, 299, 300, 301, 1199))
    assert count_records(folder) == 1200
    assert sum(len(told) for _, told, _ in read_decisions(folder)) == 1200


def test_a_time_range_finds_what_it_names_in_whichever_file(
    folder: Path, written: list[str], now: Callable[[], Any]
) -> None:
    del now
    reader = LogReader(folder)
    rows = [row for seq in (290, 310, 805, 820, 1199) if (row := reader.get(written[seq - 1]))]
    for low in rows:
        for high in rows:
            from datetime import datetime

            since, until = datetime.fromisoformat(low["timestamp"]), datetime.fromisoformat(high["timestamp"])
            seqs = [row["seq"] for row in reader.find(Filter(since=since, until=until), limit=1000).rows]
            assert seqs == list(range(high["seq"] - 1, low["seq"] - 1, -1))
            allows = list(read_allows(folder, {"notes-diary"}, since=since))
            assert len(allows) == 1200 - low["seq"] + 1


def test_whole_and_filtered_exports_verify(
    folder: Path, tmp_path: Path, open_log: Open, written: list[str], new_id: Callable[[], str]
) -> None:
    del written
    whole = export(open_log, folder, tmp_path / "all.jsonl", new_id)
    assert (whole.ok, whole.lines, whole.complete) == (True, 1201, True), whole.findings
    some = export(open_log, folder, tmp_path / "some.jsonl", new_id, user="bob")
    assert (some.ok, some.lines, some.complete) == (True, 401, False), some.findings


def test_inclusion_and_consistency_are_proven_across_files(folder: Path, written: list[str]) -> None:
    reader = LogReader(folder)
    with reader.whole() as whole:
        leaves = [
            leaf for part in whole.parts for (leaf,) in part.connection.execute("SELECT leaf FROM record ORDER BY seq")
        ]
    roots, tree = [Frontier().root()], Frontier()
    for leaf in leaves:
        tree.push(leaf)
        roots.append(tree.root())
    for seq in (1, 256, 257, 300, 301, 302, 512, 812, 813, 1100, 1200):
        for size in (seq, 300, 301, 512, 813, 1200):
            if size >= seq:
                _, index, proof = reader.inclusion(written[seq - 1], size)
                assert proves_inclusion(index, size, leaves[seq - 1], proof, roots[size])
        assert proves_consistency(seq, 1200, (roots[seq], roots[1200]), reader.consistency(seq, 1200))


def test_files_closed_before_the_key_was_rotated_are_believed_after_it(open_log: Open, record: Make) -> None:
    async def story() -> None:
        log = open_log()
        await log.append(record())
        assert await log.rotate()
        await log.rotate_key(record(event_type="key_rotated"))
        assert await log.rotate()
        await log.append(record())
        await log.close()

    asyncio.run(story())
    log = open_log()
    assert asyncio.run(log.append(record())) == (4,)
    asyncio.run(log.close())


def test_an_intent_stays_open_through_a_rotation_and_is_closed_behind_it(open_log: Open, record: Make) -> None:
    begun, lost = record(event_type="execution_started"), record(event_type="execution_started")

    async def story() -> None:
        log = open_log()
        await log.append(begun, lost)
        assert await log.rotate()
        await log.append(record(event_type="execution_completed", ref=begun.event_id))
        assert await log.rotate()
        await log.close()

    asyncio.run(story())
    log = open_log()
    assert [row["event_id"] for row in log.lost] == [lost.event_id]
    asyncio.run(log.close())


def test_records_that_come_during_a_rotation_are_all_kept(folder: Path, open_log: Open, record: Make) -> None:
    async def story() -> list[int]:
        log = open_log()
        await log.append(record())
        numbers: list[int] = []

        async def caller() -> None:
            for _ in range(40):
                numbers.extend(await log.append(record()))

        async def rotate() -> None:
            for _ in range(8):
                await log.rotate()
                await asyncio.sleep(0.005)

        await asyncio.gather(rotate(), *(caller() for _ in range(8)))
        await log.close()
        return numbers

    assert sorted(asyncio.run(story())) == list(range(2, 322))
    assert [row["seq"] for row in LogReader(folder).find(Filter(), limit=1000).rows] == list(range(321, 0, -1))


def test_who_reads_while_the_log_is_rotated_sees_it_whole(folder: Path, open_log: Open, record: Make) -> None:
    async def story() -> None:
        log = open_log()
        for _ in range(20):
            await log.append(record())
        with LogReader(folder).whole() as whole:
            (before,) = whole.live.execute("SELECT count(*) FROM record").fetchone()
            assert await log.rotate()
            await log.append(record())
            assert whole.live.execute("SELECT count(*) FROM record").fetchone() == (before,)
            assert whole.size == before
        assert [row["seq"] for row in LogReader(folder).find(Filter()).rows] == list(range(21, 0, -1))
        await log.close()

    asyncio.run(story())


def test_an_open_read_puts_a_rotation_off_and_harms_nothing(folder: Path, open_log: Open, record: Make) -> None:
    async def story() -> None:
        log = open_log()
        await log.append(record())
        with LogReader(folder).connect() as connection:
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM record").fetchone()
            await log.append(record())
            assert await log.rotate() is None
            connection.execute("COMMIT")
            assert await log.append(record()) == (3,)
        assert await log.rotate()
        assert not await log.rotate(), "an empty file is not closed"
        assert await log.append(record()) == (4,)
        await log.close()

    asyncio.run(story())


def _gone(folder: Path) -> str:
    (folder / "segments" / "audit-000000000301.db").unlink()
    return "audit-000000000301.db is gone, and with it the records 301 to 301"


def _swapped(folder: Path) -> str:
    one, two = sorted((folder / "segments").glob("*.db"))[:2]
    one.write_bytes(two.read_bytes()) if one.chmod(0o600) is None else None
    return "does not hold the records 1 to 300"


def _altered(sql: str, said: str) -> Callable[[Path], str]:
    def alter(folder: Path) -> str:
        path = folder / "segments" / "audit-000000000302.db"
        path.chmod(0o600)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            for (trigger,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
                connection.execute(f"DROP TRIGGER {trigger}")
            connection.execute(sql)
            connection.execute("PRAGMA journal_mode = DELETE")
        return said

    return alter


def _unchained(folder: Path) -> str:
    with closing(sqlite3.connect(folder / "audit.db", isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER segment_stays")
        connection.execute("DELETE FROM segment WHERE first = 302")
    return "does not begin behind record 301"


@pytest.mark.parametrize(
    "harm",
    [
        _gone,
        _swapped,
        _unchained,
        _altered("DELETE FROM record WHERE seq = 812", "does not hold"),
        _altered("UPDATE tile SET hash = randomblob(32) WHERE idx = 2", "does not have the root"),
        _altered("DELETE FROM tile", "is damaged"),
        _altered("UPDATE record SET leaf = randomblob(32) WHERE seq = 812", "does not have the root"),
    ],
)
def test_a_chain_that_does_not_hold_is_not_continued(
    folder: Path, open_log: Open, written: list[str], harm: Callable[[Path], str]
) -> None:
    del written
    said = harm(folder)
    with pytest.raises(VerificationError, match=said) as caught:
        open_log()
    assert "from a backup" in (caught.value.way_out or "")


def test_a_failing_step_closes_the_log_which_then_recovers_with_nothing_lost(
    folder: Path, monkeypatch: pytest.MonkeyPatch, open_log: Open, record: Make
) -> None:
    async def story() -> None:
        log = open_log()
        for name in ("_link", "_clear", "_replace", "_seal"):
            await until_taken(log, record())
            with monkeypatch.context() as patch:
                patch.setattr(rotation, name, _refuse)
                with pytest.raises(LogUnavailableError, match="no more room"):
                    await log.rotate()
            await until_taken(log, record())
        await log.close()

    asyncio.run(story())
    rows = LogReader(folder).find(Filter(), limit=1000).rows
    assert [row["seq"] for row in rows] == list(range(len(rows), 0, -1))
    assert len([row for row in rows if row["event_type"] == "started"]) == 8


async def until_taken(log: DecisionLog, made: Record) -> None:
    deadline = asyncio.get_running_loop().time() + 10
    while True:
        try:
            await log.append(made)
        except LogUnavailableError:
            assert asyncio.get_running_loop().time() < deadline, log.why
            await asyncio.sleep(0.05)
        else:
            return


def _refuse(*_: object, **__: object) -> None:
    raise OSError("no more room")


KILLED = """
import asyncio, os, signal, sys, uuid
from datetime import UTC, datetime
from pathlib import Path
from gateway.audit import rotation, store
from gateway.audit.log import DecisionLog
from gateway.domain.record import Record, Resolution

def now():
    return datetime.now(UTC)

def dying(step, after):
    def run(*given, **more):
        if after:
            step(*given, **more)
        os.kill(os.getpid(), signal.SIGKILL)
    return run

async def main(folder, place, name, after):
    log = DecisionLog.open(folder, now=now, new_id=lambda: str(uuid.uuid4()))
    module = {"rotation": rotation, "store": store}[place]
    setattr(module, name, dying(getattr(module, name), after))
    for _ in range(5):
        made = Record(event_id=f"audit-{uuid.uuid4()}", at=now(), event_type="started", resolution=Resolution.COMPLETED)
        await log.append(made)
    await log.rotate()

asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4] == "after"))
"""
STEPS = [
    ("store", "build_next"),
    ("store", "swap"),
    *(("rotation", f"_{name}") for name in ("link", "replace", "seal")),
]
DEATHS = [(place, name, when) for place, name in STEPS for when in ("before", "after")]


def test_killed_between_any_two_steps_it_leaves_a_log_that_opens_goes_on_and_verifies(
    folder: Path, tmp_path: Path, open_log: Open, new_id: Callable[[], str]
) -> None:
    expected = 0
    for place, name, when in [*DEATHS, ("rotation", "_clear", "before"), ("rotation", "_clear", "after")]:
        ended = subprocess.run([sys.executable, "-c", KILLED, str(folder), place, name, when], check=False)
        assert ended.returncode == -signal.SIGKILL, (name, when)
        expected += 0 if name == "_clear" else 5
        rows = LogReader(folder).find(Filter(event_type="started"), limit=1000).rows
        assert len(rows) == expected or name == "_clear", (name, when)
    result = export(open_log, folder, tmp_path / "all.jsonl", new_id)
    assert (result.ok, result.complete) == (True, True), result.findings
    assert not (folder / "audit.next.db").exists()
    live = folder / "audit.db"
    assert not any(each.samefile(live) for each in (folder / "segments").glob("*.db"))
    assert len(list((folder / "segments").glob("*.db"))) == 4  # killed behind the rename: replace after, seal, swap
