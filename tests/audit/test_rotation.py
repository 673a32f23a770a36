"""Key rotation: recorded, followed by a verifier in both directions, and safe whenever it is interrupted."""

import asyncio
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.audit import canonical, key_files
from gateway.audit.checkpoint import LogKey, parse_note, parse_rotation, parse_verifier
from gateway.audit.export import ExportRequest, begin_export
from gateway.audit.log import DecisionLog
from gateway.audit.proof import check_consistency, prove_consistency
from gateway.audit.query import LogReader
from gateway.audit.store import Store
from gateway.audit.trust import KeyChain
from gateway.audit.verify import verify_file
from gateway.audit.wanted import Filter
from gateway.domain.record import Record
from gateway.errors import LogUnavailableError

Open = Callable[[], DecisionLog]
Make = Callable[..., Record]


class KilledError(Exception):
    """Stands for the end of the process."""


async def export(log: DecisionLog, folder: Path, record: Make, path: Path, wanted: Filter | None = None) -> None:
    """Export into a file."""
    request = ExportRequest(event_id=record().event_id, at=record().at, user_id="eve", wanted=wanted or Filter())
    begun = await begin_export(log, folder, request)
    await asyncio.to_thread(lambda: path.write_bytes(b"".join(begun.chunks())))


@pytest.fixture
def rotated(folder: Path, open_log: Open, record: Make, decided: Make, tmp_path: Path) -> dict[str, Any]:
    """A log whose key was rotated twice, with the keys, a checkpoint of each, and exports from before and after."""
    result: dict[str, Any] = {"keys": [], "notes": []}

    async def story() -> None:
        log = open_log()
        for number in range(3):
            await log.append(decided(), decided(user="bob"))
            result["keys"].append(log.verifier)
            result["notes"].append(await log.checkpoint())
            if number == 0:
                await export(log, folder, record, tmp_path / "before.jsonl")
            if number < 2:
                await log.rotate_key(record(event_type="key_rotated", details={"reason": "yearly"}))
        await export(log, folder, record, tmp_path / "whole.jsonl")
        await export(log, folder, record, tmp_path / "filtered.jsonl", Filter(user="bob"))
        await log.close()

    asyncio.run(story())
    return result


def test_any_key_of_the_log_verifies_what_the_newest_signed(rotated: dict[str, Any], tmp_path: Path) -> None:
    assert len(set(rotated["keys"])) == 3
    for name in ("whole.jsonl", "filtered.jsonl"):
        for key in rotated["keys"]:
            result = verify_file(tmp_path / name, key=key)
            assert (result.findings, result.signer_checked) == ([], True)
    for key in rotated["keys"]:
        for note in rotated["notes"]:
            assert verify_file(tmp_path / "whole.jsonl", key=key, since=note).ok
    assert verify_file(tmp_path / "before.jsonl", key=rotated["keys"][0]).ok
    assert not verify_file(tmp_path / "before.jsonl", key=rotated["keys"][2]).ok


def test_the_rotation_is_a_record_and_the_old_public_keys_are_kept(
    rotated: dict[str, Any], folder: Path, open_log: Open
) -> None:
    rows = LogReader(folder).find(Filter(event_type="key_rotated")).rows
    first, second, third = rotated["keys"]
    assert [(row["details"]["old_key"], row["details"]["new_key"]) for row in rows] == [
        (second, third),
        (first, second),
    ]
    assert rows[0]["details"]["reason"] == "yearly"
    kept = {path.read_text().strip() for path in (folder / "keys").glob("log-*.pub")}
    assert kept == {first, second}
    assert (folder / "keys" / "log.pub").read_text().strip() == third
    assert not (folder / "keys" / "log.next.key").exists()
    log = open_log()
    assert log.verifier == third
    asyncio.run(log.close())


def test_growth_is_proved_over_rotations(rotated: dict[str, Any], folder: Path) -> None:
    note = LogReader(folder).checkpoint()
    assert note is not None
    old = parse_note(rotated["notes"][0])
    found = prove_consistency(LogReader(folder), old.size, note).as_json()
    for key in rotated["keys"]:
        assert check_consistency(old, found, parse_verifier(key)).text == note


def last_changed(path: Path, **members: object) -> None:
    lines = path.read_bytes().splitlines()
    lines[-1] = canonical.encode_in_order(canonical.decode_exact(lines[-1]) | members)
    path.write_bytes(b"".join(line + b"\n" for line in lines))


@pytest.mark.parametrize("name", ["whole.jsonl", "filtered.jsonl"])
def test_a_forged_rotation_is_not_believed(name: str, rotated: dict[str, Any], tmp_path: Path) -> None:
    """A thief of the file signs it with a key of their own, and a rotation to it that the real key never signed."""
    path = tmp_path / name
    true_key = parse_verifier(rotated["keys"][2])
    thief = LogKey(true_key.name, bytes(32))
    stranger = LogKey(true_key.name, bytes([1] * 32))
    last = json.loads(path.read_bytes().splitlines()[-1])
    note = parse_note(last["checkpoint"])
    body = stranger.sign_rotation(note.size, note.root, thief).replace(str(stranger.verifier), str(true_key))
    forged = [*last["rotations"], body]
    last_changed(path, checkpoint=thief.sign(note.size, note.root), rotations=forged)
    for key in rotated["keys"]:
        result = verify_file(path, key=key)
        assert any("that its two keys did not sign" in str(found) for found in result.findings)
        assert not result.signer_checked
    last_changed(path, rotations=["nonsense"])
    assert not verify_file(path, key=rotated["keys"][0]).ok


def test_a_rotation_of_another_log_or_out_of_its_time_is_not_believed(rotated: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "whole.jsonl"
    last = json.loads(path.read_bytes().splitlines()[-1])
    first, second, third = map(parse_verifier, rotated["keys"])
    rotations = [parse_note(each) for each in last["rotations"]]
    final = parse_note(last["checkpoint"])
    chain = KeyChain(first, rotations)
    assert [reign.key for reign in chain.reigns] == [first, second, third]
    assert [reign.key for reign in KeyChain(third, rotations).reigns] == [first, second, third]
    assert chain.signed(final)
    assert not KeyChain(first, []).signed(final)
    assert not KeyChain(first, rotations[1:]).signed(final)
    assert parse_rotation(final) is None
    # A key that handed over signs no more: its signature on a later size does not count.
    assert not any(reign.signed(final) for reign in chain.reigns[:-1])
    last_changed(path, rotations=last["rotations"][1:])
    assert not verify_file(path, key=rotated["keys"][0]).ok
    assert verify_file(path, key=rotated["keys"][2]).ok
    lines = path.read_bytes().splitlines()
    elsewhere = LogKey(third.name, bytes(32)).sign_rotation(3, bytes(32), LogKey(third.name, bytes([2] * 32)))
    last_changed(path, rotations=[elsewhere])
    assert "of another log" in str(verify_file(path).findings[0])
    assert len(lines) > 1


def _stop(*_arguments: object, **_more: object) -> None:
    raise KilledError


STEPS: dict[str, tuple[str, bool]] = {
    "before the record": ("prepare", False),
    "before the files": ("take_next_key", True),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_rotation_that_is_interrupted_leaves_a_log_that_opens_and_verifies(
    step: str,
    folder: Path,
    open_log: Open,
    record: Make,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    name, rotates = STEPS[step]
    key = ""

    async def interrupted() -> str:
        log = open_log()
        await log.append(record())
        before = log.verifier
        with monkeypatch.context() as patch:
            patch.setattr(f"gateway.audit.key_rotation.{name}", _stop)
            with pytest.raises(KilledError):
                await log.rotate_key(record(event_type="key_rotated"))
        await log.close()
        return before

    async def afterwards() -> str:
        log = open_log()
        await log.append(record())
        await export(log, folder, record, tmp_path / "whole.jsonl")
        await log.close()
        return log.verifier

    before = asyncio.run(interrupted())
    assert (folder / "keys" / "log.next.key").exists()
    after = asyncio.run(afterwards())
    assert (before != after) == rotates
    assert not (folder / "keys" / "log.next.key").exists()
    assert (folder / "keys" / "log.pub").read_text().strip() == after
    for key in (before, after):
        assert verify_file(tmp_path / "whole.jsonl", key=key).ok


@pytest.mark.parametrize("written", range(1, 4))
def test_the_files_of_a_rotation_can_be_put_in_place_at_any_time_again(
    written: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ends behind each of the writes and renames of `take_next_key`."""
    keys = tmp_path / "keys"
    old = key_files.read_or_make_key(keys)
    new = key_files.make_next_key(keys, old.verifier.name)
    true_sync, done = key_files._sync, []

    def sync(folder: Path) -> None:
        true_sync(folder)
        done.append(folder)
        if len(done) == written:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(key_files, "_sync", sync)
        with pytest.raises(KilledError):
            key_files.take_next_key(keys)
    if key_files.read_next_key(keys) is not None:
        assert key_files.read_or_make_key(keys).verifier == old.verifier
        key_files.take_next_key(keys)
    assert key_files.read_or_make_key(keys).verifier == new.verifier
    assert (keys / "log.pub").read_text().strip() == str(new.verifier)
    assert {path.read_text().strip() for path in keys.glob("log-*.pub")} == {str(old.verifier)}


def test_a_rotation_that_could_not_be_committed_keeps_the_old_key(
    folder: Path, open_log: Open, record: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> tuple[str, str, str]:
        log = open_log()
        await log.append(record())
        before = log.verifier

        def fail(_store: Store) -> None:
            raise sqlite3.OperationalError("disk I/O error")

        with monkeypatch.context() as patch:
            patch.setattr(Store, "sync", fail)
            with pytest.raises(LogUnavailableError):
                await log.rotate_key(record(event_type="key_rotated"))
        await log.append(record())
        between = log.verifier
        await log.rotate_key(record(event_type="key_rotated"))
        await log.close()
        return before, between, log.verifier

    before, between, after = asyncio.run(story())
    assert before == between != after
    assert len(LogReader(folder).find(Filter(event_type="key_rotated")).rows) == 1
