"""The traffic log keeps what it promises to keep, forgets the rest, and never stands in a call's way."""

import csv
import io
import json
import re
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.domain.cell import read_cell
from gateway.domain.decision import timestamp
from gateway.domain.outcome import Outcome
from gateway.domain.request import Json
from gateway.errors import MalformedError, UnavailableError
from gateway.traffic import log as log_module
from gateway.traffic.export import COLUMNS, export_chunks
from gateway.traffic.log import TrafficLog
from gateway.traffic.query import Row, TrafficFilter, TrafficReader
from gateway.traffic.store import insert, open_store
from gateway.traffic.transfer import Passage, Start, Transfer

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def begin(log: TrafficLog, at: datetime = NOON, **given: str | int | None) -> Passage:
    fields: dict[str, str | int | None] = {
        "decision_id": "d1",
        "execution_id": "e1",
        "plugin": "notes",
        "user": "alice",
        "op": "http.request",
        "method": "GET",
        "host": "a.test",
        "port": 443,
        **given,
    }
    return log.begin(Start(at=at, **fields))  # type: ignore[arg-type] # each field with its own type above


def moved(log: TrafficLog, at: datetime = NOON, sent: int = 0, received: int = 0, **given: str | int | None) -> None:
    passage = begin(log, at, **given)
    passage.count(sent, received)
    passage.end(Outcome.RETURNED)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "traffic.db"


@pytest.fixture
def log(path: Path) -> Iterator[TrafficLog]:
    made = TrafficLog(path, keep_days=30, max_entries=1000)
    yield made
    made.close(NOON)


@pytest.fixture
def reader(path: Path) -> TrafficReader:
    return TrafficReader(path)


def test_what_is_under_way_is_shown_until_it_ends(log: TrafficLog, reader: TrafficReader) -> None:
    passage = begin(log)
    passage.count(10, 0)
    (shown,) = (each.as_json() for each in log.active)
    assert (shown["host"], shown["bytes_out"], shown["bytes_in"]) == ("a.test", 10, 0)
    passage.count(0, 5)
    passage.status = 200
    passage.end(Outcome.FAILED, "too_large")
    passage.end(Outcome.RETURNED)  # only the first counts
    assert log.active == ()
    log.flush(NOON)
    (row,) = reader.find(TrafficFilter()).rows
    assert {name: row[name] for name in ("bytes_out", "bytes_in", "status", "outcome", "problem")} == {
        "bytes_out": 10,
        "bytes_in": 5,
        "status": 200,
        "outcome": "failed",
        "problem": "too_large",
    }
    assert row["started"] == "2026-11-22T12:00:00.000000Z"


def test_what_is_older_than_it_is_kept_goes(log: TrafficLog, reader: TrafficReader) -> None:
    for days in (0, 1, 29, 30):
        moved(log, NOON + timedelta(days=days), plugin=f"day{days}")
    for now, kept in ((29, 4), (30, 4), (31, 3), (45, 2), (59, 2), (61, 0)):
        log.flush(NOON + timedelta(days=now))
        assert len(reader.find(TrafficFilter()).rows) == kept, now


def test_no_more_is_kept_than_the_settings_say_and_the_newest_stays(path: Path, reader: TrafficReader) -> None:
    log = TrafficLog(path, keep_days=30, max_entries=10)
    for number in range(25):
        moved(log, plugin=f"p{number}")
        if number % 4 == 0:
            log.flush(NOON)
            assert len(reader.find(TrafficFilter()).rows) == min(number + 1, 10)
    log.close(NOON)
    assert [row["plugin"] for row in reader.find(TrafficFilter()).rows] == [f"p{n}" for n in range(24, 14, -1)]


def test_a_full_queue_drops_and_counts(log: TrafficLog, reader: TrafficReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "MAX_WAITING", 3)
    for _ in range(5):
        moved(log)
    assert (log.waiting, log.dropped) == (3, 2)
    log.flush(NOON)
    assert (log.waiting, log.dropped) == (0, 2)
    assert len(reader.find(TrafficFilter()).rows) == 3


def test_what_cannot_be_written_waits_is_told_once_and_is_written_later(
    path: Path, reader: TrafficReader, caplog: pytest.LogCaptureFixture
) -> None:
    log = TrafficLog(path, keep_days=30, max_entries=10)
    log._connection.execute("PRAGMA query_only = ON")
    for _ in range(3):
        moved(log)
        log.flush(NOON)
    assert (log.waiting, len(caplog.records)) == (3, 1)
    assert log.problem is not None
    log._connection.execute("PRAGMA query_only = OFF")
    log.close(NOON)
    assert (log.waiting, log.problem, len(caplog.records)) == (0, None, 2)
    assert len(reader.find(TrafficFilter()).rows) == 3


def test_a_forgotten_user_is_in_no_file_any_more(log: TrafficLog, path: Path, reader: TrafficReader) -> None:
    canary = "zz-canary-user"
    for user in (canary, "bob", canary):
        moved(log, user=user)
    log.flush(NOON)
    waits, runs = begin(log, user=canary), begin(log, user=canary)
    waits.end(Outcome.RETURNED)
    assert log.forget(canary, lambda _: False) == 3
    runs.end(Outcome.RETURNED)
    log.flush(NOON)
    assert [row["user"] for row in reader.find(TrafficFilter()).rows] == ["bob"]
    assert not [file for file in path.parent.iterdir() if canary.encode() in file.read_bytes()]


def test_what_others_moved_loses_a_path_and_a_host_that_name_the_forgotten(
    log: TrafficLog, path: Path, reader: TrafficReader
) -> None:
    spelt = "/people/zz%2Dcanary/photo"
    moved(log, user="bob", path=spelt, host="zz-canary")
    moved(log, user="bob", path="/weather", sent=3)
    log.flush(NOON)
    moved(log, user="bob", path=spelt, sent=7)
    runs = begin(log, user="bob", path=spelt)
    assert log.forget("zz-canary", lambda text: "canary" in text) == 0
    runs.end(Outcome.RETURNED)
    log.flush(NOON)
    rows = reader.find(TrafficFilter()).rows
    assert [(row["path"], row["host"], row["bytes_out"]) for row in reversed(rows)] == [
        (None, None, 0),
        ("/weather", "a.test", 3),
        (None, "a.test", 7),
        (None, "a.test", 0),
    ]
    assert not [file for file in path.parent.iterdir() if b"canary" in file.read_bytes()]


def test_pages_follow_one_another_without_gap_and_filters_hold(log: TrafficLog, reader: TrafficReader) -> None:
    for number in range(30):
        moved(log, NOON + timedelta(seconds=number), plugin=f"p{number % 3}", host=f"h{number % 2}.test")
    log.flush(NOON)
    seen: list[Row] = []
    cursor = None
    while True:
        page = reader.find(TrafficFilter(plugin="p1"), limit=4, cursor=cursor)
        seen += page.rows
        cursor = page.cursor
        if cursor is None:
            break
    assert len(seen) == 10
    assert [row["started"] for row in seen] == sorted((str(row["started"]) for row in seen), reverse=True)
    both = TrafficFilter(plugin="p1", host="h0.test")
    assert len(reader.find(both).rows) == 5
    some = TrafficFilter(since=NOON + timedelta(seconds=10), until=NOON + timedelta(seconds=20))
    assert len(reader.find(some).rows) == 10
    assert [row["started"] for row in reader.rows(both)] == [row["started"] for row in reader.find(both).rows][::-1]


@pytest.mark.parametrize("cursor", ["x", "t", "t-1", "t1e3", "5", "t" + "9" * 30])
def test_what_is_no_cursor_is_said_so(log: TrafficLog, reader: TrafficReader, cursor: str) -> None:
    with pytest.raises(MalformedError):
        reader.find(TrafficFilter(), cursor=cursor)
    assert log.waiting == 0


def test_a_summary_adds_up(log: TrafficLog, reader: TrafficReader) -> None:
    assert reader.summary(TrafficFilter())["duration_ms"] == {"p50": None, "p95": None, "max": None}
    for number in range(10):
        moved(log, sent=number, received=1, plugin="a" if number < 7 else "b")
    begin(log, op="vault.read", host=None, port=None, method=None).end(Outcome.FAILED, "not_found")
    log.flush(NOON)
    found = reader.summary(TrafficFilter())
    assert (found["transfers"], found["bytes_out"], found["bytes_in"], found["not_returned"]) == (11, 45, 10, 1)
    by_plugin = {each["plugin"]: each["bytes_out"] for each in found["by_plugin"]}  # type: ignore[union-attr,index,call-overload] # JSON
    assert by_plugin == {"a": 21, "b": 24, "notes": 0}
    assert reader.summary(TrafficFilter(plugin="b"))["bytes_out"] == 24


def test_a_damaged_file_is_put_aside_and_told(
    path: Path, reader: TrafficReader, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(b"this is no database at all" * 100)
    log = TrafficLog(path, keep_days=30, max_entries=10)
    moved(log)
    log.close(NOON)
    assert len(reader.find(TrafficFilter()).rows) == 1
    assert (path.parent / "traffic.db.damaged").exists()
    assert "put aside" in caplog.text


def test_a_file_that_cannot_be_opened_is_an_error_and_stays(path: Path, reader: TrafficReader) -> None:
    path.mkdir()
    with pytest.raises(UnavailableError):
        TrafficLog(path, keep_days=30, max_entries=10)
    with pytest.raises(UnavailableError):
        reader.find(TrafficFilter())
    assert path.is_dir()


def test_the_file_is_its_owners_alone(log: TrafficLog, path: Path) -> None:
    moved(log)
    log.flush(NOON)
    assert {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()} == {0o600}


def test_a_page_of_a_full_log_needs_no_scan(log: TrafficLog, path: Path) -> None:
    where, values = TrafficFilter(plugin="a").where(("seq < ?", 5))
    moved(log)
    log.flush(NOON)
    with sqlite3.connect(path) as connection:
        plan = connection.execute(
            f"EXPLAIN QUERY PLAN SELECT * FROM transfer WHERE {where} ORDER BY seq DESC LIMIT 5",  # noqa: S608 (ours)
            values,
        ).fetchall()
    connection.close()
    assert "transfer_plugin" in str(plan)
    assert "TEMP B-TREE" not in str(plan)


@given(st.dictionaries(st.sampled_from(COLUMNS), st.text(st.characters(exclude_categories=["Cs"]), max_size=20)))
@example({"path": "/x;=cmd", "host": " =1+1", "problem": "a\n=1,@SUM(A1)", "op": "\uff1d1"})
def test_an_export_reads_back_and_holds_no_formula_however_a_program_takes_it_apart(texts: dict[str, str]) -> None:
    row: Row = {**dict.fromkeys(COLUMNS), "bytes_out": 1, **texts}
    assert json.loads(b"".join(export_chunks([row], "jsonl"))) == row
    text = b"".join(export_chunks([row], "csv")).decode()
    assert text.count("\n") == 2  # no cell breaks a line
    head, cells = csv.reader(io.StringIO(text, newline=""))
    assert head == list(COLUMNS)
    for cell in cells:
        for piece in re.split(r"[,;|\t]|\"+", cell):
            assert not re.match(r"[ \u00a0\u3000]*[-=+@\uff1d\uff0b\uff0d\uff20]", piece), piece
    for name, cell in zip(COLUMNS, cells, strict=True):
        value = row[name]
        assert read_cell(cell) == ("" if value is None else str(value))


MOVED = st.fixed_dictionaries(
    {
        "plugin": st.sampled_from(["a", "b", "ö"]),
        "user": st.sampled_from(["alice", "bob"]),
        "op": st.sampled_from(["http.request", "vault.read"]),
        "host": st.none() | st.sampled_from(["a.test", "b.test"]),
        "bytes_out": st.integers(0, 2**40),
        "bytes_in": st.integers(0, 2**40),
        "duration_us": st.integers(0, 5000),
        "outcome": st.sampled_from(list(Outcome)),
        "problem": st.none(),
        "status": st.none(),
        "at": st.integers(0, 50).map(lambda second: NOON + timedelta(seconds=second)),
    }
)


def made_of(facts: dict[str, Any]) -> Transfer:
    of_start = {name: facts[name] for name in ("plugin", "user", "op", "host", "at")}
    rest = {name: value for name, value in facts.items() if name not in of_start}
    return Transfer(start=Start(decision_id="d", execution_id="e", **of_start), **rest)


def counted(transfers: list[Transfer]) -> Row:
    """Sum up the plain way."""

    def sums(some: list[Transfer]) -> Row:
        return {
            "transfers": len(some),
            "bytes_out": sum(each.bytes_out for each in some),
            "bytes_in": sum(each.bytes_in for each in some),
            "not_returned": sum(each.outcome is not Outcome.RETURNED for each in some),
        }

    def grouped(by: str, value: Callable[[Transfer], str | None]) -> list[Json]:
        found = {value(each) for each in transfers} - {None}
        rows: list[dict[str, Any]] = [
            {by: one, **sums([each for each in transfers if value(each) == one])} for one in found
        ]
        return [*sorted(rows, key=lambda row: (-row["bytes_out"] - row["bytes_in"], row[by]))]

    took = sorted(each.duration_us for each in transfers)
    ended = [each.ended for each in transfers]
    count = len(took)
    return {
        **sums(transfers),
        "first_ended": timestamp(min(ended)) if ended else None,
        "last_ended": timestamp(max(ended)) if ended else None,
        "duration_ms": {
            "p50": took[(count - 1) // 2] / 1000 if took else None,
            "p95": took[(count * 95 - 1) // 100] / 1000 if took else None,
            "max": took[-1] / 1000 if took else None,
        },
        "by_plugin": grouped("plugin", lambda each: each.start.plugin),
        "by_host": grouped("host", lambda each: each.start.host),
        "by_user": grouped("user", lambda each: each.start.user),
        "by_op": grouped("op", lambda each: each.start.op),
        "by_outcome": grouped("outcome", lambda each: each.outcome.value),
    }


@given(
    st.lists(MOVED, max_size=60).map(lambda found: [made_of(each) for each in found]),
    st.none() | st.just("a"),
    st.none() | st.integers(0, 50).map(lambda second: NOON + timedelta(seconds=second)),
)
def test_a_summary_is_what_counting_gives(
    transfers: list[Transfer], plugin: str | None, since: datetime | None
) -> None:
    with TemporaryDirectory() as name:
        path = Path(name, "traffic.db")
        with closing(open_store(path)) as connection:
            insert(connection, transfers)
        wanted = [
            each for each in transfers if plugin in {None, each.start.plugin} and (since is None or each.ended >= since)
        ]
        assert TrafficReader(path).summary(TrafficFilter(plugin=plugin, since=since)) == counted(wanted)
