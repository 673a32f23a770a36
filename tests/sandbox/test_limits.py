"""Each limit, broken for real; with the same deed done without limits where that is harmless."""
# ruff: noqa: ANN401  # the fixture's class lies in conftest, which tests do not import

import errno
import signal
from pathlib import Path
from typing import Any

import pytest

MB = 1 << 20


def limits(**changed: object) -> dict[str, object]:
    return {"limits": {"timeout_s": 15, "memory_bytes": 64 * MB, "processes": 12, "open_files": 40, **changed}}


TWINS = [
    # deed, what it is given, the limit that stops it, one that does not, what is told where nothing does
    ("fill_memory", {"size": 160 * MB}, {}, {"memory_bytes": 512 * MB}, 160 * MB),
    ("fork_until_refused", {"most": 30}, {}, {"processes": 64}, {"count": 30, "errno": None}),
    ("open_until_refused", {"most": 200}, {}, {"open_files": 512}, {"count": 200, "errno": None}),
    (
        "fill_inodes",
        {"scratch": "/scratch", "most": 10_000},
        {"scratch_bytes": 8 * MB},
        {"scratch_bytes": 256 * MB},
        {"count": 10_000, "errno": None},
    ),
    (
        "fill_disk",
        {"scratch": "/scratch", "size": 16 * MB},
        {"scratch_bytes": 8 * MB},
        {"scratch_bytes": 64 * MB},
        {"written": 16 * MB + 65536, "errno": None},
    ),
    ("rest", {"seconds": 1.5}, {"timeout_s": 0.2}, {"timeout_s": 15}, "rested"),
]


@pytest.mark.parametrize(("deed", "given", "narrow", "wide", "done"), TWINS, ids=[each[0] for each in TWINS])
def test_a_deed_that_a_limit_stops_is_done_under_a_wider_one(
    host: Any, deed: str, given: dict[str, Any], narrow: dict[str, Any], wide: dict[str, Any], done: Any
) -> None:
    stopped = host.call(deed, spec=limits(**narrow), **given)
    assert stopped["frame"] is None or stopped["frame"].get("value") != done, stopped
    assert host.call(deed, spec=limits(**wide), **given)["frame"]["value"] == done


def test_a_memory_bomb_ends_alone(host: Any) -> None:
    told = host.call("fill_memory", spec=limits(), size=160 * MB)
    if "memory" in host.started["controllers"]:
        assert told["ending"]["signal"] == signal.SIGKILL
        assert told["ending"]["oom"]
        assert told["ending"]["memory_peak_bytes"] <= 64 * MB
    else:
        assert told["frame"]["type"] == "MemoryError"
    assert host.call("fill_memory", spec=limits(), size=16 * MB)["frame"]["value"] == 16 * MB


def test_memory_is_counted_for_the_whole_tree(host: Any) -> None:
    if "memory" not in host.started["controllers"]:
        # WHY: process limits alone cannot count a tree's memory, so there is no tree.
        alone = {**limits(), "single_process": True}
        told = host.call("fill_memory_in_children", spec=alone, children=4, size=40 * MB)
        assert told["frame"]["type"] == "PermissionError"
        return
    told = host.call("fill_memory_in_children", spec=limits(timeout_s=1), children=4, size=40 * MB)
    assert told["ending"]["oom"]
    assert told["ending"]["memory_peak_bytes"] <= 64 * MB


def test_a_cell_of_one_process_makes_threads_but_no_child(host: Any) -> None:
    alone = {**limits(), "single_process": True, "require_cgroup": True}
    assert host.call("fork_until_refused", spec=alone, most=3)["frame"]["value"] == {"count": 0, "errno": errno.EPERM}
    assert host.call("count_in_threads", spec=alone, threads=3)["frame"]["value"] == 3
    assert host.call("fill_memory", spec=alone, size=16 * MB)["frame"]["value"] == 16 * MB
    bomb = host.call("fill_memory", spec=alone, size=400 * MB)
    assert bomb["ending"]["signal"] == signal.SIGKILL or bomb["frame"]["type"] == "MemoryError"
    twin = host.call("fork_until_refused", spec=limits(), most=3)["frame"]["value"]
    assert twin == {"count": 3, "errno": None}


def test_a_fork_bomb_stays_small(host: Any) -> None:
    told = host.call("fork_until_refused", spec=limits(), most=200)
    assert told["frame"]["value"]["errno"] == errno.EAGAIN
    assert told["frame"]["value"]["count"] < 12


def test_files_cannot_fill_more_than_the_scratch_folder(host: Any) -> None:
    told = host.call("fill_disk", spec=limits(scratch_bytes=8 * MB), scratch="/scratch", size=64 * MB)["frame"]["value"]
    assert told["errno"] in {errno.EFBIG, errno.ENOSPC}
    assert told["written"] <= 8 * MB


def test_names_cannot_fill_the_scratch_folder_without_end(host: Any) -> None:
    told = host.call("fill_inodes", spec=limits(scratch_bytes=8 * MB), scratch="/scratch", most=10_000)
    assert told["frame"]["value"]["errno"] == errno.ENOSPC


def test_open_files_are_bounded(host: Any) -> None:
    told = host.call("open_until_refused", spec=limits(), most=200)["frame"]["value"]
    assert told["errno"] == errno.EMFILE
    assert told["count"] < 40


def test_a_gigabyte_of_output_is_read_away_and_bounded(host: Any) -> None:
    told = host.call("print_much", spec=limits(), megabytes=1024)
    assert told["frame"] == {"t": "result", "value": "printed"}
    assert len(told["output"]) == 64 << 10


@pytest.mark.parametrize("function", ["spin", "resist", "stop_oneself"])
def test_the_sandboxs_own_clock_ends_what_goes_on(host: Any, function: str) -> None:
    told = host.call(function, spec=limits(timeout_s=0.2))
    assert told["ending"]["timed_out"]
    assert told["ending"]["signal"] == signal.SIGKILL
    assert told["frame"] is None


def test_time_used_and_memory_used_are_told(host: Any) -> None:
    ending = host.call("fill_memory", spec=limits(), size=20 * MB)["ending"]
    assert ending["cpu_s"] > 0
    assert 20 * MB < ending["memory_peak_bytes"] < 64 * MB
    assert ending == {**ending, "exit": 0, "signal": None, "oom": False, "timed_out": False}


def test_no_group_of_an_ended_cell_is_left(host: Any) -> None:
    assert host.call("leave_orphans", spec=limits(), count=3)["ending"]["exit"] == 0
    groups = Path("/sys/fs/cgroup").glob(f"**/hearthgate-{host.started['zygote']}/cell-*")
    assert len({each.name for each in groups}) <= 1  # of the next cell, which nobody ordered yet


def test_orphans_that_nobody_waits_for_never_use_up_the_process_count(host: Any) -> None:
    for _ in range(8):
        told = host.call("leave_orphans", spec=limits(), count=4)
        assert told["frame"] == {"t": "result", "value": 4}, told


def test_two_cells_of_one_user_do_not_count_as_one(host: Any) -> None:
    told = host.call("fork_until_refused", spec=limits(), most=200)["frame"]["value"]["count"]
    again = host.call("fork_until_refused", spec=limits(), most=200)["frame"]["value"]["count"]
    assert told == again
