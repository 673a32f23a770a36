"""Real processes, really killed."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from gateway.audit import merkle
from gateway.audit.log import DecisionLog
from gateway.audit.query import LogReader
from gateway.audit.verify import verify_file

WRITER = """
import asyncio, os, sys, uuid
from datetime import UTC, datetime
from pathlib import Path
from gateway.audit.log import DecisionLog
from gateway.domain.record import Record, Resolution

def now():
    return datetime.now(UTC)

async def caller(log):
    while True:
        event_id = f"audit-{uuid.uuid4()}"
        made = Record(event_id=event_id, at=now(), event_type="started", resolution=Resolution.COMPLETED, user_id="u")
        (seq,) = await log.append(made)
        os.write(1, f"{seq} {event_id}\\n".encode())

async def main():
    log = DecisionLog.open(Path(sys.argv[1]), now=now, new_id=lambda: str(uuid.uuid4()))
    await asyncio.gather(*(caller(log) for _ in range(32)))

asyncio.run(main())
"""
KILLS = 5
ACKNOWLEDGED = 400


def test_a_killed_writer_loses_nothing_it_acknowledged(
    folder: Path, tmp_path: Path, open_log: Callable[[], DecisionLog]
) -> None:
    acknowledged: dict[str, int] = {}
    for _ in range(KILLS):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        with writer.stdout:
            told = [writer.stdout.readline() for _ in range(ACKNOWLEDGED)]
            writer.send_signal(signal.SIGKILL)
            told += writer.stdout.readlines()
        assert writer.wait() == -signal.SIGKILL
        for line in told:
            if line.endswith(b"\n"):
                seq, event_id = line.decode().split()
                acknowledged[event_id] = int(seq)
        _check_tree(folder)
    assert len(acknowledged) >= KILLS * ACKNOWLEDGED

    async def reopen() -> None:
        await open_log().close()

    asyncio.run(reopen())
    with LogReader(folder).connect() as connection:
        kept = {
            f"audit-{event_id[:8]}-{event_id[8:12]}-{event_id[12:16]}-{event_id[16:20]}-{event_id[20:]}": seq
            for event_id, seq in connection.execute("SELECT lower(hex(id)), seq FROM record")
        }
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert acknowledged.items() <= kept.items()
    assert verify_file(_exported(folder, tmp_path, open_log)).ok


def _check_tree(folder: Path) -> None:
    with LogReader(folder).connect() as connection:
        rows = connection.execute("SELECT seq, committed, leaf FROM record ORDER BY seq").fetchall()
        notes = dict(connection.execute("SELECT size, root FROM checkpoint").fetchall())
    frontier = merkle.Frontier()
    for number, (seq, committed, leaf) in enumerate(rows, 1):
        assert seq == number
        assert merkle.leaf_hash(committed.encode()) == leaf
        frontier.push(leaf)
        assert notes.get(number, frontier.root()) == frontier.root()


def _exported(folder: Path, tmp_path: Path, open_log: Callable[[], DecisionLog]) -> Path:
    from datetime import UTC, datetime

    from gateway.audit.export import ExportRequest, begin_export

    path = tmp_path / "all.jsonl"

    async def story() -> None:
        log = open_log()
        request = ExportRequest(
            event_id=f"audit-{'0' * 8}-0000-7000-8000-{'0' * 12}", at=datetime.now(UTC), user_id=None
        )
        path.write_bytes(b"".join((await begin_export(log, folder, request)).chunks()))
        await log.close()

    asyncio.run(story())
    return path
