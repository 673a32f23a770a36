"""A person is forgotten in every file of the log, others are not, and what was committed still verifies."""

import asyncio
import base64
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.decisions import read_decisions
from gateway.audit.export import ExportRequest, begin_export
from gateway.audit.log import DecisionLog
from gateway.audit.naming import Mentions
from gateway.audit.query import LogReader
from gateway.audit.verify import Verification, verify_file
from gateway.audit.wanted import Filter
from gateway.domain.record import Record

Open = Callable[[], DecisionLog]
Make = Callable[..., Record]
USER = "rosalind.k"


def spellings(text: str) -> set[bytes]:
    raw = text.encode()
    return {raw, text.encode("utf-16-le"), raw.hex().encode(), base64.b64encode(raw).rstrip(b"=")[:-1]}


def holders(folder: Path, *texts: str) -> list[str]:
    wanted = set().union(*map(spellings, texts))
    return [
        f"{each.relative_to(folder)}: {found!r}"
        for each in folder.rglob("*")
        if each.is_file()
        for found in wanted
        if found in each.read_bytes()
    ]


def export(log: DecisionLog, folder: Path, path: Path, new_id: Callable[[], str]) -> Verification:
    async def story() -> bytes:
        asked = ExportRequest(event_id=f"audit-{new_id()}", at=log._now(), user_id=None)
        begun = await begin_export(log, folder, asked)
        return await asyncio.to_thread(lambda: b"".join(begun.chunks()))

    path.write_bytes(asyncio.run(story()))
    return verify_file(path, key=log.verifier)


def test_a_person_is_gone_from_every_file_and_the_log_still_verifies(
    folder: Path, tmp_path: Path, open_log: Open, decided: Make, record: Make, new_id: Callable[[], str]
) -> None:
    async def story() -> DecisionLog:
        log = open_log()
        for number in range(600):
            await log.append(decided(user=USER if number % 3 == 0 else f"user{number % 50}"))
            if number in {200, 450}:
                assert await log.rotate()
        await log.append(
            record(user_id="bob", personal={"reason": f"{USER} asked", "holder": "carol", "note": f"not {USER}-smith"}),
            record(user_id="bob", personal={"scope": f"consents/{USER}"}),
        )
        assert holders(folder, USER)
        done = await log.forget(USER)
        assert (len(done.records), len(done.others), len(done.pseudonyms)) == (200, 2, 1)
        return log

    log = asyncio.run(story())
    assert holders(folder, f"{USER} asked", f"consents/{USER}", f'"{USER}"') == []
    result = export(log, folder, tmp_path / "all.jsonl", new_id)
    assert result.ok, result.findings
    rows = LogReader(folder).find(Filter(), limit=1000).rows
    assert sum(row["user_id"] is None for row in rows) == 200 + 1
    named = next(row for row in rows if "holder" in row["details"])
    assert (named["user_id"], named["details"]) == ("bob", {"holder": "carol", "note": f"not {USER}-smith"})
    told = list(read_decisions(folder))
    assert sum(erased for _, _, erased in told) >= 200
    asyncio.run(log.close())
    assert holders(folder, f"{USER} asked", f'"{USER}"') == []
    asyncio.run(open_log().close())


def test_acts_stay_linked_by_a_pseudonym_and_new_ones_get_another(folder: Path, open_log: Open, decided: Make) -> None:
    async def story() -> None:
        log = open_log()
        await log.append(decided(user=USER), decided(user="bob"))
        await log.rotate()
        await log.append(decided(user=USER))
        await log.forget(USER)
        await log.append(decided(user=USER), decided(user="bob"))
        await log.close()

    asyncio.run(story())
    rows = LogReader(folder).find(Filter()).rows[::-1]
    old, bob, second, new, later = (row["person"] for row in rows)
    assert old == second != new
    assert bob == later
    assert [row["user_id"] for row in rows] == [None, "bob", None, USER, "bob"]
    assert {row["decision"]["scope"] for row in rows if row["user_id"] is None} == {None}


def test_what_is_appended_while_somebody_is_erased_never_joins_the_old_pseudonym_to_the_name(
    folder: Path, open_log: Open, decided: Make
) -> None:
    async def story() -> set[str]:
        log = open_log()
        await log.append(*(decided(user=USER) for _ in range(50)))
        old = {row["person"] for row in LogReader(folder).find(Filter()).rows}

        async def caller() -> None:
            for _ in range(60):
                await log.append(decided(user=USER), decided(user="bob"))

        callers = [asyncio.create_task(caller()) for _ in range(8)]
        await asyncio.sleep(0.01)
        for _ in range(3):
            await log.forget(USER)
        await asyncio.gather(*callers)
        await log.close()
        return old

    old = asyncio.run(story())
    rows = LogReader(folder).find(Filter(), limit=1000).rows
    assert len(rows) == 1000 or len(rows) == 50 + 8 * 120
    nameless = {row["person"] for row in rows if row["user_id"] is None}
    named = {row["person"] for row in rows if row["user_id"] == USER}
    assert old <= nameless
    assert not nameless & named
    assert all(row["user_id"] for row in rows if row["person"] not in nameless)


KILLED = """
import asyncio, os, signal, sys, uuid
from datetime import UTC, datetime
from pathlib import Path
from gateway.audit import erase, log, store
from gateway.audit.log import DecisionLog

def now():
    return datetime.now(UTC)

def dying(step, after):
    def run(*given, **more):
        if after:
            step(*given, **more)
        os.kill(os.getpid(), signal.SIGKILL)
    return run

async def main(folder, place, name, after):
    opened = DecisionLog.open(folder, now=now, new_id=lambda: str(uuid.uuid4()))
    target = {"erase": erase, "log": log, "store": store, "Store": store.Store, "Path": Path}[place]
    setattr(target, name, dying(getattr(target, name), after))
    await opened.forget("rosalind.k")

asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4] == "after"))
"""
STEPS = (("store", "forget_in"), ("erase", "_copy"), ("erase", "forget_in"), ("Path", "replace"), ("Store", "scrub"))


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("place", "name"), STEPS)
def test_killed_at_any_step_it_is_finished_by_doing_it_again(  # noqa: PLR0913, PLR0917 (the place of death, and fixtures)
    folder: Path,
    tmp_path: Path,
    open_log: Open,
    decided: Make,
    new_id: Callable[[], str],
    place: str,
    name: str,
    when: str,
) -> None:
    async def write() -> None:
        log = open_log()
        for _ in range(3):
            await log.append(decided(user=USER), decided(user="bob"))
            await log.rotate()
        await log.append(decided(user=USER))
        await log.close()

    asyncio.run(write())
    ended = subprocess.run([sys.executable, "-c", KILLED, str(folder), place, name, when], check=False)
    assert ended.returncode == -signal.SIGKILL
    log = open_log()
    asyncio.run(log.forget(USER))
    assert holders(folder, USER) == []
    result = export(log, folder, tmp_path / "all.jsonl", new_id)
    assert (result.ok, result.lines) == (True, 8), result.findings
    asyncio.run(log.close())


MENTIONS = [
    ("alice", "alice", True),
    ("alice", "user:alice", True),
    ("alice", "consents/alice/diary", True),
    ("alice", "as alice.", True),
    ("alice", "“alice”", True),
    ("alice", "(alice)\nalice,", True),
    ("alice", "alice.smith", False),
    ("alice", "alice@example.com", False),
    ("alice", "malice", False),
    ("alice", "x-alice", False),
    ("alice", "alice2", False),
    ("a.b", "a.b", True),
    ("a.b", "axb", False),
    ("a.b", "z.a.b", False),
    ("a+b@c", "mail a+b@c now", True),
    ("a+b@c", "/people/a%2Bb%40c/mail", True),
    ("alice", "notes%2Falice%2Fdiary", True),
    ("alice", "/%61lice", True),
    ("alice", "/%61%6C%69%63%65", True),
    ("alice", "/%2561lice", True),
    ("alice", "alice %2561lice %61lice", True),
    ("alice", "x%2Dalice", False),
    ("alice", "100%alic", False),
    ("jörg", "/j%C3%B6rg", True),
]


@pytest.mark.parametrize(("user", "text", "named"), MENTIONS)
def test_a_name_is_found_where_it_stands_as_a_word(user: str, text: str, *, named: bool) -> None:
    assert Mentions(user).in_text(text) is named
    assert Mentions(user).in_value({"a": [{"b": text}]}) is named
    assert Mentions(user).in_value({text: 1}) is named
    assert (Mentions(user).renamed(text, "nobody") != text) is named


@given(user=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,20}\Z"), text=st.text())
def test_a_name_between_blanks_is_always_found_and_renaming_leaves_none(user: str, text: str) -> None:
    mentions = Mentions(user)
    assert mentions.in_text(f"{text} {user} {text}")
    assert not mentions.in_text(mentions.renamed(f"{text} {user} {text}", "#"))
