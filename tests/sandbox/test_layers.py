"""Every case again, with one barrier less each time: what holds then is the second wall."""
# ruff: noqa: ANN401  # the fixture's class lies in conftest, which tests do not import

import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sandbox import landlock

THREAT_MODEL = Path(__file__).parent.parent.parent / "docs" / "threat-model.md"
BEGIN, END = "<!-- layers -->\n", "<!-- /layers -->\n"
LAYERS = (
    "user namespace",
    "root",
    "pid namespace",
    "network namespace",
    "ipc namespace",
    "uts namespace",
    "capabilities",
    "seccomp list",
    "refusals",
    "both filters",
    "landlock",
    "cgroup",
    "rlimits",
)
NAMESPACES = {"user": "user", "pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts"}
SECONDS_EACH, SECONDS = 10, 60
TRIES = 20
# Such a cell has a loopback of its own that is up, which takes what nobody there receives: that reaches nothing.
TO_ITS_OWN_LOOPBACK = {"send_datagram", "send_by_message"}
RELAYED = "network, with a way out"
MB = 1 << 20
# Landlock knows ports since its version 4 (Linux 6.7), and all that the page tells of since version 6 (Linux 6.12).
IS_WHOLE = landlock.abi() >= 6
HELD_TWICE = {"network", RELAYED, "kernel"} if IS_WHOLE else {"kernel"}


@dataclass(frozen=True, slots=True)
class Walls:
    """What each case was let through by."""

    cases: tuple[Mapping[str, Any], ...]
    through: tuple[frozenset[str], ...]

    def grouped(self) -> dict[tuple[str, str], list[str]]:
        """Put cases together that the same layers hold: area and layers to their names."""
        groups: dict[tuple[str, str], list[str]] = defaultdict(list)
        for case, through in zip(self.cases, self.through, strict=True):
            if "optional" in case.get("flags", []):
                continue  # what a kernel may be built without would make the table another one there
            told = ", ".join(layer for layer in LAYERS if layer in through) or "none alone"
            groups[case["area"], told].append(_name_of(case))
        return groups


@pytest.fixture(scope="session")
def walls(host: Any, world: Any, attacks: list[dict[str, Any]]) -> Walls:
    cases = tuple(each for each in attacks if os.uname().machine == "x86_64" or "only_x86" not in each.get("flags", []))
    # The cases of the network once more, in cells that have a way out.
    again = (each for each in cases if each["area"] == "network" and each["deed"] not in TO_ITS_OWN_LOOPBACK)
    relayed = tuple({**each, "area": RELAYED} for each in again)
    plain, cases = len(cases), (*cases, *relayed)
    orders = [(each["deed"], world.given(each, host, in_cell=True)) for each in cases]
    through: list[set[str]] = [set() for _ in cases]
    for layer in (None, *LAYERS):
        for order in orders:
            order[1].update({"pid": world.known["pid"]} if "pid" in order[1] else {})
        told = ask(host, "attempt_each", layer, orders=orders[:plain], seconds=SECONDS_EACH)
        told += ask(host, "attempt_each", layer, relay=True, orders=orders[plain:], seconds=SECONDS_EACH)
        world.revive()
        for place, each in enumerate(told):
            assert layer or not each["done"], (orders[place], each)
            if each["done"]:
                through[place].add(str(layer))
    return Walls(cases=cases, through=tuple(map(frozenset, through)))


def ask(host: Any, function: str, layer: str | None, *, relay: bool = False, **given: object) -> Any:
    spec = {"require_cgroup": False, "relay": relay, "limits": {"timeout_s": SECONDS}}
    for _ in range(TRIES):
        told = host.call(function, without=layer, spec=spec, patience_s=SECONDS, **given)
        # Without a network of its own a cell's door is the host's, and another test may have it just now.
        if told.get("refused", {}).get("barrier") != "relay":
            break
    assert "frame" in told, (layer, told)
    assert told["frame"] is not None, (layer, told)
    assert told["frame"]["t"] == "result", (layer, told)
    return told["frame"]["value"]


def _name_of(case: Mapping[str, Any]) -> str:
    return " ".join((case["deed"], *(str(each).removeprefix("$") for each in case.get("given", {}).values())))


def table_of(walls: Walls) -> str:
    rows = ["| area | let through without | cases |", "|---|---|---|"]
    order = sorted(walls.grouped().items(), key=lambda each: (each[0][0], each[0][1] != "none alone", each[0][1]))
    for (area, told), names in order:
        rows.append(f"| {area} | {told} | {', '.join(f'`{name}`' for name in sorted(names))} |")
    return "\n".join(rows) + "\n"


def test_no_case_of_the_network_or_the_kernel_rests_on_one_layer(walls: Walls) -> None:
    alone = [
        (_name_of(case), sorted(through))
        for case, through in zip(walls.cases, walls.through, strict=True)
        if case["area"] in HELD_TWICE and through - {"both filters"}
    ]
    assert alone == []


def test_the_threat_model_tells_what_each_layer_holds(walls: Walls, host: Any) -> None:
    table = table_of(walls)
    print(table)  # noqa: T201  # `make attacks` shows it
    if host.uid != 0 or os.uname().machine != "x86_64":
        pytest.skip("the page tells of root's cells on x86_64")
    if not IS_WHOLE:
        pytest.skip(f"the page tells of Landlock's version 6 on, and here is {landlock.abi()}")
    page = THREAT_MODEL.read_text()
    kept = page.partition(BEGIN)[2].partition(END)[0]
    assert kept == table, "docs/threat-model.md: put in the table that `make attacks` prints"


def test_a_layer_that_is_taken_away_is_gone(host: Any, walls: Walls) -> None:
    outside = host.twin("tell_state")["evidence"]
    whole = ask(host, "tell_state", None)
    for kind in NAMESPACES.values():
        assert whole[kind] != outside[kind]
    # The zygote of an ordinary user has a namespace of users too, which owns the others.
    for name, kind in NAMESPACES.items():
        if kind in {"user", "pid"} and host.uid != 0:
            continue
        assert ask(host, "tell_state", f"{name} namespace")[kind] == outside[kind], name
    assert int(whole["CapEff"], 16) == 0
    assert int(ask(host, "tell_state", "capabilities")["CapEff"], 16) != 0
    assert whole["Seccomp_filters"] == ("3" if host.started["asks"] else "2")
    seen = frozenset[str]().union(*walls.through)
    assert {"root", "seccomp list", "both filters", "landlock", "rlimits"} <= seen


def test_without_a_control_group_the_limits_of_a_process_still_hold(host: Any) -> None:
    spec = {"require_cgroup": False, "limits": {"memory_bytes": 64 * MB}}
    told = host.call("fill_memory", without="cgroup", spec=spec, size=160 * MB)
    assert told["ending"]["oom"] is False
    assert told["frame"]["type"] == "MemoryError"


def test_where_privileges_could_be_gained_no_cell_is_made(host: Any) -> None:
    told = host.call("tell_state", without="no new privileges")
    assert told["refused"]["barrier"] in {"landlock", "seccomp"}
