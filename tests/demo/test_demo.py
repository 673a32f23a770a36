"""`hearthgate demo` as a newcomer runs it, and as an impatient one ends it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

HEARTHGATE = str(Path(sys.executable).with_name("hearthgate"))
DEADLINE_S = 60.0


@pytest.fixture
def started(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Give a demo that has its gateway up, with a temporary folder of its own."""
    process = subprocess.Popen(
        [HEARTHGATE, "demo"], env={**os.environ, "TMPDIR": str(tmp_path)}, stdout=subprocess.PIPE, text=True
    )
    yield process
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def told_until(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if words in line:
            return
    pytest.fail(f"never said `{words}`: {text}")


def serving(folder: Path) -> list[int]:
    """Give the processes that have something below `folder` on their command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
        except OSError:
            continue
        if any(word.startswith(f"{folder}/") for word in words):
            found.append(int(process.name))
    return found


def test_every_claim_of_the_demo_holds_and_nothing_stays_behind(tmp_path: Path) -> None:
    left = subprocess.run(
        [HEARTHGATE, "demo", "--json"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert left.returncode == 0, left.stderr
    told = json.loads(left.stdout)
    assert told["ok"]
    assert all(fact["held"] for fact in told["facts"])
    assert {fact["chapter"] for fact in told["facts"]} == {
        "A house",
        "Three plugins apply",
        "A person approves",
        "A call that is allowed",
        "A call that is refused",
        "A rule is edited",
        "A slip of the pen",
        "A hostile plugin",
        "The proof",
    }
    assert "\x1b" not in left.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_demo_that_is_interrupted_stops_its_gateway_and_takes_its_home_along(
    started: subprocess.Popen[str], tmp_path: Path, sent: signal.Signals, status: int
) -> None:
    told_until(started, "policy in force")
    assert serving(tmp_path)
    started.send_signal(sent)
    assert started.wait(DEADLINE_S) == status
    deadline = time.monotonic() + DEADLINE_S
    while serving(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not serving(tmp_path)
    assert not list(tmp_path.iterdir())
