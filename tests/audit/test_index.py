import asyncio
import itertools
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.audit.index import blocks, follower
from gateway.audit.index.follower import Follower
from gateway.audit.index.lookup import Lookup
from gateway.audit.index.schema import FILE, remove_index
from gateway.audit.log import DecisionLog
from gateway.audit.query import LogReader
from gateway.audit.wanted import Filter
from gateway.domain.decision import Effect
from gateway.domain.record import Record

Open = Callable[[], DecisionLog]
Make = Callable[..., Record]
START = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
WAIT_S = 20.0


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
        time.sleep(0.005)


@contextmanager
def following(folder: Path) -> Iterator[Follower]:
    """Follow the log until everything in it is indexed."""
    made = Follower(folder)
    made.start()
    try:
        until(lambda: made.state.indexed == made.state.records)
        yield made
    finally:
        made.stop()


def index(folder: Path) -> None:
    with following(folder):
        pass


def seqs(folder: Path, **wanted: Any) -> list[int]:  # noqa: ANN401 # members of a filter
    return [row["seq"] for row in LogReader(folder).find(Filter(**wanted), limit=1000).rows]


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.glob(f"{FILE}*")))


def people(decided: Make, record: Make, count: int) -> list[Record]:
    """Give records of many kinds."""
    chance = random.Random(7)  # noqa: S311 # a workload that repeats
    effects = (Effect.ALLOW, Effect.DENY)
    made = []
    for number in range(count):
        if number % 10 == 0:
            made.append(record(event_type="policy_activated", details={"why": f"edit {number}"}, user_id="olga"))
        else:
            who = chance.choice(("alice", "bob", "carol"))
            plugin = chance.choice(("notes", "weather"))
            made.append(decided(user=who, plugin=plugin, effect=chance.choice(effects), risk=chance.randrange(0, 101)))
    return made


FILTERS: list[dict[str, Any]] = [
    {"plugin": "notes"},
    {"user": "alice"},
    {"user": "olga"},
    {"event_type": "access_denied"},
    {"category": "policy"},
    {"effect": "deny", "min_risk": 70},
    {"rule": "notes-diary", "user": "bob"},
    {"plugin": "weather", "effect": "allow", "user": "carol", "min_risk": 20},
    {"since": START + timedelta(milliseconds=50), "until": START + timedelta(milliseconds=170)},
    {"since": START + timedelta(milliseconds=100), "plugin": "notes"},
    {"q": "diary"},
    {"q": "edit 20"},
    {"q": '"edit 30" olga'},
    {"q": "diar* ali*", "effect": "deny"},
    {"q": "diary", "until": START + timedelta(milliseconds=100)},
    {"plugin": "nobody"},
    {"q": "nothing"},
]


@pytest.mark.parametrize("wanted", FILTERS, ids=str)
def test_a_search_says_the_same_with_the_index_without_it_and_with_half_of_it(
    wanted: dict[str, Any], folder: Path, open_log: Open, decided: Make, record: Make
) -> None:
    made = people(decided, record, 300)
    write(open_log, *made[:150])
    index(folder)
    write(open_log, *made[150:])
    half = seqs(folder, **wanted)
    index(folder)
    whole = seqs(folder, **wanted)
    for path in [*folder.glob(f"{FILE}*")]:
        path.unlink()
    assert seqs(folder, **wanted) == half == whole
    assert bool(whole) == (wanted not in ({"plugin": "nobody"}, {"q": "nothing"}))


def test_pages_stay_the_same_while_records_are_added(folder: Path, open_log: Open, decided: Make, record: Make) -> None:
    made = people(decided, record, 200)
    write(open_log, *made[:100])
    index(folder)
    wanted = Filter(plugin="notes")
    whole = seqs(folder, plugin="notes")
    reader, found, cursor = LogReader(folder), [], None
    for number in itertools.count():
        page = reader.find(wanted, limit=7, cursor=cursor)
        found += [row["seq"] for row in page.rows]
        write(open_log, *made[100 + number * 5 : 105 + number * 5])
        if page.cursor is None:
            break
        cursor = page.cursor
    assert found == whole


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000] + bytes(range(256)) * 40)


def other_format(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 999")


def another_log(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE head SET last = x'00'")
        connection.commit()


def half_dropped(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE bits")


@pytest.mark.parametrize("fault", [damage, other_format, another_log, half_dropped, Path.unlink])
def test_an_index_that_cannot_be_believed_answers_nothing_and_is_made_anew(
    fault: Callable[[Path], None], folder: Path, open_log: Open, decided: Make, record: Make
) -> None:
    write(open_log, *people(decided, record, 100))
    index(folder)
    wanted = seqs(folder, user="alice", q="diary")
    assert wanted
    fault(folder / FILE)
    assert seqs(folder, user="alice", q="diary") == wanted
    index(folder)
    assert seqs(folder, user="alice", q="diary") == wanted
    with following(folder) as follows:
        assert follows.state.why is None


def test_an_index_of_a_longer_or_another_log_is_not_asked(
    folder: Path,
    tmp_path: Path,
    open_log: Open,
    decided: Make,
    now: Callable[[], datetime],
    new_id: Callable[[], str],
) -> None:
    write(open_log, *(decided(user="alice") for _ in range(20)))
    index(folder)
    other = tmp_path / "other"

    write(lambda: DecisionLog.open(other, now=now, new_id=new_id), *(decided(user="bob") for _ in range(5)))
    (other / FILE).write_bytes((folder / FILE).read_bytes())
    assert seqs(other, user="alice") == []
    assert seqs(other, user="bob") == [5, 4, 3, 2, 1]
    index(other)
    assert seqs(other, user="bob") == [5, 4, 3, 2, 1]


def test_the_index_never_adds_what_the_log_does_not_say(folder: Path, open_log: Open, decided: Make) -> None:
    write(open_log, *(decided(user="alice", plugin="notes") for _ in range(3)))
    index(folder)
    with closing(sqlite3.connect(folder / FILE)) as connection:
        connection.execute("UPDATE facet SET value = 'mallory' WHERE value = 'notes'")
        connection.commit()
    assert seqs(folder, plugin="mallory") == []


def test_what_the_log_forgot_a_moment_ago_is_not_found_by_the_index(
    folder: Path, open_log: Open, decided: Make
) -> None:
    write(open_log, decided(user="alice"), decided(user="rosalind"))
    index(folder)
    assert seqs(folder, q="rosalind") == seqs(folder, user="rosalind") == [2]

    async def forget() -> None:
        log = open_log()
        await log.forget("rosalind")
        await log.close()

    asyncio.run(forget())
    assert seqs(folder, q="rosalind") == seqs(folder, user="rosalind") == []
    assert seqs(folder, q="alice") == [1]


@pytest.mark.parametrize("known", [[], [121]], ids=["told of every record", "told of one record"])
def test_a_person_is_forgotten_and_no_byte_of_them_stays_in_the_index(
    known: list[int], folder: Path, open_log: Open, decided: Make, record: Make
) -> None:
    made = people(decided, record, 120)
    theirs = [decided(user="rosalind") for _ in range(30)]
    about = record(personal={"holder": "rosalind"}, user_id="olga")
    write(open_log, *made, *theirs[:15], about, *theirs[15:])
    numbers = range(121, 152)
    with following(folder) as follows:
        assert b"rosalind" in bytes_of(folder)
        with closing(sqlite3.connect(folder / "audit.db")) as connection:
            connection.execute("DELETE FROM pii WHERE seq BETWEEN 121 AND 151")
            connection.commit()
        follows.forget("rosalind", known or numbers)
        assert b"rosalind" not in bytes_of(folder)
        assert seqs(folder, user="rosalind") == []
        assert seqs(folder, q="rosalind") == []
        assert seqs(folder, rule="notes-diary", q='"notes read notes"')[:5] == [151, 150, 149, 148, 147]
    write(open_log, decided(user="alice"))
    index(folder)
    assert seqs(folder, user="alice")[0] == 152
    assert b"rosalind" not in bytes_of(folder)


def test_a_person_is_forgotten_also_while_somebody_searches(folder: Path, open_log: Open, decided: Make) -> None:
    write(open_log, *(decided(user="rosalind") for _ in range(5)), decided(user="alice"))
    with following(folder) as follows:
        lookup = Lookup.open(folder)
        assert lookup is not None
        with closing(lookup):
            with closing(sqlite3.connect(folder / "audit.db")) as connection:
                connection.execute("DELETE FROM pii WHERE seq <= 5")
                connection.commit()
            follows.forget("rosalind", range(1, 6))
            assert b"rosalind" not in bytes_of(folder)
        until(lambda: follows.state.indexed == 6)
    assert b"rosalind" not in bytes_of(folder)
    assert seqs(folder, user="alice") == [6]


def test_if_a_person_cannot_be_taken_out_piece_by_piece_the_index_is_made_anew(
    folder: Path, open_log: Open, decided: Make
) -> None:
    write(open_log, *(decided(user="rosalind") for _ in range(5)), decided(user="alice"))
    with following(folder) as follows:
        with closing(sqlite3.connect(folder / "audit.db")) as connection:
            connection.execute("DELETE FROM pii WHERE seq <= 5")
            connection.commit()
        with follows._lock:
            follows._drop_store()
            half_dropped(folder / FILE)
        follows.forget("rosalind", range(1, 6))
        assert b"rosalind" not in bytes_of(folder)
        until(lambda: follows.state.indexed == 6)
    assert seqs(folder, user="alice") == [6]


def test_records_of_a_dropped_beginning_leave_the_index_and_the_rest_is_found_across_files(
    folder: Path, open_log: Open, decided: Make, record: Make
) -> None:
    async def story() -> None:
        log = open_log()
        for who in ("rosalind", "alice", "bob"):
            await log.append(*(decided(user=who) for _ in range(30)))
            index(folder)
            if who != "bob":
                assert await log.rotate() is not None
        assert seqs(folder, user="alice") == list(range(60, 30, -1))
        assert seqs(folder, q="alice", min_risk=10) == list(range(60, 30, -1))
        assert seqs(folder, rule="notes-diary") == list(range(90, 0, -1))
        dropped = record(event_type="segment_dropped", details=log.segments[0].as_json())
        assert await log.drop(log.segments[0], dropped)
        with following(folder):
            until(lambda: b"rosalind" not in bytes_of(folder))
        assert seqs(folder, rule="notes-diary") == list(range(90, 30, -1))
        remove_index(folder)
        index(folder)
        assert seqs(folder, q="notes diary") == list(range(90, 30, -1))
        await log.close()

    asyncio.run(story())


def test_the_follower_keeps_up_with_what_is_written_while_it_follows(
    folder: Path, open_log: Open, decided: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "BATCH_ROWS", 16)
    write(open_log, decided())
    with following(folder) as follows:
        write(open_log, *(decided() for _ in range(100)))
        until(lambda: follows.state.indexed == 101)
        follows.rebuild()
        until(lambda: follows.state.indexed == 101)
    assert len(seqs(folder, plugin="notes")) == 101


def test_many_blocks_answer_as_one(
    folder: Path, open_log: Open, decided: Make, record: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = people(decided, record, 400)
    made[200] = record(at=START - timedelta(days=3), plugin_id="notes")
    write(open_log, *made)
    plain = [seqs(folder, **wanted) for wanted in FILTERS]
    for module in (blocks, __import__("gateway.audit.index.lookup", fromlist=["x"])):
        monkeypatch.setattr(module, "BLOCK", 64)
    index(folder)
    assert [seqs(folder, **wanted) for wanted in FILTERS] == plain
    long_ago = {"since": START - timedelta(days=4), "until": START - timedelta(days=1)}
    assert seqs(folder, **long_ago) == [201]
