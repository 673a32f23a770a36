"""Proofs, compared with another implementation and read back by one who has only the text."""

import asyncio
import base64
import itertools
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymerkle import InmemoryTree, verify_consistency

from gateway.audit import merkle
from gateway.audit.checkpoint import LogKey, parse_note, parse_verifier
from gateway.audit.log import DecisionLog
from gateway.audit.proof import check_consistency, check_inclusion, prove_consistency, prove_inclusion, read_tlog_proof
from gateway.audit.query import LogReader
from gateway.domain.record import Record
from gateway.errors import NotFoundError, VerificationError

MOST = 130
ORACLE = InmemoryTree(algorithm="sha256")
for _number in range(MOST):
    ORACLE.append_entry(_number.to_bytes(2, "big"))
LEAVES = [merkle.leaf_hash(number.to_bytes(2, "big")) for number in range(MOST)]


def root_of(hashes: list[bytes]) -> bytes:
    frontier = merkle.Frontier()
    frontier.extend(hashes)
    return frontier.root()


def node(level: int, index: int) -> bytes:
    return root_of(LEAVES[index << level : (index + 1) << level])


@pytest.mark.parametrize("size", range(1, MOST + 1))
def test_roots_are_those_of_another_implementation(size: int) -> None:
    assert root_of(LEAVES[:size]) == merkle.root_at(size, node) == ORACLE.get_root(size)


@given(st.integers(1, MOST), st.data())
def test_proofs_are_those_of_another_implementation(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    proof = merkle.inclusion_proof(index, size, node)
    theirs = ORACLE.prove_inclusion(index + 1, size).serialize()["path"]
    assert sorted(each.hex() for each in [*proof, LEAVES[index]]) == sorted(theirs)
    assert merkle.proves_inclusion(index, size, LEAVES[index], proof, ORACLE.get_root(size))
    old = data.draw(st.integers(1, size))
    grown = merkle.consistency_proof(old, size, node)
    assert merkle.proves_consistency(old, size, (ORACLE.get_root(old), ORACLE.get_root(size)), grown)
    # Their proof of the same growth, which has a form of its own, leads from and to our roots.
    verify_consistency(root_of(LEAVES[:old]), root_of(LEAVES[:size]), ORACLE.prove_consistency(old, size))


@given(st.lists(st.integers(0, MOST), max_size=6))
def test_leaves_added_in_pieces_of_any_size_make_the_same_tree(cuts: list[int]) -> None:
    places = sorted({0, MOST, *cuts})
    frontier = merkle.Frontier()
    for begin, end in itertools.pairwise(places):
        frontier.extend(LEAVES[begin:end])
        assert frontier.root() == ORACLE.get_root(end)
        assert frontier.size == end


@pytest.fixture
def log_of_nine(
    folder: Path, open_log: Callable[[], DecisionLog], record: Callable[..., Record]
) -> tuple[LogReader, list[Record], list[str], str]:
    made = [record() for _ in range(9)]
    notes: list[str] = []

    async def story() -> str:
        log = open_log()
        for begin, end in ((0, 4), (4, 9)):
            await log.append(*made[begin:end])
            notes.append(await log.checkpoint())
        await log.close()
        return log.verifier

    key = asyncio.run(story())
    return LogReader(folder), made, notes, key


def test_a_tlog_proof_is_read_back_and_proves_its_record_alone(
    log_of_nine: tuple[LogReader, list[Record], list[str], str],
) -> None:
    reader, made, notes, key = log_of_nine
    verifier = parse_verifier(key)
    for seq, each in enumerate(made, 1):
        proven = prove_inclusion(reader, each.event_id, notes[1])
        assert proven.text.startswith(f"c2sp.org/tlog-proof@v1\nindex {seq - 1}\n")
        assert proven.text.endswith(f"\n\n{notes[1]}")
        assert check_inclusion(proven.text, proven.leaf, verifier).size == 9
        other = prove_inclusion(reader, made[seq % 9].event_id, notes[1])
        with pytest.raises(VerificationError, match="does not lead"):
            check_inclusion(proven.text, other.leaf, verifier)
    with_extra = proven.text.replace("\nindex", "\nextra YQ==\nindex", 1)
    assert read_tlog_proof(with_extra) == read_tlog_proof(proven.text)
    with pytest.raises(VerificationError, match="not signed"):
        check_inclusion(proven.text, proven.leaf, LogKey(verifier.name, bytes(32)).verifier)
    with pytest.raises(NotFoundError):
        prove_inclusion(reader, made[8].event_id, notes[0])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _text: "",
        lambda text: text.replace("@v1", "@v2"),
        lambda text: text.replace("index 8", "index 08"),
        lambda text: text.replace("index 8", "index -8"),
        lambda text: text.replace("index 8", "index \u0668"),
        lambda text: text.replace("index 8\n", ""),
        lambda text: text.replace("\n\n", "\n", 1),
        lambda text: text.replace("index 8\n", "index 8\n=\n"),
        lambda text: text.replace("index 8\n", "index 8\n" + base64.b64encode(bytes(32)).decode() * 70),
        lambda _text: "c2sp.org/tlog-proof@v1\nindex 1\n" + "AA==\n" * 1000 + "\n",
    ],
)
def test_what_is_no_tlog_proof_is_refused(
    spoil: Callable[[str], str], log_of_nine: tuple[LogReader, list[Record], list[str], str]
) -> None:
    reader, made, notes, _ = log_of_nine
    proven = prove_inclusion(reader, made[8].event_id, notes[1])
    with pytest.raises(VerificationError):
        check_inclusion(spoil(proven.text), proven.leaf, None)


def test_growth_is_proved_between_checkpoints_and_a_rewritten_log_is_told(
    log_of_nine: tuple[LogReader, list[Record], list[str], str], tmp_path: Path, record: Callable[..., Record]
) -> None:
    reader, _, notes, key = log_of_nine
    verifier, old = parse_verifier(key), parse_note(notes[0])
    found = prove_consistency(reader, old.size, notes[1]).as_json()
    assert check_consistency(old, found, verifier).size == 9
    for spoilt in ({**found, "proof": found["proof"][1:]}, {**found, "proof": "x"}, {**found, "checkpoint": "x"}, {}):
        with pytest.raises(VerificationError):
            check_consistency(old, spoilt, verifier)

    async def other() -> dict[str, Any]:
        (tmp_path / "rewritten").mkdir()
        (tmp_path / "data" / "keys").rename(tmp_path / "rewritten" / "keys")
        log = DecisionLog.open(tmp_path / "rewritten", now=lambda: record().at, new_id=lambda: str(uuid.uuid4()))
        await log.append(*(record() for _ in range(9)))
        note = await log.checkpoint()
        await log.close()
        return prove_consistency(LogReader(tmp_path / "rewritten"), old.size, note).as_json()

    with pytest.raises(VerificationError, match="history was rewritten"):
        check_consistency(old, asyncio.run(other()), verifier)
