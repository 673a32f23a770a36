"""Whatever policy files, records and callers say, no verb lets it steer a terminal or pass for a line of its own."""

import json
import os
import pty
import shutil
import subprocess
import sys
import threading
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from gateway.client import Client

HOSTILE = "said\nFORGED line\r\x1b[2J\x1b]0;owned\x07\x9b31m\u202e\u2028\x7f"
SPELT = HOSTILE.encode()
CODED = "".join(f"%{byte:02X}" for byte in SPELT)
RULES = f"""\
p, asked, plugin:notes, vault, read, diary, consent, allow, {CODED}
p, refused, plugin:notes, vault, read, keys, -, deny, {CODED}
p, compared, plugin:notes, vault, read, mood, context.mood == {CODED}, allow, {CODED}
p, given, plugin:notes, vault, write, diary, -, allow, {CODED}
"""
CASE = f"""
[[case]]
name = {json.dumps(HOSTILE)}
ask = {{ subject = "plugin:notes", kind = "vault", level = "read", scope = "keys" }}
want = "allow"
"""
EDITED = "p, given, plugin:notes, vault, write, diary, consent, allow, w\n"
CONTROL = {"Cc", "Cf", "Cs", "Zl", "Zp"}
VERBS = (
    "policy check", "policy status", "policy log", "policy log --diff", "policy diff {edited}",
    "policy impact {edited}", "policy explain {denied}", "policy explain {compared}", "policy explain {asked}",
    "policy explain --subject plugin:notes --permission vault_read --scope keys", "policy suggest {denied}",
    "policy suggest {compared}", "policy suggest {asked}", "policy test {failing}", "policy check {broken}",
    "policy diff {broken}", "policy add {line} --dry-run", "policy fmt --check {edited}", "policy rollback 1 --dry-run",
    "policy selfcheck --requests 20", "audit tail", "audit search", "audit search FORGED", "audit export",
    "audit export --format {hostile}", "audit show {event}", "audit search {hostile}", "lockdown list", "key list",
    "plugin list", "plugin show {hostile}", "permission requests", "consent list --user {hostile}",
    "policy explain {hostile}", "policy suggest {hostile}", "policy check {hostile}",
)  # fmt: skip


def nasty(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(text)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Give the words of a home full of hostile texts."""
    root = tmp_path_factory.mktemp("hostile")
    home = root / "home"
    program = str(Path(sys.executable).with_name("hearthgate"))
    subprocess.run([program, "init", str(home)], check=True, capture_output=True)
    nasty(home / "policies", "rules/90-house.csv", RULES)
    words = {"home": str(home), "program": program, "hostile": HOSTILE}
    for name, file, text in (
        ("edited", "rules/90-house.csv", RULES.splitlines()[0] + "\n" + EDITED),
        ("failing", "tests/case.toml", CASE),
        ("broken", "rules/95-broken.csv", f"p, a, plugin:notes, vault, {CODED}, x, -, allow, w\nHOSTILE{HOSTILE}\n"),
    ):
        shutil.copytree(home / "policies", root / name)
        nasty(root / name, file, text)
        words[name] = str(root / name)
    words["line"] = f"more, plugin:notes, vault, read, more, -, allow, {CODED}"
    with Client(home) as client:

        def ask(scope: str, **context: Any) -> str:  # noqa: ANN401 (any JSON value)
            body = {"subject": "plugin:notes", "permission": "vault_read", "scope": scope, "user": "alice"}
            decided: str = client.request("POST", "/v1/decisions", json={**body, "context": context}).body[
                "decision_id"
            ]
            return decided

        words |= {"asked": ask("diary"), "denied": ask("keys"), "compared": ask("mood", mood=HOSTILE)}
        write = {"subject": "plugin:notes", "permission": "vault_write", "scope": "diary", "user": "alice"}
        client.request("POST", "/v1/decisions", json=write)
        client.request("POST", "/v1/policy/reload", json={"reason": HOSTILE})
        client.request("POST", "/v1/lockdown", json={"scope": "user:zoe", "reason": HOSTILE})
        words["event"] = f"audit-{words['compared']}"
    return words


def shown(told: dict[str, str], verb: str) -> str:
    """Run a verb on a terminal and give all that it shows."""
    arguments = [part.format(**told) if part.startswith("{") else part for part in verb.split(" ")]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HEARTHGATE_")}
    ours, theirs = pty.openpty()
    seen: list[bytes] = []

    def read() -> None:
        try:
            while chunk := os.read(ours, 65536):
                seen.append(chunk)
        except OSError:
            return  # the other end is closed

    reader = threading.Thread(target=read)
    reader.start()
    try:
        done = subprocess.run(
            [told["program"], "--home", told["home"], *arguments],
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            env={**clean, "TERM": "dumb", "COLUMNS": "200", "NO_COLOR": "1"},
            timeout=60,
            check=False,
        )
    finally:
        os.close(theirs)
        reader.join()
        os.close(ours)
    assert done.returncode in {0, 1, 2, 4}, verb
    return b"".join(seen).decode().replace("\r\n", "\n")


@pytest.mark.parametrize("verb", VERBS)
def test_nothing_that_was_written_or_recorded_steers_a_terminal_or_forges_a_line(
    told: dict[str, str], verb: str
) -> None:
    text = shown(told, verb)
    assert text
    assert "unforeseen" not in text
    odd = {f"{ord(char):#x}" for char in text if unicodedata.category(char) in CONTROL and char != "\n"}
    assert not odd, (verb, text)
    assert not [line for line in text.splitlines() if line.startswith("FORGED")], (verb, text)
