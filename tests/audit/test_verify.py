"""An auditor who trusts nobody, and the ways to deceive one."""

import asyncio
import base64
import hashlib
import json
import re
import shutil
import sqlite3
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.audit import canonical, chunk
from gateway.audit.checkpoint import LogKey
from gateway.audit.decided import SAME_USER
from gateway.audit.export import ExportRequest, begin_export
from gateway.audit.key_files import read_or_make_key
from gateway.audit.log import DecisionLog
from gateway.audit.merkle import leaf_hash
from gateway.audit.query import LogReader
from gateway.audit.verification import FILTERED_NOTE, MAX_FINDINGS, UNSIGNED_NOTE, Verification
from gateway.audit.verify import verify_file
from gateway.audit.wanted import Filter
from gateway.domain.decision import Effect
from gateway.domain.record import Record
from gateway.errors import VerificationError

ROWS = 12
Exported = dict[str, Any]


@pytest.fixture
def exported(
    folder: Path,
    open_log: Callable[[], DecisionLog],
    decided: Callable[..., Record],
    record: Callable[..., Record],
    new_id: Callable[[], str],
) -> Exported:
    """A log of 12 records and its own, exported whole, filtered and whole again, with the checkpoints on the way."""
    result: Exported = {}

    async def export(log: DecisionLog, name: str, wanted: Filter) -> None:
        request = ExportRequest(
            event_id=f"audit-{new_id()}", at=record().at, user_id="eve", wanted=wanted, trace_id=name
        )
        result[name] = b"".join((await begin_export(log, folder, request)).chunks()).splitlines()

    async def story() -> None:
        log = open_log()
        await log.append(*(decided(user="alice") for _ in range(4)))
        result["older"] = await log.checkpoint()
        nasty = record(
            details={"a": [1.5, 1e300, "\ud800", "\x00", float("nan")], "é\x1f": {}}, personal={"b\x1f": 1e-7}
        )
        await log.append(nasty, *(decided(user="bob", effect=Effect.DENY) for _ in range(ROWS - 5)))
        await export(log, "whole", Filter())
        await export(log, "filtered", Filter(user="bob"))
        await export(log, "later", Filter())
        result["key"] = log.verifier
        await log.close()

    asyncio.run(story())
    return result


@pytest.fixture
def verify(tmp_path: Path) -> Callable[..., Verification]:
    def run(lines: list[bytes], **how: Any) -> Verification:  # noqa: ANN401 # what verify_file takes
        path = tmp_path / "export.jsonl"
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        return verify_file(path, **how)

    return run


def changed(line: bytes, **members: Any) -> bytes:  # noqa: ANN401 # members of a line
    return canonical.encode_in_order(canonical.decode_exact(line) | members)


def salted(line: bytes, **salts: str) -> bytes:
    return changed(line, salt=json.loads(line)["salt"] | salts)


def rehashed(line: bytes) -> bytes:
    """What somebody who knows the format does after changing a line."""
    row = canonical.decode_exact(line)
    if row["personal"].get("decision.user") == SAME_USER:
        row["decision"]["user"] = row["user_id"]
    for name, salt in row["salt"].items():
        place, _, member = name.rpartition(".")
        value = row[place][member] if place else row[name]
        opened = bytes.fromhex(salt) + name.encode() + b"\x1f" + canonical.encode(value)
        row["personal"][name] = hashlib.sha256(opened).hexdigest()
    kept = {name: row[name] for name in ("leaf", "salt", "proof", "checkpoint", "user_id", "replay") if name in row}
    bare = canonical.decode_exact(canonical.encode({name: row[name] for name in row if name not in kept}))
    for name in row["personal"]:
        place, _, member = name.rpartition(".")
        if place:
            del bare[place][member]
    row["leaf"] = leaf_hash(canonical.encode(bare)).hex()
    return canonical.encode_in_order(row)


def test_what_the_log_exported_verifies(exported: Exported, verify: Callable[..., Verification]) -> None:
    for name, rows in (("whole", ROWS), ("later", ROWS + 2)):
        result = verify(exported[name], key=exported["key"], since=exported["older"])
        assert (result.findings, result.notes) == ([], [])
        assert (result.signer_checked, result.complete, result.lines, result.size) == (True, True, rows + 1, rows + 1)
    result = verify(exported["filtered"], key=exported["key"])
    assert (result.findings, result.notes) == ([], [FILTERED_NOTE])
    assert (result.complete, result.lines, result.size) == (False, ROWS - 5 + 1, ROWS + 2)


def test_the_older_file_is_a_beginning_of_the_later(exported: Exported, verify: Callable[..., Verification]) -> None:
    note = json.loads(exported["whole"][-1])["checkpoint"]
    assert verify(exported["later"], key=exported["key"], since=note).ok
    assert exported["later"][:ROWS] == exported["whole"][:ROWS]


def test_without_a_key_it_says_that_the_signer_was_not_checked(
    exported: Exported, verify: Callable[..., Verification]
) -> None:
    result = verify(exported["whole"])
    assert result.ok
    assert not result.signer_checked
    assert result.notes == [UNSIGNED_NOTE]


def drop(lines: list[bytes], *numbers: int) -> list[bytes]:
    return [line for number, line in enumerate(lines, 1) if number not in numbers]


def put(lines: list[bytes], number: int, line: bytes) -> list[bytes]:
    return [*lines[: number - 1], line, *lines[number:]]


def swap(lines: list[bytes], one: int, other: int) -> list[bytes]:
    return put(put(lines, one, lines[other - 1]), other, lines[one - 1])


TAMPERINGS: dict[str, tuple[Callable[[list[bytes]], list[bytes]], int | None, str]] = {
    "a public value is edited": (lambda lines: put(lines, 3, changed(lines[2], risk_score=1)), 3, "its content"),
    "a personal value is edited": (lambda lines: put(lines, 3, changed(lines[2], user_id="mallory")), 3, "user_id"),
    "a decision is edited": (lambda lines: put(lines, 7, lines[6].replace(b'"deny"', b'"allow"')), 7, "its content"),
    "a scope is edited": (lambda lines: put(lines, 3, lines[2].replace(b"/diary", b"/poems")), 3, "decision.scope"),
    "an erased value is put back": (
        lambda lines: put(lines, 3, changed(lines[2], salt={})),
        3,
        "nothing proves it",
    ),
    "a value is put in": (lambda lines: put(lines, 13, changed(lines[12], replay={})), 13, "never committed"),
    "a member is put in": (lambda lines: put(lines, 3, changed(lines[2], extra=1)), 3, "a member put in"),
    "a member is put into what is committed": (
        lambda lines: put(lines, 3, lines[2].replace(b',"seq":3', b',"sep":1,"seq":3')),
        3,
        "its content",
    ),
    "a member of the decision is put in": (
        lambda lines: put(lines, 3, lines[2].replace(b'"scope":', b'"effect":"allow","scope":')),
        3,
        "given twice",
    ),
    "members of the decision are swapped": (
        lambda lines: put(lines, 3, re.sub(rb'("scope":"[^"]*"),("user":"[^"]*"),', rb"\2,\1,", lines[2])),
        3,
        "moved",
    ),
    "a personal member is moved": (
        lambda lines: put(lines, 3, re.sub(rb'(,"user_id":"[^"]*")(.*)\}$', rb"\2\1}", lines[2])),
        3,
        "moved",
    ),
    "the user of a decision is another than the record's": (
        lambda lines: put(lines, 3, lines[2].replace(b'"user":"alice"', b'"user":"mallory"')),
        3,
        "not what `user_id` makes it",
    ),
    "a value is said to follow from another": (
        lambda lines: put(lines, 3, re.sub(rb'("decision.scope":")[0-9a-f]{64}', rb"\1=user_id", lines[2])),
        3,
        "`decision.scope` is not the value",
    ),
    "a salt is put in": (lambda lines: put(lines, 5, salted(lines[4], user_id="00" * 16)), 5, "a salt for"),
    "a salt is spelt otherwise": (
        lambda lines: put(
            lines, 3, re.sub(rb'("salt".*)$', lambda found: found[0].upper().replace(b"SALT", b"salt"), lines[2])
        ),
        3,
        "",
    ),
    "a leaf is edited": (lambda lines: put(lines, 3, changed(lines[2], leaf="00" * 32)), 3, "its content"),
    "a value is edited and all rehashed": (
        lambda lines: put(lines, 3, rehashed(changed(lines[2], user_id="mallory"))),
        None,
        "do not add up to the checkpoint: one of the lines 1 to 13",
    ),
    "a line is taken out": (lambda lines: drop(lines, 5), 5, "lines are missing before it"),
    "the first line is taken out": (lambda lines: drop(lines, 1), 1, "lines are missing before it"),
    "a line is repeated": (lambda lines: [*lines[:4], lines[3], *lines[4:]], 5, "put in, repeated or moved"),
    "two lines are swapped": (lambda lines: swap(lines, 4, 5), 4, "lines are missing before it"),
    "the end is cut off": (lambda lines: lines[:9], 9, "cut short"),
    "the file is cut in a line": (lambda lines: [*lines[:9], lines[9][:50]], 10, "cannot be read as JSON"),
    "a line is put behind the end": (lambda lines: [*lines, lines[3]], 14, "put in, repeated or moved"),
    "the checkpoint is taken out": (
        lambda lines: put(lines, 13, lines[12].partition(b',"checkpoint"')[0] + b"}"),
        13,
        "has no checkpoint",
    ),
    "the checkpoint's size is edited": (
        lambda lines: put(lines, 13, lines[12].replace(b"\\n13\\n", b"\\n12\\n")),
        13,
        "speaks of 12 records",
    ),
    "the checkpoint is nonsense": (
        lambda lines: put(lines, 13, changed(lines[12], checkpoint="x")),
        None,
        "cannot be read",
    ),
    "a member is given twice": (
        lambda lines: put(lines, 3, lines[2].replace(b'"seq":3', b'"seq":3,"seq":3')),
        3,
        "given twice",
    ),
    "an escape is spelt otherwise": (
        lambda lines: put(lines, 3, lines[2].replace(b"alice", b"\\u0061lice")),
        3,
        "spelt",
    ),
    "spaces are put in": (lambda lines: put(lines, 3, lines[2].replace(b'"seq":3', b'"seq": 3')), 3, "spelt"),
    "line breaks become CR LF": (lambda lines: [line + b"\r" for line in lines], 1, "spelt"),
    "an empty line is put in": (lambda lines: [*lines[:3], b"", *lines[3:]], 4, "cannot be read"),
    "the file is empty": (lambda _lines: [], None, "cut short"),
    "a line of the later export is taken": (lambda lines: lines[:-1], 12, "cut short"),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_tampering_is_found_and_the_first_bad_line_named(
    name: str, exported: Exported, verify: Callable[..., Verification]
) -> None:
    spoil, number, message = TAMPERINGS[name]
    lines = spoil(exported["whole"])
    assert lines != exported["whole"]
    result = verify(lines, key=exported["key"])
    assert result.findings[0].line == number
    assert message in str(result.findings[0])


def test_a_change_behind_an_older_checkpoint_is_narrowed_down(
    exported: Exported, verify: Callable[..., Verification]
) -> None:
    lines = put(exported["whole"], 7, rehashed(changed(exported["whole"][6], risk_score=1)))
    (finding,) = verify(lines, key=exported["key"], since=exported["older"]).findings
    assert "one of the lines 5 to 13" in str(finding)


def test_a_filtered_export_cannot_lose_gain_or_change_a_line(
    exported: Exported, verify: Callable[..., Verification]
) -> None:
    lines, key = exported["filtered"], exported["key"]
    stranger = changed(exported["whole"][0], proof=json.loads(lines[0])["proof"])
    for spoilt, number, message in (
        (drop(lines, 3), None, "some were taken out or put in"),
        (swap(lines, 2, 3), 3, "swapped or repeated"),
        ([lines[0], *lines], 2, "swapped or repeated"),
        ([stranger, *lines], 1, "is not in the log"),
        (put(lines, 2, rehashed(changed(lines[1], user_id="mallory"))), 2, "is not in the log"),
        (put(lines, 2, changed(lines[1], proof=["zz"])), 2, "no proof that can be read"),
        (put(lines, 2, changed(lines[1], proof=None)), 2, "no proof that can be read"),
        (drop(lines, 1)[:-1], None, "cut short"),
    ):
        result = verify(spoilt, key=key)
        assert not result.ok
        assert any(message in str(found) and number in (None, found.line) for found in result.findings), message


def test_a_file_signed_by_somebody_else_is_not_believed(
    exported: Exported, verify: Callable[..., Verification], tmp_path: Path
) -> None:
    other = read_or_make_key(tmp_path / "other")
    result = verify(exported["whole"], key=str(other.verifier))
    assert "not signed by the key given" in str(result.findings[0])
    name, _, rest = exported["key"].partition("+")
    note = json.loads(exported["whole"][-1])["checkpoint"].replace(name, other.verifier.name)
    renamed = put(exported["whole"], 13, changed(exported["whole"][-1], checkpoint=note))
    assert not verify(renamed, key=str(other.verifier)).ok
    assert rest


def test_a_log_rewritten_with_the_key_in_hand_does_not_continue_an_older_checkpoint(
    exported: Exported,
    verify: Callable[..., Verification],
    folder: Path,
    open_log: Callable[[], DecisionLog],
    decided: Callable[..., Record],
    record: Callable[..., Record],
) -> None:
    for name in ("audit.db", "checkpoints.txt"):
        (folder / name).unlink()
    rewritten: list[bytes] = []

    async def story() -> None:
        log = open_log()
        await log.append(*(decided(user="alice") for _ in range(ROWS)))
        request = ExportRequest(event_id=record().event_id, at=record().at, user_id="eve")
        rewritten.extend(b"".join((await begin_export(log, folder, request)).chunks()).splitlines())
        await log.close()

    asyncio.run(story())
    assert verify(rewritten, key=exported["key"]).ok
    (finding,) = verify(rewritten, key=exported["key"], since=exported["older"]).findings
    assert "history was rewritten or replaced" in str(finding)
    later = json.loads(exported["later"][-1])["checkpoint"]
    (finding,) = verify(exported["whole"], key=exported["key"], since=later).findings
    assert "the log was cut short or replaced" in str(finding)
    assert not verify(exported["filtered"], key=exported["key"], since=exported["older"]).ok


def test_a_line_cannot_be_exchanged_for_another_of_the_log(
    exported: Exported, verify: Callable[..., Verification], folder: Path
) -> None:
    lines = exported["filtered"]
    stranger = json.loads(exported["whole"][1])
    _, _, proof = LogReader(folder).inclusion(stranger["event_id"], ROWS + 2)
    genuine = changed(exported["whole"][1], proof=[each.hex() for each in proof])
    (finding,) = verify([genuine, *lines[1:]], key=exported["key"]).findings
    assert "not the ones that were exported" in str(finding)


def resigned(note: str, key: LogKey, *, origin: str | None = None) -> str:
    body = note.partition("\n\n")[0] + "\n"
    if origin is not None:
        body = origin + body[body.index("\n") :]
    signature = base64.b64encode(key.verifier.key_id + key._private.sign(body.encode())).decode()
    return f"{body}\n\u2014 {key.verifier.name} {signature}\n"


def test_the_key_must_have_signed_for_its_own_log_and_the_older_checkpoint_too(
    exported: Exported, verify: Callable[..., Verification], folder: Path
) -> None:
    own, lines = read_or_make_key(folder / "keys"), exported["whole"]
    note = json.loads(lines[-1])["checkpoint"]
    assert resigned(note, own) == note
    elsewhere = put(lines, 13, changed(lines[-1], checkpoint=resigned(note, own, origin="elsewhere")))
    assert "not signed by the key given" in str(verify(elsewhere, key=exported["key"]).findings[0])
    impostor = LogKey(own.verifier.name, bytes(32))
    (finding,) = verify(lines, key=exported["key"], since=resigned(exported["older"], impostor)).findings
    assert "older checkpoint is not signed" in str(finding)
    (finding,) = verify(lines, since=resigned(exported["older"], own, origin="elsewhere")).findings
    assert "of another log" in str(finding)


def test_whatever_a_record_holds_its_export_verifies(
    verify: Callable[..., Verification],
    folder: Path,
    open_log: Callable[[], DecisionLog],
    record: Callable[..., Record],
) -> None:
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    big = {str(number): "x" * 1000 for number in range(3000)}
    members: list[dict[str, Any]] = [
        {"details": {"a": 1, "\ufffd": 2}, "personal": {"a": 2, "\ud800": 3}},
        {"details": {"omitted": 1}, "personal": big},
        {"details": big | {"omitted_bytes": 1}, "personal": {"omitted_bytes": 2}},
        {
            "details": {"decision.user": 1, "details.x": 2},
            "personal": {"user_id": 3, "details.x": 4, "": 5, "x.y": None},
        },
        {"details": {"a": deep}, "personal": {"a": deep}, "replay": {"a": deep}},
        {"user_id": "\ud800", "plugin_id": "\x00'", "trace_id": "\ud800", "details": {"\ud800": 10**5000}},
        {"user_id": "x" * 100_000, "personal": {"a\x1f": "b", "a": "\x1f"}},
    ]
    made = [record(**each) for each in members]
    lines: list[bytes] = []

    async def story() -> str:
        log = open_log()
        await log.append(*made)
        request = ExportRequest(event_id=record().event_id, at=record().at, user_id=None)
        lines.extend(b"".join((await begin_export(log, folder, request)).chunks()).split(b"\n")[:-1])
        await log.close()
        return log.verifier

    result = verify(lines, key=asyncio.run(story()))
    assert (result.findings, result.lines) == ([], len(members) + 1)
    for row in LogReader(folder).find(Filter()).rows:
        json.dumps(row, allow_nan=False)


def test_an_erased_person_leaves_a_file_that_still_verifies(
    exported: Exported,
    verify: Callable[..., Verification],
    folder: Path,
    open_log: Callable[[], DecisionLog],
    record: Callable[..., Record],
) -> None:
    with sqlite3.connect(folder / "audit.db") as connection:
        connection.execute("""DELETE FROM pii WHERE json_extract(personal, '$.user_id') = 'bob'""")
    connection.close()
    lines: list[bytes] = []

    async def story() -> None:
        log = open_log()
        request = ExportRequest(event_id=record().event_id, at=record().at, user_id="eve")
        lines.extend(b"".join((await begin_export(log, folder, request)).chunks()).splitlines())
        await log.close()

    asyncio.run(story())
    assert verify(lines, key=exported["key"], since=exported["older"]).ok
    assert b'"user_id":"bob"' not in b"".join(lines)


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"1" * 100_000,
        b'{"seq":1e400,"leaf":"","personal":{},"salt":{},"details":{},"v":1}',
        b'{"seq":1,"leaf":"","personal":{"user_id":1},"salt":{"user_id":"zz"},"details":{},"v":1}',
        b'{"seq":1,"leaf":"","personal":{"decision.x":"00"},"salt":{},"details":{},"decision":[],"v":1}',
        b'{"seq":true,"leaf":"","personal":{},"salt":{},"details":{},"v":1}',
        b'{"seq":-1,"leaf":"","personal":{},"salt":{},"details":{},"v":1}',
        b'{"seq":1,"leaf":"","personal":{},"salt":{},"details":{},"v":2}',
        b"\xff\xfe\x00",
        b'"\\ud800"',
        b"null",
        b"\x00",
        b"",
    ],
)
def test_a_hostile_line_is_a_finding(line: bytes, exported: Exported, verify: Callable[..., Verification]) -> None:
    for lines in ([line], put(exported["whole"], 3, line), [*exported["whole"], line]):
        result = verify(lines, key=exported["key"])
        assert not result.ok
        json.dumps(result.as_json())


def test_a_line_without_end_takes_no_memory(
    exported: Exported, verify: Callable[..., Verification], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.audit.chunk.MAX_LINE_BYTES", 100_000)
    result = verify(put(exported["whole"], 3, b"x" * 5_000_000), key=exported["key"])
    assert str(result.findings[0]) == "line 3 is longer than 100000 bytes"
    assert len(result.findings) == 2


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_no_single_changed_byte_goes_unnoticed(
    data: st.DataObject, sample: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = b"".join(line + b"\n" for line in sample[1:])
    at = data.draw(st.integers(0, len(text) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda other: other != text[at]))
    path = tmp_path_factory.mktemp("flip") / "export.jsonl"
    path.write_bytes(text[:at] + bytes([byte]) + text[at + 1 :])
    # WHY: the very last byte is a line break, which proves nothing.
    assert not verify_file(path, key=sample[0].decode()).ok or at == len(text) - 1


MOVES: dict[str, Callable[[bytes, st.DataObject], bytes]] = {
    "a member is given twice": lambda line, data: _spliced(line, data, lambda member: member + b"," + member),
    "a member is left out": lambda line, data: _spliced(line, data, lambda _member: b""),
    "a name is spelt with an escape": lambda line, data: _spliced(
        line, data, lambda member: b'"\\u00%02x' % member[1] + member[2:]
    ),
    "a space is put in": lambda line, data: _spliced(line, data, lambda member: member.replace(b":", b": ", 1)),
    "a member is put in": lambda line, data: _spliced(line, data, lambda member: member + b',"zz":1'),
}


def _spliced(line: bytes, data: st.DataObject, change: Callable[[bytes], bytes]) -> bytes:
    """Change one member of flat value, at whatever depth."""
    members = list(re.finditer(rb'"[a-z_.]+":(?:"(?:[^"\\]|\\.)*"|[0-9]+|null|true|false|\{\}|\[\])', line))
    found = data.draw(st.sampled_from(members))
    return line[: found.start()] + change(found[0]) + line[found.end() :]


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_no_member_is_doubled_dropped_added_or_respelt_unnoticed(
    data: st.DataObject, sample: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    lines = list(sample[1:])
    at = data.draw(st.integers(0, len(lines) - 1))
    changed_line = MOVES[data.draw(st.sampled_from(sorted(MOVES)))](lines[at], data)
    assert changed_line != lines[at]
    path = tmp_path_factory.mktemp("splice") / "export.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in put(lines, at + 1, changed_line)))
    result = verify_file(path, key=sample[0].decode())
    assert result.findings[0].line == at + 1


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_no_reordering_of_members_goes_unnoticed(
    data: st.DataObject, sample: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    lines = list(sample[1:])
    at = data.draw(st.integers(0, len(lines) - 1))
    row = canonical.decode_exact(lines[at])
    places = [row, row["personal"], row["salt"], row["details"], row["decision"] or {}]
    place = data.draw(st.sampled_from([each for each in places if len(each) > 1]))
    names = data.draw(st.permutations(list(place)).filter(lambda order: order != list(place)))
    members = {name: place[name] for name in names}
    place.clear()
    place.update(members)
    path = tmp_path_factory.mktemp("order") / "export.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in put(lines, at + 1, canonical.encode_in_order(row))))
    assert verify_file(path, key=sample[0].decode()).findings[0].line == at + 1


def test_any_number_of_processes_finds_the_same(
    exported: Exported, verify: Callable[..., Verification], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = {}
    files = {
        "whole": exported["whole"],
        "filtered": exported["filtered"],
        "swapped": swap(exported["whole"], 4, 5),
        "edited": put(exported["whole"], 3, changed(exported["whole"][2], risk_score=1)),
        "rehashed": put(exported["whole"], 7, rehashed(changed(exported["whole"][6], risk_score=1))),
        "cut": exported["whole"][:9],
    }
    for name, lines in files.items():
        alone[name] = verify(lines, key=exported["key"], since=exported["older"])
    monkeypatch.setattr("gateway.audit.verify.WORKERS_FROM_BYTES", 1)
    monkeypatch.setattr("gateway.audit.chunk.CHUNK_BYTES", 4000)
    for name, lines in files.items():
        assert verify(lines, key=exported["key"], since=exported["older"], jobs=2) == alone[name], name


@pytest.mark.parametrize("size", [1, 10, 1000, 4000])
def test_the_pieces_a_file_is_read_in_change_nothing(
    size: int, exported: Exported, verify: Callable[..., Verification], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [*exported["whole"][:3], b"", b"x" * 5000, b"{}", *exported["whole"][3:]]
    alone = verify(lines, key=exported["key"])
    monkeypatch.setattr("gateway.audit.chunk.CHUNK_BYTES", size)
    assert verify(lines, key=exported["key"]) == alone
    assert [found.line for found in alone.findings[:3]] == [4, 5, 6]


def leaves_of(lines: list[bytes]) -> list[bytes]:
    return [json.loads(line)["leaf"].encode() for line in lines]


def test_the_leaves_beside_a_file_tell_what_it_leaves_out_and_name_a_changed_line(
    exported: Exported, verify: Callable[..., Verification], tmp_path: Path
) -> None:
    beside, key, older = tmp_path / "leaves.txt", exported["key"], exported["older"]

    def run(name: str, lines: list[bytes], leaves: list[bytes], **how: Any) -> Verification:  # noqa: ANN401 # as above
        beside.write_bytes(b"".join(leaf + b"\n" for leaf in leaves))
        assert name
        return verify(lines, key=key, leaves=beside, **how)

    leaves = leaves_of(exported["later"])[: ROWS + 2]
    filtered = exported["filtered"]
    result = run("filtered", filtered, leaves, since=older)
    assert result.findings == []
    assert f"shows {len(filtered)} of the {ROWS + 2} records" in result.notes[0]
    whole = leaves_of(exported["whole"])
    assert run("whole", exported["whole"], whole, since=older).ok
    spoilt = put(exported["whole"], 7, rehashed(changed(exported["whole"][6], risk_score=1)))
    (finding,) = run("rehashed", spoilt, whole).findings
    assert finding.line == 7
    for wrong in (leaves[:-1], [*leaves, leaves[0]], put(leaves, 3, leaves[3]), put(leaves, 3, b"x" * 64), []):
        assert not run("wrong leaves", filtered, wrong).ok
    upper = put(leaves, 3, leaves[2].upper())
    assert not run("spelt otherwise", filtered, upper).ok or upper == leaves
    other = leaves_of(exported["whole"])[::-1]
    assert not run("leaves of another log", filtered, other, since=older).ok


@pytest.mark.parametrize("rows", [(ROWS, ROWS), (ROWS, ROWS + 3)], ids=["of one size", "of two sizes"])
@pytest.mark.parametrize("same_key", [True, False], ids=["of one key", "of two keys"])
def test_the_halves_of_two_independent_logs_are_no_log(
    rows: tuple[int, int],
    same_key: bool,  # noqa: FBT001 # pytest names it
    tmp_path: Path,
    record: Callable[..., Record],
    new_id: Callable[[], str],
    verify: Callable[..., Verification],
) -> None:
    folders = (tmp_path / "a", tmp_path / "b")

    async def story(folder: Path, count: int) -> tuple[list[bytes], str]:
        log = DecisionLog.open(folder, now=lambda: record().at, new_id=new_id)
        await log.append(*(record() for _ in range(count)))
        request = ExportRequest(event_id=f"audit-{new_id()}", at=record().at, user_id="eve")
        lines = b"".join((await begin_export(log, folder, request)).chunks()).splitlines()
        await log.close()
        return lines, log.verifier

    first, first_key = asyncio.run(story(folders[0], rows[0]))
    if same_key:
        (folders[1] / "keys").mkdir(parents=True)
        for file in (folders[0] / "keys").iterdir():
            shutil.copy2(file, folders[1] / "keys")
    second, second_key = asyncio.run(story(folders[1], rows[1]))
    assert verify(first, key=first_key).ok
    assert verify(second, key=second_key).ok
    assert (first_key == second_key) is same_key
    for at in range(1, len(first)):
        for key in (first_key, second_key, None):
            found = verify([*first[:at], *second[at:]], key=key).findings
            assert "do not add up to the checkpoint" in "".join(map(str, found)), (at, key)


def test_two_logs_cannot_be_spliced(exported: Exported, verify: Callable[..., Verification]) -> None:
    """The first lines of one export and the last ones of another of the same length."""
    for at in (1, 5, ROWS):
        lines = [*exported["later"][:at], *exported["whole"][at:]]
        assert verify(lines, key=exported["key"]).ok  # of one log, so it is the very same
    other = [rehashed(changed(line, risk_score=3)) for line in exported["whole"][:5]]
    assert not verify([*other, *exported["whole"][5:]], key=exported["key"], since=exported["older"]).ok


@pytest.mark.parametrize(
    "text",
    [b"\n" * 200_000, b"{}\n" * 100_000, b"[" * 3_000_000, b'{"a":' * 500_000, b'"' * 1_000_000, b"\x00" * 1_000_000],
    ids=range(6),
)
def test_a_bomb_is_found_in_bounded_memory(text: bytes, exported: Exported, tmp_path: Path) -> None:
    path = tmp_path / "bomb.jsonl"
    path.write_bytes(exported["whole"][0] + b"\n" + text + b"\n" + exported["whole"][-1] + b"\n")
    tracemalloc.start()
    result = verify_file(path, key=exported["key"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert result.findings[0].line == 2
    assert len(result.findings) <= MAX_FINDINGS
    assert peak < 200 * 1024 * 1024


@pytest.fixture(scope="module")
def sample() -> list[bytes]:
    """The published example file, behind its key."""
    place = Path(__file__).parents[1] / "testdata" / "decision-log" / "v1"
    return [(place / "log.pub").read_bytes().strip(), *(place / "export.jsonl").read_bytes().splitlines()]


@pytest.mark.parametrize("how", [{"key": "nonsense"}, {"since": "nonsense"}])
def test_a_key_or_checkpoint_that_is_none_is_an_error_and_not_a_verdict(
    how: dict[str, str], exported: Exported, verify: Callable[..., Verification]
) -> None:
    with pytest.raises(VerificationError):
        verify(exported["whole"], **how)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match="cannot be read"):
        verify_file(tmp_path / "nothing.jsonl")
    with pytest.raises(VerificationError, match="cannot be read"):
        verify_file(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"one\n",
        b"one",
        b"one\n\ntwo\n",
        b"a" * 90 + b"\n" + b"b" * 10 + b"\nc\n",
        b"a\n" + b"b" * 300 + b"\nc\nd",
        b"a" * 300,
    ],
)
def test_workers_find_the_lines_that_one_process_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr(chunk, "CHUNK_BYTES", 16)
    monkeypatch.setattr(chunk, "MAX_LINE_BYTES", 64)
    path = tmp_path / "lines"
    path.write_bytes(content)
    with path.open("rb") as file:
        read = list(chunk.read_chunks(file))
        file.seek(0)
        places = list(chunk.find_chunks(file))
    assert [None if place is None else content[place[0] : sum(place)] for place in places] == read
