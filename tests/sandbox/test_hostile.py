"""The hostile example plugin is held in all it tries, and does harm where nothing holds it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox import frames
from sandbox.launcher import Launcher
from sandbox.spec import Limits, Spec

HOSTILE = Path(__file__).parent.parent.parent / "plugins" / "hostile" / "main.py"
SOON_S = 20.0
DENIED = {"ok": False, "error": "denied", "decision_id": "d", "reason": "no_rule", "near_misses": []}
UNCONFINED = """
import json, importlib.util, sys
spec = importlib.util.spec_from_file_location("main", sys.argv[1])
main = importlib.util.module_from_spec(spec)
spec.loader.exec_module(main)
class Ctx:
    scratch = sys.argv[2]
names = sys.argv[3:]
print(json.dumps([main.tried(name, deed, Ctx) for name, deed in main.DEEDS if name in names]))
"""
HARMLESS_OUTSIDE = (
    "list home folders",
    "read secrets from the environment",
    "open a raw socket",
    "enter a namespace with all capabilities",
    "change its own code",
    "run a program from memory",
    "run a program from the scratch folder",
    "run a shell",
)


@pytest.fixture
def hostile(spec_of: Callable[..., Spec]) -> Spec:
    return spec_of(HOSTILE.read_text(), limits=Limits(timeout_s=15, memory_bytes=64 << 20, processes=16))


def call(launcher: Launcher, spec: Spec, function: str) -> tuple[dict[str, object] | None, object]:
    with launcher.spawn(spec) as cell:
        cell.channel.settimeout(SOON_S)
        frames.write_frame(cell.channel, {"t": "call", "function": function, "kwargs": {}, "deadline_s": 10})
        frame = frames.read_said(cell.channel)
        while frame is not None and frame[0]["t"] == "ask":
            frames.write_frame(cell.channel, {"t": "answer", "id": frame[0]["id"], **DENIED})
            frame = frames.read_said(cell.channel)
        return (None if frame is None else frame[0]), cell.wait(SOON_S)


def test_every_deed_is_held(launcher: Launcher, hostile: Spec) -> None:
    frame, _ = call(launcher, hostile, "attack")
    assert frame is not None
    told = frame["value"]
    assert told["tried"] == 30
    assert [each for each in told["deeds"] if not each["held"]] == []
    asked = [each for each in told["deeds"] if each["deed"].startswith(("ask for", "ask to", "write where"))]
    assert all("PermissionDenied" in each["by"] for each in asked)
    assert len(asked) == 7


@pytest.mark.skipif(os.getuid() != 0, reason="what an ordinary user may not do either proves nothing")
def test_the_same_code_does_harm_without_a_cell(tmp_path: Path) -> None:
    copy = tmp_path / "main.py"
    copy.write_text(HOSTILE.read_text())
    done = subprocess.run(
        [sys.executable, "-c", UNCONFINED, str(copy), str(tmp_path), *HARMLESS_OUTSIDE],
        capture_output=True,
        text=True,
        timeout=SOON_S,
        check=True,
    )
    told = json.loads(done.stdout.splitlines()[-1])
    assert [each for each in told if each["held"]] == []
    assert len(told) == len(HARMLESS_OUTSIDE)


def test_its_bombs_end_alone(launcher: Launcher, hostile: Spec) -> None:
    frame, ending = call(launcher, hostile, "bomb")
    if "memory" in launcher.controllers:
        assert frame is None
        assert ending.oom
    else:
        assert frame is not None
        assert frame["type"] == "MemoryError"
    frame, _ = call(launcher, hostile, "fork_bomb")
    assert frame is not None
    assert frame["value"]["processes"] < 16
