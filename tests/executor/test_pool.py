"""Cells come in bounded numbers, and none outlives the call it was made for."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from tests.conftest import Home, MakeHome

NONE_WAIT = "[sandbox]\nmax_idle_cells = 0\n"  # so that every cell that is there is a call's
SMALL = "[sandbox]\nmax_cells = 1\nmax_waiting = 1\n"


def cells(home: "Home") -> list[psutil.Process]:
    """Give the first process of every cell, but for the one that nobody ordered yet, which can still do all."""
    pid = home.parts.pool._launcher.zygote_pid
    born = [] if pid is None else [each for zygote in psutil.Process(pid).children() for each in zygote.children()]
    return [each for each in born if not is_spare(each)]


def is_spare(process: psutil.Process) -> bool:
    try:
        return "CapEff:\t0000000000000000" not in Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return True


def test_calls_beyond_the_cells_wait_and_calls_beyond_the_queue_are_refused(make_home: "MakeHome") -> None:
    home = make_home(settings=SMALL)
    home.install("puppet")
    alice = home.person("alice", "execute")
    first = alice.begin("puppet", ["sleep", 30], timeout_s=30)
    home.until(lambda: cells(home))
    second = alice.begin("puppet", ["sleep", 0])
    home.until(lambda: home.parts.pool._waiting == 1)
    refused = alice.begin("puppet", ["sleep", 0]).result(20)
    assert refused.status_code == 429
    assert refused.headers["content-type"] == "application/problem+json"
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["type"] == "urn:hearthgate:problem:overloaded"
    intent = home.records(event_type="execution_started")[-1]
    outcome = home.records(event_type="execution_failed")[-1]
    assert outcome["resolution"] == "refused"
    assert outcome["details"]["execution_id"] == intent["details"]["execution_id"]
    home.owner.post("/v1/lockdown", {"scope": "all", "reason": "enough"})
    assert first.result(20).json()["outcome"] == "killed"
    assert second.result(20).json()["outcome"] == "killed"


def test_a_call_that_ended_leaves_no_process_and_no_descriptor(make_home: "MakeHome") -> None:
    home = make_home(settings=NONE_WAIT)
    home.install("puppet")
    alice = home.person("alice", "execute")
    for _ in range(
        12
    ):  # enough that readers of the log have left the few descriptors that SQLite keeps for the next ones
        alice.run("puppet", ["sleep", 0])
    before = psutil.Process().num_fds()
    for _ in range(30):
        alice.run("puppet", ["sleep", 0])
    home.until(lambda: not cells(home))
    home.until(lambda: psutil.Process().num_fds() <= before + 8)


def test_a_nested_call_dies_with_the_call_that_made_it(make_home: "MakeHome") -> None:
    home = make_home(settings=NONE_WAIT)
    home.install("inner")
    home.install("outer", wants=("plugin_execute inner",))
    alice = home.person("alice", "execute")
    began = alice.begin("outer", ["plugins.call", "inner", {"do": [["sleep", 60]]}], timeout_s=60)
    home.until(lambda: home.running("inner"))
    home.until(lambda: len(cells(home)) >= 2)
    home.owner.post("/v1/plugins/outer/suspend", {"reason": "stop"})
    assert began.result(20).json()["outcome"] == "killed"
    home.until(lambda: not cells(home))
    assert home.running("inner") == 0
    ended = {row["plugin_id"]: row["resolution"] for row in home.records(event_type="execution_failed")}
    assert ended["outer"] == "killed"
    assert ended["inner"] in {"unknown", "killed"}


def test_nested_calls_are_bounded_too(make_home: "MakeHome") -> None:
    home = make_home(settings="[sandbox]\nmax_cells = 2\nmax_waiting = 64\n")
    home.install("inner")
    many = """\
import threading


def execute(ctx, payload):
    calls = [threading.Thread(target=ctx.plugins.call, args=("inner", {"do": [["sleep", 0.2]]})) for _ in range(6)]
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    return len(calls)
"""
    home.install("outer", many, wants=("plugin_execute inner",))
    alice = home.person("alice", "execute")
    both = [alice.begin("outer"), alice.begin("outer")]
    most = 0
    while not all(each.done() for each in both):
        most = max(most, len(home.parts.pool._conversations))
        time.sleep(0.005)
    assert [each.result().json()["output"] for each in both] == [6, 6]
    assert most <= 4


@pytest.mark.parametrize("circle", ["self", "two"])
def test_plugins_that_call_in_a_circle_are_refused(home: "Home", circle: str) -> None:
    other = "outer" if circle == "self" else "inner"
    back = ["plugins.call", "outer", {"do": []}]
    home.install("inner", wants=("plugin_execute outer",))
    home.install("outer", wants=("plugin_execute inner",))
    alice = home.person("alice", "execute")
    deed = back if other == "outer" else ["plugins.call", "inner", {"do": [back]}]
    found = json.dumps(alice.run("outer", deed))
    assert "circle" in found if circle == "two" else "denied" in found or "circle" in found


def test_no_cell_is_left_when_the_gateway_closes(home: "Home", tmp_path: Path) -> None:
    assert tmp_path.exists()
    home.install("puppet")
    alice = home.person("alice", "execute")
    began = alice.begin("puppet", ["sleep", 60], timeout_s=60)
    home.until(lambda: cells(home))
    zygote = psutil.Process(home.parts.pool._launcher.zygote_pid)
    left = [zygote, *cells(home)]
    home.close()
    assert began.result(20).json()["outcome"] == "killed"
    _, alive = psutil.wait_procs(left, timeout=10)
    assert not alive
