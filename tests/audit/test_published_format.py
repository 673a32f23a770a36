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


def leaf_of(line: dict[str, Any]) -> bytes:
    for name, commitment in line["personal"].items():
        place, _, member = name.partition(".")
        value = line[place].pop(member, None) if member else line[name]
        salt = line["salt"].get(name)
        if salt is None:
            assert value is None
        else:
            opened = bytes.fromhex(salt) + name.encode() + b"\x1f" + canonical(value)
            assert hashlib.sha256(opened).hexdigest() == commitment
    gone = ("salt", "leaf", "proof", "checkpoint", "user_id", "replay")
    committed = canonical({name: value for name, value in line.items() if name not in gone})
    leaf = hashlib.sha256(b"\x00" + committed).digest()
    assert leaf.hex() == line["leaf"]
    return leaf


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


def test_the_published_example_is_what_the_page_says() -> None:
    text = (EXAMPLE / "export.jsonl").read_text()
    lines = [json.loads(line, parse_float=number) for line in text.removesuffix("\n").split("\n")]
    key = (EXAMPLE / "log.pub").read_text()
    checkpoint = lines[-1]["checkpoint"]
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    leaves = [leaf_of(line) for line in lines]
    assert open_checkpoint(checkpoint, key) == (len(lines), root_of(leaves))
    size, root = open_checkpoint((EXAMPLE / "older.checkpoint").read_text(), key)
    assert root_of(leaves[:size]) == root
    shown = re.sub(r"^    ", "", DOCUMENT.read_text().split("origin, size and root:\n\n")[1].split("\n\nThe origin")[0])
    assert shown.replace("\n    ", "\n") + "\n" == checkpoint


@pytest.mark.parametrize("change", [lambda text: text, lambda text: text.replace("alice", "mallory")])
def test_this_version_still_verifies_the_published_example(change: Callable[[str], str], tmp_path: Path) -> None:
    text = (EXAMPLE / "export.jsonl").read_text()
    path = tmp_path / "export.jsonl"
    path.write_text(change(text))
    result = verify_file(path, key=(EXAMPLE / "log.pub").read_text(), since=(EXAMPLE / "older.checkpoint").read_text())
    assert result.ok == (change(text) == text)
    assert result.lines == 5
