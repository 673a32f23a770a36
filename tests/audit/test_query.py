import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.audit import search as search_module
from gateway.audit.checkpoint import parse_note
from gateway.audit.chosen import choose
from gateway.audit.export import Export
from gateway.audit.log import DecisionLog
from gateway.audit.merkle import proves_consistency, proves_inclusion
from gateway.audit.query import LogReader
from gateway.audit.wanted import Filter
from gateway.domain.decision import Effect
from gateway.domain.record import Record
from gateway.errors import LogUnavailableError, MalformedError, NotFoundError, UnavailableError, VerificationError

Open = Callable[[], DecisionLog]
Make = Callable[..., Record]


def write(open_log: Open, *records: Record) -> None:
    async def story() -> None:
        log = open_log()
        await log.append(*records)
        await log.close()

    asyncio.run(story())


def seqs(folder: Path, **wanted: Any) -> list[int]:  # noqa: ANN401 # members of a filter
    return [row["seq"] for row in LogReader(folder).find(Filter(**wanted)).rows]


def test_each_filter_gives_the_records_it_describes_newest_first(
    folder: Path, open_log: Open, record: Make, decided: Make
) -> None:
    write(
        open_log,
        record(),
        decided(user="alice"),
        decided(user="bob", effect=Effect.DENY, risk=80, plugin="weather"),
        decided(user="alice", risk=75),
        record(event_type="policy_activated", details={"files": "100%_done\\"}, personal={"reason": 'said "Grüße"'}),
    )
    assert seqs(folder) == [5, 4, 3, 2, 1]
    assert seqs(folder, user="alice") == [4, 2]
    assert seqs(folder, plugin="weather") == [3]
    assert seqs(folder, effect="deny") == [3]
    assert seqs(folder, effect="allow", min_risk=70) == [4]
    assert seqs(folder, category="policy") == [5]
    assert seqs(folder, event_type="access_granted") == [4, 2]
    assert seqs(folder, plugin="nobody' OR 1=1 --") == []
    assert seqs(folder, user="\ud800") == []
    assert seqs(folder, q="grüße") == [5]
    assert seqs(folder, q='"GRÜSSE"') == []
    assert seqs(folder, q="100%_done\\") == [5]
    assert seqs(folder, q="100%x") == []
    assert seqs(folder, q="SAID grü*") == [5]
    assert seqs(folder, q='"said Grüße"') == [5]
    assert seqs(folder, q='"grüße said"') == []
    assert seqs(folder, rule="notes-diary", user="bob") == [3]


def test_a_time_range_is_found_over_full_tiles_and_a_clock_that_jumped(
    folder: Path, open_log: Open, record: Make
) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    times = [start + timedelta(seconds=number) for number in range(700)]
    times[300] = start - timedelta(days=1)
    times[650] = start + timedelta(days=1)
    write(open_log, *(record(at=at) for at in times))
    for since, until in ((0, 10), (250, 520), (299, 302), (600, 800), (-90_000, -80_000), (86_000, 90_000), (800, 900)):
        low, high = start + timedelta(seconds=since), start + timedelta(seconds=until)
        wanted = [number for number, at in enumerate(times, 1) if low <= at < high]
        assert LogReader(folder).find(Filter(since=low, until=high), limit=1000).rows == [
            LogReader(folder).find(Filter(), limit=1000).rows[700 - number] for number in reversed(wanted)
        ]


def test_pages_follow_each_other_without_gap_or_repetition(folder: Path, open_log: Open, record: Make) -> None:
    write(open_log, *(record() for _ in range(25)))
    reader, found, cursor = LogReader(folder), [], None
    while True:
        page = reader.find(Filter(), limit=10, cursor=cursor)
        found += [row["seq"] for row in page.rows]
        cursor = page.cursor
        if cursor is None:
            break
    assert found == list(range(25, 0, -1))


@pytest.mark.parametrize(
    "asked",
    [
        {"limit": 0},
        {"limit": 1001},
        {"cursor": "x"},
        {"cursor": "s-1"},
        {"cursor": "s" + "9" * 30},
        {"cursor": "s\u0667"},
        {"wanted": Filter(q="x" * 201)},
        {"wanted": Filter(q="")},
        {"wanted": Filter(q="- _ *")},
        {"wanted": Filter(q='an "open quote')},
        {"wanted": Filter(q="a*")},
        {"wanted": Filter(q="a " * 17)},
    ],
)
def test_what_cannot_be_understood_is_said(folder: Path, open_log: Open, asked: dict[str, Any]) -> None:
    write(open_log)
    with pytest.raises(MalformedError):
        LogReader(folder).find(**({"wanted": Filter()} | asked))


def test_a_search_that_takes_too_long_ends(
    folder: Path, open_log: Open, record: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(open_log, *(record() for _ in range(500)))
    monkeypatch.setattr(search_module, "BUDGET_S", -1.0)
    with pytest.raises(UnavailableError, match="takes too long"):
        LogReader(folder).find(Filter(q="nothing"))


def test_a_decision_an_intent_and_its_outcome_are_found_by_their_ids(
    folder: Path, open_log: Open, record: Make, decided: Make
) -> None:
    made = decided()
    intent = record(event_type="execution_started", plugin_id="notes")
    pending = record(event_type="execution_started", plugin_id="notes")
    outcome = record(event_type="execution_completed", plugin_id="notes", ref=intent.event_id)
    write(open_log, made, intent, pending, outcome)
    reader = LogReader(folder)
    assert made.decision is not None
    found = reader.decision(made.decision.decision_id)
    assert found is not None
    assert found["decision"] == made.decision.as_json()
    ended = reader.outcome(intent.event_id)
    assert ended is not None
    assert (ended["event_id"], ended["ref"]) == (outcome.event_id, intent.event_id)
    assert reader.outcome(pending.event_id) is None
    assert reader.decision(intent.event_id.removeprefix("audit-")) is None
    with pytest.raises(MalformedError):
        reader.decision("x' OR 1=1")


def test_proofs_from_the_database_hold_at_every_size(folder: Path, open_log: Open, record: Make) -> None:
    made = [record() for _ in range(600)]
    notes = []

    async def story() -> None:
        log = open_log()
        for begin, end in ((0, 1), (1, 255), (255, 256), (256, 512), (512, 600)):
            await log.append(*made[begin:end])
            notes.append(parse_note(await log.checkpoint()))
        await log.close()

    asyncio.run(story())
    reader = LogReader(folder)
    for note in notes:
        for number in (1, note.size // 2 + 1, note.size):
            _, index, proof = reader.inclusion(made[number - 1].event_id, note.size)
            row = reader.get(made[number - 1].event_id)
            assert row is not None
            assert proves_inclusion(index, note.size, bytes.fromhex(row["leaf"]), proof, note.root)
        for later in notes:
            if later.size >= note.size:
                proof = reader.consistency(note.size, later.size)
                assert proves_consistency(note.size, later.size, (note.root, later.root), proof)
    assert reader.checkpoint() == notes[-1].text
    with pytest.raises(NotFoundError):
        reader.consistency(1, 601)
    with pytest.raises(NotFoundError):
        reader.inclusion(made[300].event_id, 256)


def test_a_reader_cannot_write(folder: Path, open_log: Open) -> None:
    write(open_log)

    def attack() -> None:
        with LogReader(folder).connect() as connection:
            connection.execute("DELETE FROM pii")

    with pytest.raises(LogUnavailableError, match="readonly"):
        attack()


def test_without_a_log_the_answer_is_an_error_and_no_file_is_made(folder: Path) -> None:
    with pytest.raises(LogUnavailableError):
        LogReader(folder).find(Filter())
    assert not folder.exists()


def test_an_erased_record_shows_nothing_of_the_person(folder: Path, open_log: Open, decided: Make) -> None:
    write(open_log, decided(user="rosalind"))
    with sqlite3.connect(folder / "audit.db") as connection:
        connection.execute("DELETE FROM pii")
    connection.close()
    (row,) = LogReader(folder).find(Filter()).rows
    assert (row["user_id"], row["decision"]["user"], row["decision"]["scope"], row["replay"]) == (None,) * 4
    assert row["salt"] == {}
    assert row["decision"]["effect"] == "allow"


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"v":1}', "\x00", "[" * 10_000])
def test_a_record_changed_in_the_database_is_an_answer_that_names_it(
    content: str, folder: Path, open_log: Open, record: Make
) -> None:
    write(open_log, record(), record())
    with sqlite3.connect(folder / "audit.db") as connection:
        connection.execute("DROP TRIGGER record_keeps")
        connection.execute("UPDATE record SET committed = ? WHERE seq = 2", (content,))
    connection.close()
    with pytest.raises(VerificationError, match=r"record 2 in audit\.db was changed"):
        LogReader(folder).find(Filter())


def test_an_export_by_words_is_read_in_whatever_thread_is_free(folder: Path, open_log: Open, decided: Make) -> None:
    write(open_log, *(decided() for _ in range(3)))
    wanted = Filter(q="diary")
    with LogReader(folder).whole() as whole:
        chosen = choose(folder, whole, wanted)
    export = Export(folder=folder, wanted=wanted, chosen=chosen, seq=3, note="", first=1)
    chunks = export.chunks()
    pieces = []
    for _ in range(2):
        with ThreadPoolExecutor(1) as thread:
            pieces.append(thread.submit(next, chunks).result())
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(next, chunks, None).result() is None
    assert b"".join(pieces).count(b"\n") == 4
