"""Each deed is tried in a cell, where it must fail, and by a plain twin, where it must succeed."""
# ruff: noqa: ANN401  # the fixture's class lies in conftest, which tests do not import

import errno
import os
import re
import signal
import tomllib
from pathlib import Path
from typing import Any

import pytest

ATTACKS = tomllib.loads((Path(__file__).parent.parent / "testdata" / "sandbox" / "attacks.toml").read_text())["attack"]
CANNOT_BE_ASKED = {errno.ENOSYS, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.ENODEV, errno.EOPNOTSUPP}


def name_of(attack: dict[str, Any]) -> str:
    return "-".join((attack["deed"], *(str(each).replace("/", "_") for each in attack.get("given", {}).values())))


def test_there_are_many_of_them_and_none_twice() -> None:
    assert len(ATTACKS) >= 90
    assert len({(each["deed"], str(each.get("given"))) for each in ATTACKS}) == len(ATTACKS)


@pytest.mark.parametrize("attack", ATTACKS, ids=name_of)
def test_a_cell_holds_what_its_twin_can_do(attack: dict[str, Any], host: Any, world: Any) -> None:
    deed, flags = attack["deed"], attack.get("flags", [])
    if "only_x86" in flags and os.uname().machine != "x86_64":
        pytest.skip("exists on x86_64 alone")
    inside = host.call("attempt", deed=deed, **world.given(attack, host, in_cell=True))
    assert inside["frame"]["t"] == "result", inside
    value = inside["frame"]["value"]
    assert not value["done"], value
    assert re.search(attack["held_by"], value["by"]), value

    if "only_root" in flags and host.uid != 0:
        return
    given = world.given(attack, host, in_cell=False)
    outside = host.twin(deed, privileged="privileged" in flags, **given)
    if "optional" in flags and outside.get("errno") in CANNOT_BE_ASKED:
        pytest.skip(f"held; this kernel offers it to nobody: {outside['by']}")
    if "by_host" in flags and host.uid != 0 and outside.get("errno") == errno.EACCES:
        pytest.skip(f"held; this host offers it to root alone: {outside['by']}")
    world.revive()
    assert outside["done"], f"without the barrier the deed must succeed, else this proves nothing: {outside}"


def test_a_secret_in_the_launchers_memory_is_in_no_cell(host: Any) -> None:
    backwards = host.secret[::-1]
    inside = host.call("attempt", deed="find_in_memory", reversed_secret=backwards)
    assert inside["frame"]["value"] == {"done": False, "by": "LookupError: not in this process's memory", "errno": None}
    forked = host.twin("find_in_memory", reversed_secret=backwards, hold=host.secret_file)
    assert forked["done"], "a process forked from one that holds the secret must find it"
    clean = host.twin("find_in_memory", reversed_secret=backwards)
    assert not clean["done"], "the search must not find its own pattern"


@pytest.mark.parametrize("function", ["x32_call", "old_gate"])
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="other ways into the kernel exist on x86_64 alone")
def test_another_way_into_the_kernel_ends_the_process(host: Any, function: str) -> None:
    ending = host.call(function)["ending"]
    assert ending["signal"] == signal.SIGSYS


def test_killing_everyone_reaches_nobody_outside(host: Any, world: Any) -> None:
    told = host.call("kill_everyone")
    assert told["frame"]["value"] == 2
    assert world.victim.poll() is None
    assert host.call("attempt", deed="look_up_name")["frame"]["t"] == "result"
    assert host.twin("kill_process", pid=world.victim.pid)["done"]
    world.revive()


@pytest.mark.parametrize("text", ["ffffffff00000000", "00000002ffffffff", "000000025b5d", "00000002000000007b7b"])
def test_what_is_no_frame_ends_the_cell_not_the_reader(host: Any, text: str) -> None:
    told = host.call("say_raw", text=text, then_wait=True, patience_s=0.5)
    assert told["frame"]["t"] in {"broken", "silence"}
    assert told["ending"]["signal"] == signal.SIGKILL
    assert host.call("attempt", deed="look_up_name")["frame"]["t"] == "result"
