"""What a serving gateway tells an operator on stderr, by level and in both forms."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.app import init_home
from gateway.client import Client

WAIT_S = 60.0


class Served:
    """`hearthgate serve` on a new home, and its stderr."""

    def __init__(self, folder: Path, settings: str, *options: str) -> None:
        self.home = folder / "home"
        init_home(self.home, plugins=True)
        (self.home / "hearthgate.toml").write_text(settings)
        self.stderr = folder / "stderr"
        with self.stderr.open("wb") as stderr:
            command = [sys.executable, "-m", "gateway.cli", "serve", "--home", self.home, "--listen", "127.0.0.1:0"]
            self.process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=stderr, text=True)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if "hearthgate.sock" in line:
                break

    @property
    def lines(self) -> list[str]:
        return self.stderr.read_text().splitlines()

    def until_told(self, *words: str) -> str:
        """Wait for a line with these words."""
        deadline = time.monotonic() + WAIT_S
        while True:
            for line in self.lines:
                if all(word in line for word in words):
                    return line
            assert time.monotonic() < deadline, "\n".join(self.lines)
            time.sleep(0.02)

    def live(self) -> None:
        """Register, approve, run, fail, break the policy and mend it."""
        with Client(self.home) as client:

            def post(path: str, body: dict[str, Any]) -> None:
                client.request("POST", f"/v1/plugins{path}", json=body)

            post("", {"folder": "notes"})
            post("/notes/approve", {"reason": "zz-canary-reason"})
            post("/notes/execute", {"payload": {"action": "remember", "text": "zz-canary-text"}})
            post("/notes/execute", {"payload": {"action": "diary_summary"}})
        rule = self.home / "policies" / "rules" / "91-mine.csv"
        rule.write_text("p, mine, plugin:notes, vault, raed, notes, -, allow, x\n")
        self.until_told("rules/91-mine.csv:1", "did you mean `read`")
        rule.unlink()

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(WAIT_S)
        if self.process.stdout is not None:
            self.process.stdout.close()


@pytest.fixture
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path, *request.param)
    yield made
    made.end()


@pytest.mark.parametrize("served", [('[log]\nformat = "json"\n', "--debug")], indirect=True)
def test_debug_tells_each_request_and_decision_with_ids_and_nothing_of_what_they_were_about(served: Served) -> None:
    served.live()
    served.end()
    told = [json.loads(line) for line in served.lines]
    assert {"at", "level", "part", "message"} == set().union(*told)
    assert {each["level"] for each in told} >= {"debug", "info", "warning"}
    messages = [each["message"] for each in told]
    for words in (
        "notes asks vault.write in execution ",
        "POST /v1/plugins/notes/execute: 200 in ",
        "plugin notes: activate, so it is active (it was approved)",
        "of notes failed after ",
        "generation 2 is in force: ",
        "stopping",
    ):
        assert any(words in message for message in messages), messages
    assert messages[-1] == "stopped"
    assert "zz-canary" not in "".join(served.lines)


@pytest.mark.parametrize("served", [('[log]\nlevel = "warning"\n',)], indirect=True)
def test_at_level_warning_only_what_needs_somebody_is_told(served: Served) -> None:
    served.live()
    served.end()
    assert not [line for line in served.lines if " INFO " in line or " DEBUG " in line]
    assert [line for line in served.lines if " WARNING policy: rules/91-mine.csv:1: level 'raed'" in line]
    assert [line for line in served.lines if " WARNING execute: execution " in line]
    assert "zz-canary" not in "".join(served.lines)
