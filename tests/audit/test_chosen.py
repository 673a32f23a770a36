import asyncio
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit import chosen as chosen_file
from gateway.audit.chosen import Chosen, choose
from gateway.audit.export import Export, ExportRequest, begin_export
from gateway.audit.index.entry import entry_of
from gateway.audit.index.schema import FILE, remove_index
from gateway.audit.index.store import IndexStore
from gateway.audit.log import DecisionLog
from gateway.audit.numbers import Numbers
from gateway.audit.query import LogReader
from gateway.audit.row import row_of
from gateway.audit.verify import verify_file
from gateway.audit.wanted import Filter
from gateway.domain.decision import Effect
from gateway.domain.record import Record
from gateway.errors import LogUnavailableError

Open = Callable[[], DecisionLog]
Make = Callable[..., Record]
ROWS = 700  # full tiles, and a part of one
USERS = ("alice", "bob", "jörg", "alice smith")
PLUGINS = ("notes", "mail", "files")


@pytest.fixture
def made(decided: Make) -> list[Record]:
    return [
        decided(
            user=USERS[number % 4],
            plugin=PLUGINS[number % 3],
            effect=Effect.DENY if number % 5 == 0 else Effect.ALLOW,
            risk=number % 101,
        )
        for number in range(ROWS)
    ]


@pytest.fixture
def written(open_log: Open, made: list[Record]) -> list[Record]:
    async def story() -> None:
        log = open_log()
        await log.append(*made[:300])
        assert await log.rotate()
        await log.append(*made[300:])
        await log.close()

    asyncio.run(story())
    return made


def index(folder: Path, up_to: int) -> None:
    """Index the first records, as the follower does."""
    found = LogReader(folder).stored(range(1, up_to + 1))
    store = IndexStore(folder)
    try:
        store.add([entry_of(row_of(stored)) for stored in found], found[-1][2])
    finally:
        store.close()


def chosen(folder: Path, wanted: Filter) -> Chosen:
    with LogReader(folder).whole() as whole:
        return choose(folder, whole, wanted)


def numbers(found: Chosen) -> list[int]:
    return list(found.numbers.between(1, found.up_to))


def begin(open_log: Open, folder: Path, wanted: Filter, new_id: Callable[[], str]) -> tuple[Export, str]:
    async def story() -> tuple[Export, str]:
        log = open_log()
        request = ExportRequest(event_id=f"audit-{new_id()}", at=log._now(), user_id=None, wanted=wanted)
        try:
            return await begin_export(log, folder, request), log.verifier
        finally:
            await log.close()

    return asyncio.run(story())


@pytest.mark.parametrize("indexed", [1, 299, 300, 301, 512, ROWS])
def test_an_index_changes_no_byte_of_a_filtered_export(
    folder: Path, open_log: Open, written: list[Record], new_id: Callable[[], str], tmp_path: Path, indexed: int
) -> None:
    middle = written[ROWS // 2].at
    wishes = [
        Filter(plugin="mail"),
        Filter(user="alice", effect="deny"),
        Filter(min_risk=70, since=middle),
        Filter(since=middle, until=middle + timedelta(milliseconds=90)),
        Filter(q='"alice smith" diary'),
        Filter(q="not* jorg", plugin="notes"),
        Filter(user="nobody"),
        Filter(user="al\ud800ice"),
    ]
    for wanted in wishes:
        remove_index(folder)
        index(folder, indexed)
        begun, key = begin(open_log, folder, wanted, new_id)
        assert begun.chosen is not None
        remove_index(folder)
        read = [each for each in numbers(chosen(folder, wanted)) if each <= begun.chosen.up_to]
        without = replace(begun, chosen=replace(begun.chosen, numbers=Numbers(read)))
        path = tmp_path / "part.jsonl"
        path.write_bytes(b"".join(begun.chunks()))
        assert path.read_bytes() == b"".join(without.chunks())
        result = verify_file(path, key=key)
        assert result.ok, result.findings
        assert result.lines == begun.rows + 1


NAMES = st.sampled_from(
    [None, "alice", "bob", "notes", "mail", "nobody", "access_denied", "security", "deny", "rule-1"]
)
WORDS = st.none() | st.sampled_from(["alice", "diary", "nobody", "sm*", '"user data diary"', "jorg notes"])


def test_whatever_is_asked_for_the_index_and_the_log_choose_the_same(
    folder: Path, written: list[Record], tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(folder, bare)
    index(folder, 600)
    first = written[0].at
    moments = st.none() | st.integers(-5, 1500).map(lambda each: first + timedelta(milliseconds=each))

    @given(
        wanted=st.builds(
            Filter,
            plugin=NAMES,
            user=NAMES,
            event_type=NAMES,
            category=NAMES,
            effect=NAMES,
            rule=NAMES,
            min_risk=st.none() | st.integers(-5, 130),
            since=moments,
            until=moments,
            q=WORDS,
        )
        | st.builds(Filter, user=st.sampled_from(USERS), min_risk=st.none() | st.integers(0, 100), q=WORDS)
        | st.builds(Filter, since=moments, until=moments, plugin=st.sampled_from(PLUGINS))
    )
    def check(wanted: Filter) -> None:
        known, read = chosen(folder, wanted), chosen(bare, wanted)
        assert numbers(known) == numbers(read)
        assert (known.leaves_sha256, known.up_to) == (read.leaves_sha256, read.up_to)

    check()


def test_the_index_is_asked_and_only_what_it_names_is_read(
    folder: Path, written: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    index(folder, ROWS)
    asked: list[str] = []
    turn = chosen_file._turn
    monkeypatch.setattr(
        chosen_file, "_turn", lambda connection, sql, *more: asked.append(sql) or turn(connection, sql, *more)
    )  # type: ignore[func-returns-value] # it notes, and goes on
    assert chosen(folder, Filter(plugin="mail")).numbers.count == len(
        [1 for each in written if each.plugin_id == "mail"]
    )
    assert [sql.count(" IN (") for sql in asked] == [1, 0, 1, 0]


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize("damage", ["torn", "of another log", "gone"])
def test_an_index_that_cannot_be_believed_is_not_asked(folder: Path, damage: str) -> None:
    expected = numbers(chosen(folder, Filter(plugin="mail")))
    index(folder, ROWS)
    if damage == "torn":
        with (folder / FILE).open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * ((folder / FILE).stat().st_size - 4096))
    elif damage == "of another log":
        store = IndexStore(folder)
        store._connection.execute("UPDATE head SET last = zeroblob(32)")
        store._connection.execute("DELETE FROM bits")
        store.close()
    else:
        remove_index(folder)
    assert numbers(chosen(folder, Filter(plugin="mail"))) == expected


@pytest.mark.usefixtures("written")
def test_that_the_index_is_far_behind_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen_file, "TOLD_FROM", 100)
    index(folder, 512)
    assert chosen(folder, Filter(plugin="mail")).note == (
        f"slower than usual: the index names none of {ROWS - 512} of {ROWS} records, each was read"
    )
    remove_index(folder)
    index(folder, ROWS)
    assert chosen(folder, Filter(plugin="mail")).note is None


@pytest.mark.usefixtures("written")
def test_who_is_erased_while_an_export_that_names_them_goes_on_does_not_leave_with_it(
    folder: Path, open_log: Open, new_id: Callable[[], str]
) -> None:
    begun, _ = begin(open_log, folder, Filter(user="bob"), new_id)

    async def forget() -> None:
        log = open_log()
        await log.forget("bob")
        await log.close()

    chunks = begun.chunks()
    asyncio.run(forget())
    with pytest.raises(LogUnavailableError, match="gone since this export began"):
        next(chunks)


@pytest.mark.usefixtures("written")
def test_an_export_whose_records_were_dropped_meanwhile_ends_in_an_error(
    folder: Path, open_log: Open, new_id: Callable[[], str], decided: Make
) -> None:
    begun, _ = begin(open_log, folder, Filter(plugin="mail"), new_id)

    async def drop() -> None:
        log = open_log()
        assert await log.drop(log.segments[0], decided())
        await log.close()

    asyncio.run(drop())
    with pytest.raises(LogUnavailableError, match="gone since this export began"):
        b"".join(begun.chunks())


@given(st.sets(st.integers(1, 70_000), max_size=400), st.integers(1, 70_000), st.integers(1, 70_000), st.integers(1, 9))
def test_numbers_are_given_as_they_were_taken_in(wanted: set[int], first: int, last: int, length: int) -> None:
    kept = Numbers(sorted(wanted))
    assert kept.count == len(wanted)
    assert [*kept.between(1, 70_000)] == sorted(wanted)
    pages = [*kept.pages(first, last, length)]
    assert [each for page in pages for each in page] == [each for each in sorted(wanted) if first <= each <= last]
    assert all(len(page) == length for page in pages[:-1])
