"""docs/decision-log.md, implemented from its words with the standard library: it shares no code with the product.

Only the signature needs a library. The files in testdata/decision-log/v1 stay as they are for ever.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.audit.verify import verify_file

EXAMPLE = Path(__file__).parents[1] / "testdata" / "decision-log" / "v1"
DOCUMENT = Path(__file__).parents[2] / "docs" / "decision-log.md"


def number(text: str) -> Any:  # noqa: ANN401 # a token that is written back as it was read
    class Token(float):
        def __repr__(self) -> str:
            return text

    return Token(text)


def canonical(value: object) -> bytes:
    """As the page says, for text without characters that Python escapes otherwise."""
    if isinstance(value, dict):
        members = (canonical(name) + b":" + canonical(value[name]) for name in sorted(value))
        return b"{" + b",".join(members) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(map(canonical, value)) + b"]"
    if isinstance(value, float):
        return repr(value).encode()
    return json.dumps(value, ensure_ascii=False).encode()


def without(value: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: member for name, member in value.items() if name not in names}


def leaf_of(text: str) -> bytes:
    line = json.loads(text, parse_float=number, object_pairs_hook=once)
    shown: dict[str, dict[str, bytes]] = {"decision": {}, "details": {}}
    salts: dict[str, str] = {}
    committed = without(line, "salt", "leaf", "proof", "checkpoint", "user_id", "replay")
    for name, commitment in line["personal"].items():
        place, _, member = name.partition(".")
        value = line[place].get(member) if member else line[name]
        salt = line["salt"].get(name)
        if salt is not None:
            salts[name] = salt
            opened = bytes.fromhex(salt) + name.encode() + b"\x1f" + canonical(value)
            assert hashlib.sha256(opened).hexdigest() == commitment
        elif commitment.startswith("="):
            known = line["user_id"]
            assert value == (known if commitment == "=user_id" or known is None else "user:" + known)
        else:
            assert value is None
        if member:
            committed[place] = without(committed[place], member)
            if member in line[place]:
                shown[place][member] = canonical(member) + b":" + canonical(value)
    whole = canonical(committed)
    leaf = hashlib.sha256(b"\x00" + whole).digest()
    assert leaf.hex() == line["leaf"]
    decision, details = canonical(committed["decision"]), canonical(committed["details"])
    head = b'{"category":' + canonical(line["category"]) + b',"decision":'
    tail = whole[len(head + decision + b',"details":' + details) : -1]
    if shown["decision"]:
        decision = b"{" + b"".join(member + b"," for member in shown["decision"].values()) + decision[1:]
    public = [details[1:-1]] if details != b"{}" else []
    again = head + decision + b',"details":{' + b",".join([*public, *shown["details"].values()]) + b"}" + tail
    for name in ("user_id", "replay", "leaf"):
        again += b"," + canonical(name) + b":" + canonical(line[name])
    again += b',"salt":' + canonical(salts)
    for name in ("proof", "checkpoint"):
        again += b"," + canonical(name) + b":" + canonical(line[name]) if name in line else b""
    assert again + b"}" == text.encode()
    return leaf


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def included(index: int, size: int, leaf: bytes, proof: list[bytes]) -> bytes:
    """RFC 6962 section 2.1.1, from the root down."""
    if size == 1:
        assert not proof
        return leaf
    split = 1 << (size - 1).bit_length() - 1
    if index < split:
        left, right = included(index, split, leaf, proof[:-1]), proof[-1]
    else:
        left, right = proof[-1], included(index - split, size - split, leaf, proof[:-1])
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_of(leaves: list[bytes]) -> bytes:
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + root_of(leaves[:split]) + root_of(leaves[split:])).digest()


def open_checkpoint(text: str, key: str) -> tuple[int, bytes]:
    name, key_id, encoded = key.strip().split("+", 2)
    body, signature_line = text.split("\n\n")
    dash, signer, signature = signature_line.removesuffix("\n").split(" ")
    blob, public = base64.b64decode(signature), base64.b64decode(encoded)
    assert (dash, signer, blob[:4].hex()) == ("\u2014", name, key_id)
    assert hashlib.sha256(name.encode() + b"\n" + public).digest()[:4].hex() == key_id
    Ed25519PublicKey.from_public_bytes(public[1:]).verify(blob[4:], f"{body}\n".encode())
    origin, size, root = body.split("\n")
    assert origin == name
    return int(size), base64.b64decode(root)


def lines_of(name: str) -> list[str]:
    return (EXAMPLE / name).read_text().removesuffix("\n").split("\n")


def test_the_published_example_is_what_the_page_says() -> None:
    lines = lines_of("export.jsonl")
    key = (EXAMPLE / "log.pub").read_text()
    checkpoint = json.loads(lines[-1])["checkpoint"]
    assert [json.loads(line)["seq"] for line in lines] == list(range(1, len(lines) + 1))
    leaves = [leaf_of(line) for line in lines]
    assert open_checkpoint(checkpoint, key) == (len(lines), root_of(leaves))
    size, root = open_checkpoint((EXAMPLE / "older.checkpoint").read_text(), key)
    assert root_of(leaves[:size]) == root
    shown = re.sub(r"^    ", "", DOCUMENT.read_text().split("origin, size and root:\n\n")[1].split("\n\nThe origin")[0])
    assert shown.replace("\n    ", "\n") + "\n" == checkpoint


def test_the_published_filtered_example_is_what_the_page_says() -> None:
    lines = lines_of("filtered.jsonl")
    last = json.loads(lines[-1])
    size, root = open_checkpoint(last["checkpoint"], (EXAMPLE / "log.pub").read_text())
    leaves = [leaf_of(line) for line in lines]
    for line, leaf in zip(lines, leaves, strict=True):
        row = json.loads(line)
        assert included(row["seq"] - 1, size, leaf, [bytes.fromhex(each) for each in row["proof"]]) == root
    assert last["seq"] == size
    assert last["details"]["rows"] == len(lines) - 1
    assert last["details"]["leaves_sha256"] == hashlib.sha256(b"".join(leaves[:-1])).hexdigest()
    assert verify_file(EXAMPLE / "filtered.jsonl", key=(EXAMPLE / "log.pub").read_text()).ok


@pytest.mark.parametrize("change", [lambda text: text, lambda text: text.replace("alice", "mallory")])
def test_this_version_still_verifies_the_published_example(change: Callable[[str], str], tmp_path: Path) -> None:
    text = (EXAMPLE / "export.jsonl").read_text()
    path = tmp_path / "export.jsonl"
    path.write_text(change(text))
    result = verify_file(path, key=(EXAMPLE / "log.pub").read_text(), since=(EXAMPLE / "older.checkpoint").read_text())
    assert result.ok == (change(text) == text)
    assert result.lines == 7
