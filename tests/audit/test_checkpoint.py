import os
from pathlib import Path

import pytest

from gateway.audit.book import CheckpointBook
from gateway.audit.checkpoint import LogKey, Note, parse_note, parse_verifier
from gateway.audit.key_files import read_or_make_key
from gateway.errors import ConfigError, VerificationError

KEY = LogKey("example.org/log", bytes(32))
NOTE = KEY.sign(7, bytes(range(32)))
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_BODY = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GO_SIGNATURE = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="


def test_a_note_signed_by_another_implementation_is_believed() -> None:
    import base64

    blob = base64.b64decode(GO_SIGNATURE)
    note = Note(
        text="",
        body=GO_BODY.encode(),
        origin="",
        size=0,
        root=b"",
        signatures=(("PeterNeumann", blob[:4], blob[4:]),),
    )
    key = parse_verifier(GO_KEY)
    assert str(key) == GO_KEY
    assert key.signed(note)


def test_a_checkpoint_says_its_origin_size_and_root_and_is_believed_by_its_key_alone() -> None:
    note = parse_note(NOTE)
    assert (note.origin, note.size, note.root) == ("example.org/log", 7, bytes(range(32)))
    assert KEY.verifier.signed(note)
    assert parse_verifier(f"{KEY.verifier}\n") == KEY.verifier
    assert not LogKey("example.org/log", bytes([1] * 32)).verifier.signed(note)
    assert not KEY.verifier.signed(parse_note(NOTE.replace("\n7\n", "\n8\n")))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        NOTE[:-1],
        NOTE.replace("\n7\n", "\n07\n"),
        NOTE.replace("\n7\n", "\n-7\n"),
        NOTE.replace("\n7\n", "\n\u0667\n"),
        NOTE.replace("\n7\n", f"\n{2**70}\n"),
        NOTE.replace("AAEC", "!!!!"),
        NOTE.replace("\u2014 ", "- "),
        NOTE.replace("\n\n", "\n"),
        NOTE.rpartition(" ")[0] + "\n",
        "x" * 20_000,
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(VerificationError, match="not a checkpoint"):
        parse_note(text)


@pytest.mark.parametrize("text", ["", "a+b+c", f"{KEY.verifier}"[:-8], f"x{KEY.verifier}", "é+00000000+AQ=="])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(VerificationError, match="not a verifier key"):
        parse_verifier(text)


def test_the_private_key_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    made = read_or_make_key(tmp_path / "keys")
    assert read_or_make_key(tmp_path / "keys").verifier == made.verifier
    assert (tmp_path / "keys" / "log.key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "keys" / "log.pub").read_text() == f"{made.verifier}\n"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda keys: (keys / "log.key").unlink(), "is gone"),
        (lambda keys: (keys / "log.key").chmod(0o640), "can be read by others"),
        (lambda keys: (keys / "log.key").write_text("PRIVATE+KEY+x+00000000+AAAA\n"), "is not a key"),
        (lambda keys: (keys / "log.key").write_bytes(os.urandom(100)), "is not a key"),
        (lambda keys: (keys / "log.pub").write_text(f"{KEY.verifier}\n"), "is not the public half"),
    ],
)
def test_a_key_that_cannot_be_believed_stops_the_log(tmp_path: Path, spoil: object, message: str) -> None:
    read_or_make_key(tmp_path)
    assert callable(spoil)
    spoil(tmp_path)
    with pytest.raises(ConfigError, match=message):
        read_or_make_key(tmp_path)


def test_the_book_gives_its_last_whole_note_back(tmp_path: Path) -> None:
    book = CheckpointBook(tmp_path)
    assert book.last(KEY.verifier.name, KEY.verifier.signed) is None
    for size in range(500):
        book.add([KEY.sign(size, bytes(32))])
    last = book.last(KEY.verifier.name, KEY.verifier.signed)
    assert last is not None
    assert last.size == 499
    with (tmp_path / "checkpoints.txt").open("a") as file:
        file.write("example.org/log\n500\n")
    torn = book.last(KEY.verifier.name, KEY.verifier.signed)
    assert torn is not None
    assert torn.size == 499


def test_a_note_that_the_disk_did_not_take_comes_with_the_next(tmp_path: Path) -> None:
    book = CheckpointBook(tmp_path)
    (tmp_path / "checkpoints.txt").mkdir()
    book.add([KEY.sign(1, bytes(32))])
    (tmp_path / "checkpoints.txt").rmdir()
    book.add([KEY.sign(2, bytes(32))])
    assert (tmp_path / "checkpoints.txt").read_text() == f"{KEY.sign(1, bytes(32))}\n{KEY.sign(2, bytes(32))}\n"


def test_a_book_signed_by_another_key_is_not_believed(tmp_path: Path) -> None:
    book = CheckpointBook(tmp_path)
    book.add([LogKey("example.org/log", bytes([1] * 32)).sign(1, bytes(32))])
    with pytest.raises(VerificationError, match="not signed by this log's key"):
        book.last(KEY.verifier.name, KEY.verifier.signed)
