"""Cells that stay between calls: who may have them, what they may pass on, and when they end."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from gateway.domain.isolation import Isolation

if TYPE_CHECKING:
    from tests.conftest import Home, MakeHome, Person

COUNTER = """\
import os
import signal
import sys
import threading
import time

LOADED = time.time()
calls = 0


def execute(ctx, payload):
    global calls
    calls += 1
    deed = payload.get("deed")
    return DEEDS[deed](ctx, payload) if deed else {"calls": calls, "loaded": LOADED, "user": ctx.user_id}


def frame(ctx, call, value):
    frames = sys.modules["sandbox.frames"]
    frames.write_frame(ctx._channel._socket, {"t": "result", "value": value, "call": call})


def twice(ctx, payload):
    frame(ctx, ctx._channel._mark["call"], "first")
    return "second"


def later(ctx, payload):
    sock, mark = ctx._channel._socket, dict(ctx._channel._mark)
    frames = sys.modules["sandbox.frames"]
    for _ in range(200):
        frames.write_frame(sock, {"t": "log", "message": "still here", **mark})
        time.sleep(0.005)


def keep(ctx, payload):
    with open("/scratch/kept", "a") as file:
        file.write(payload["word"])


def kept(ctx, payload):
    return open("/scratch/kept").read() if os.path.exists("/scratch/kept") else None


def daemon(ctx, payload):
    for _ in range(payload["count"]):
        try:
            if os.fork() == 0:
                os.setsid()
                time.sleep(60)
                os._exit(0)
        except OSError as error:
            return error.errno
    return 0


DEEDS = {
    "twice": twice,
    "other": lambda ctx, payload: frame(ctx, "019a0000-0000-7000-8000-000000000000", "for another"),
    "later": lambda ctx, payload: threading.Thread(target=later, args=(ctx, payload), daemon=True).start(),
    "close": lambda ctx, payload: (ctx._channel._socket.shutdown(2), time.sleep(30)),
    "stop": lambda ctx, payload: os.kill(os.getpid(), signal.SIGSTOP),
    "stop parent": lambda ctx, payload: os.kill(os.getppid(), signal.SIGSTOP),
    "exit": lambda ctx, payload: os._exit(3),
    "sleep": lambda ctx, payload: time.sleep(payload["s"]),
    "print": lambda ctx, payload: print(payload["word"]),
    "keep": keep,
    "kept": kept,
    "daemon": daemon,
}
"""


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


def call(person: "Person", plugin_id: str = "counter", timeout_s: float = 20, **payload: object) -> dict[str, Any]:
    answer = person.ask("POST", f"/v1/plugins/{plugin_id}/execute", {"payload": payload, "timeout_s": timeout_s})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def counted(person: "Person", plugin_id: str = "counter") -> int:
    found = call(person, plugin_id)
    assert found["outcome"] == "returned", found
    calls: int = found["output"]["calls"]
    return calls


@pytest.mark.parametrize(
    ("wish", "counts"), [(None, [1, 1, 1]), ("pristine", [1, 1, 1]), ("fork", [1, 1, 1]), ("shared", [1, 2, 3])]
)
def test_a_mode_keeps_what_it_says(home: "Home", wish: str | None, counts: list[int]) -> None:
    home.install("counter", COUNTER, **({} if wish is None else {"isolation": wish}))
    alice = home.person("alice", "execute")
    found = [call(alice) for _ in counts]
    assert [each["output"]["calls"] for each in found] == counts
    loaded = {each["output"]["loaded"] for each in found}
    assert len(loaded) == (1 if wish in {"fork", "shared"} else 3)
    assert {each["sandbox_result"]["isolation"] for each in found} == {wish or "pristine"}
    outcome = home.records(event_type="execution_completed")[-1]
    assert outcome["details"]["isolation"] == (wish or "pristine")
    shown = home.owner.get("/v1/plugins/counter").json()["isolation"]
    assert shown == {"wish": wish, "effective": wish or "pristine", "backend": "native"}


@pytest.mark.parametrize("wish", ["fork", "shared"])
def test_no_cell_serves_two_users(home: "Home", wish: str) -> None:
    home.install("counter", COUNTER, isolation=wish)
    alice, bob = home.person("alice", "execute"), home.person("bob", "execute")
    call(alice, deed="keep", word="alice's")
    # The control: the cell does keep it, for her.
    assert call(alice, deed="kept")["output"] == "alice's"
    assert call(bob, deed="kept")["output"] is None
    assert {each.user_id for each in home.parts.pool.resting} == {"alice", "bob"}


@pytest.mark.parametrize(
    ("table", "wants", "effective"),
    [
        ('fork = "moderate"\nshared = "low"', (), "shared"),
        ('fork = "moderate"\nshared = "low"', ("vault_write notes",), "fork"),
        ('fork = "moderate"\nshared = "low"', ("vault_write notes", "network_write a.example"), "pristine"),
        ('fork = "low"', (), "fork"),
        ("", (), "pristine"),
    ],
)
def test_the_policy_decides_and_the_manifest_only_wishes(
    make_home: "MakeHome", table: str, wants: tuple[str, ...], effective: str
) -> None:
    home = make_home(opened=False)
    risk = home.folder / "policies" / "risk.toml"
    risk.write_text(risk.read_text().partition("[isolation]")[0] + f"[isolation]\n{table}\n")
    home.open()
    home.install("counter", COUNTER, wants=wants, isolation="shared")
    assert call(home.person("alice", "execute"))["sandbox_result"]["isolation"] == effective
    assert home.owner.get("/v1/plugins/counter").json()["isolation"]["effective"] == effective


HOSTILE = [
    ("twice", "returned"),
    ("other", "killed"),
    ("later", "returned"),
    ("close", "failed"),
    ("stop", "timed_out"),
    ("exit", "failed"),
]


@pytest.mark.parametrize(("deed", "outcome"), HOSTILE)
def test_a_shared_cell_ends_at_the_first_thing_that_is_wrong(home: "Home", deed: str, outcome: str) -> None:
    home.install("counter", COUNTER, isolation="shared")
    alice = home.person("alice", "execute")
    # The control: without the deed, the cell stays.
    assert [counted(alice), counted(alice)] == [1, 2]
    found = call(alice, deed=deed, timeout_s=1 if deed == "stop" else 20)
    assert found["outcome"] in {outcome, "killed"} if outcome == "failed" else found["outcome"] == outcome
    if deed == "twice":
        assert found["output"] == "first"
    home.until(lambda: not home.parts.pool.resting)
    assert counted(alice) == 1


@pytest.mark.parametrize(("deed", "outcome"), [*HOSTILE, ("stop parent", "timed_out")])
def test_what_a_forked_call_does_to_its_channel_reaches_no_other_call(home: "Home", deed: str, outcome: str) -> None:
    home.install("counter", COUNTER, isolation="fork")
    alice = home.person("alice", "execute")
    assert [counted(alice), counted(alice)] == [1, 1]
    found = call(alice, deed=deed, timeout_s=1 if deed.startswith("stop") else 20)
    if deed == "stop parent":
        # It answered; the template stands still, so the next call ends the cell by its own time.
        assert found["outcome"] == "returned"
        found = call(alice, timeout_s=1)
    assert found["outcome"] in {outcome, "killed"} if outcome == "failed" else found["outcome"] == outcome
    assert counted(alice) == 1


@pytest.mark.skipif(os.getuid() != 0, reason="where an ordinary user has no groups, a cell has one process")
def test_what_fills_a_template_with_processes_ends_with_its_cell(home: "Home") -> None:
    home.install("counter", COUNTER, isolation="fork")
    alice = home.person("alice", "execute")
    assert call(alice, deed="daemon", count=1)["output"] == 0
    assert call(alice, deed="daemon", count=500)["output"] != 0
    # It answers all the same, or is replaced; and what was left dies with the cell.
    assert counted(alice) == 1
    home.owner.post("/v1/plugins/counter/suspend", {"reason": "enough"})
    home.until(lambda: not cells(home))


def test_each_call_gets_what_it_printed_itself(home: "Home") -> None:
    home.install("counter", COUNTER, isolation="shared")
    alice = home.person("alice", "execute")
    printed = [call(alice, deed="print", word=word)["sandbox_result"]["stdout"] for word in ("one", "two")]
    assert printed == ["one\n", "two\n"]


ENDINGS = {
    "suspend": lambda home: home.owner.post("/v1/plugins/counter/suspend", {"reason": "x"}),
    "revoke": lambda home: home.owner.post("/v1/plugins/counter/revoke", {"reason": "x"}),
    "uninstall": lambda home: home.owner.post("/v1/plugins/counter/uninstall", {"reason": "x"}),
    "grants": lambda home: home.owner.post("/v1/plugins/counter/permissions/revoke", {"reason": "x"}),
    "lockdown of the plugin": lambda home: home.owner.post("/v1/lockdown", {"scope": "plugin:counter", "reason": "x"}),
    "lockdown of the user": lambda home: home.owner.post("/v1/lockdown", {"scope": "user:alice", "reason": "x"}),
    "another policy": lambda home: home.rules("p, more, user:zoe, vault, read, x, -, allow, test\n"),
    "another plugin's approval": lambda home: home.install("other"),
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("wish", ["pristine", "fork", "shared"])
def test_a_cell_that_waits_ends_with_what_made_it(home: "Home", wish: str, ending: str) -> None:
    home.install("counter", COUNTER, isolation=wish)
    alice = home.person("alice", "execute")
    for _ in range(2):
        call(alice)
    home.until(lambda: home.parts.pool.resting)
    assert [each.isolation for each in home.parts.pool.resting] == [Isolation(wish)]
    ENDINGS[ending](home)
    assert not home.parts.pool.resting
    home.until(lambda: not cells(home))


def test_a_call_in_a_shared_cell_is_killed_when_its_plugin_is_suspended(home: "Home") -> None:
    home.install("counter", COUNTER, isolation="shared")
    alice = home.person("alice", "execute")
    counted(alice)
    began = alice.start("POST", "/v1/plugins/counter/execute", {"payload": {"deed": "sleep", "s": 60}})
    home.until(lambda: home.running("counter"))
    home.owner.post("/v1/plugins/counter/suspend", {"reason": "stop"})
    assert began.result(20).json()["outcome"] == "killed"
    home.until(lambda: not cells(home))


@pytest.mark.parametrize("wish", ["fork", "shared"])
def test_a_call_that_nobody_waits_for_is_stopped_with_its_cell(home: "Home", wish: str) -> None:
    home.install("counter", COUNTER, isolation=wish)
    home.install("outer", wants=("plugin_execute counter",))
    alice = home.person("alice", "execute")
    began = alice.begin("outer", ["plugins.call", "counter", {"deed": "sleep", "s": 60}], timeout_s=60)
    home.until(lambda: home.running("counter"))
    home.until(lambda: len(cells(home)) >= 2)
    home.owner.post("/v1/plugins/outer/suspend", {"reason": "stop"})
    assert began.result(20).json()["outcome"] == "killed"
    home.until(lambda: not home.running("counter") and not cells(home))


def test_a_plugin_with_a_way_out_never_shares_its_cell(home: "Home") -> None:
    home.install("counter", COUNTER, wants=("network_read example.org",), isolation="shared")
    assert call(home.person("alice", "execute"))["sandbox_result"]["isolation"] == "pristine"


def test_a_cell_made_before_its_call_has_run_no_line_of_the_plugin(home: "Home") -> None:
    home.install("counter", COUNTER)
    alice = home.person("alice", "execute")
    for _ in range(2):
        call(alice)
    home.until(lambda: home.parts.pool.resting)
    began = time.time()
    found = call(alice)["output"]
    assert found["calls"] == 1
    assert found["loaded"] >= began


@pytest.mark.parametrize("wish", ["pristine", "fork", "shared"])
def test_cells_that_nobody_uses_end_by_themselves(make_home: "MakeHome", wish: str) -> None:
    home = make_home(settings="[sandbox]\nidle_cell_s = 1\n")
    home.install("counter", COUNTER, isolation=wish)
    alice = home.person("alice", "execute")
    for _ in range(2):
        call(alice)
    home.until(lambda: home.parts.pool.resting)
    home.until(lambda: not home.parts.pool.resting and not cells(home))


def test_cells_that_wait_are_bounded_in_number_and_the_unused_one_makes_room(make_home: "MakeHome") -> None:
    home = make_home(settings="[sandbox]\nmax_idle_cells = 2\n")
    alice = home.person("alice", "execute")
    for name in ("one", "two", "three"):
        home.install(name, COUNTER, isolation="shared")
    for name in ("one", "two", "one", "three"):
        counted(alice, name)
    assert sorted(each.plugin_id for each in home.parts.pool.resting) == ["one", "three"]
    assert counted(alice, "one") == 3


def test_none_waits_where_the_operator_wants_none(make_home: "MakeHome") -> None:
    home = make_home(settings="[sandbox]\nmax_idle_cells = 0\n")
    home.install("counter", COUNTER, isolation="shared")
    alice = home.person("alice", "execute")
    assert [counted(alice) for _ in range(3)] == [1, 1, 1]
    assert not home.parts.pool.resting


def test_calls_of_one_shared_cell_come_one_after_the_other(home: "Home") -> None:
    home.install("counter", COUNTER, isolation="shared")
    alice = home.person("alice", "execute")
    began = [alice.start("POST", "/v1/plugins/counter/execute", {"payload": {}}) for _ in range(12)]
    assert sorted(each.result(20).json()["output"]["calls"] for each in began) == list(range(1, 13))


def test_many_calls_leave_nothing_behind(home: "Home", tmp_path: Path) -> None:
    assert tmp_path.exists()
    many = int(os.environ.get("HEARTHGATE_CALLS", "240"))
    for wish in ("pristine", "fork", "shared"):
        home.install(wish, COUNTER, isolation=wish)
    alice = home.person("alice", "execute")

    def some(number: int) -> None:
        for step in range(0, number, 12):
            began = [
                alice.start("POST", f"/v1/plugins/{name}/execute", {"payload": {}})
                for name in ("pristine", "fork", "shared")
                for _ in range(4)
            ]
            assert {each.result(20).json()["outcome"] for each in began} == {"returned"}, step

    def left() -> tuple[int, int, int, int]:
        home.start(_end(home)).result(20)
        zygote = psutil.Process(home.parts.pool._launcher.zygote_pid).children()[0]
        home.until(lambda: not cells(home) and len(zygote.children()) == 1)
        groups = Path("/sys/fs/cgroup").glob(f"*/**/hearthgate-{home.parts.pool._launcher.zygote_pid}/cell-*")
        mounts = len(Path(f"/proc/{zygote.pid}/mountinfo").read_text().splitlines())
        return psutil.Process().num_fds(), zygote.num_fds(), len({each.name for each in groups}), mounts

    some(36)  # enough that readers of the log have left the few descriptors that SQLite keeps for the next ones
    home.until(lambda: left()[2] <= 1)
    before, memory = left(), _zygote_memory(home)
    some(many)
    home.until(lambda: left()[2] <= 1)
    after = left()
    assert after[0] <= before[0] + 8
    assert after[1:] == before[1:]
    assert _zygote_memory(home) <= memory + (4 << 20)


async def _end(home: "Home") -> None:
    home.parts.pool.policy_changed()


def _zygote_memory(home: "Home") -> int:
    resident: int = psutil.Process(home.parts.pool._launcher.zygote_pid).children()[0].memory_info().rss
    return resident


EATER = """\
import os
import time


def execute(ctx, payload):
    begun = time.process_time()
    while time.process_time() - begun < payload["cpu_s"]:
        pass
    held = bytearray(payload["memory"])
    for place in range(0, len(held), 4096):
        held[place] = 1
    with open(os.path.join(ctx.scratch, "file"), "wb") as file:
        file.write(b"x" * payload["disk"])
    return len(held)
"""
MB = 1 << 20


@pytest.mark.parametrize("mode", ["pristine", "fork", "shared"])
def test_what_each_call_used_is_told(home: "Home", mode: str) -> None:
    home.install("eater", EATER, isolation=mode)
    alice = home.person("alice", "execute")

    def usage(**payload: float) -> dict[str, Any]:
        asked = {"payload": {"cpu_s": 0, "memory": 0, "disk": 0, **payload}}
        told: dict[str, Any] = alice.post("/v1/plugins/eater/execute", asked).json()
        assert told["success"], told
        assert told["sandbox_result"]["isolation"] == mode
        found: dict[str, Any] = told["sandbox_result"]["usage"]
        return found

    usage()
    idle, busy = usage(), usage(cpu_s=0.2)
    large = usage(memory=40 * MB)
    again, full = usage(), usage(disk=4 * MB)
    counted = home.parts.pool._launcher.controllers
    if mode == "pristine" or "cpuacct" in counted:
        assert busy["cpu_s"] > 0.15 + idle["cpu_s"] / 2
        assert again["cpu_s"] < 0.15
    if "memory" in counted and (mode == "pristine" or "cpuacct" in counted):
        assert large["memory_peak_bytes"] > 40 * MB
        assert again["memory_peak_bytes"] < 40 * MB
    assert full["disk_bytes"] >= 4 * MB > again["disk_bytes"]
    outcome = home.records(event_type="execution_completed")[-1]["details"]["usage"]
    assert outcome["disk_bytes"] == full["disk_bytes"]
    assert outcome["cpu_s"] == full["cpu_s"]
