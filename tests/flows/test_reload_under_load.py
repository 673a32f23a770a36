"""Reloads while a plugin is called a hundred times a second, a third of them broken: no call is lost or fails by it."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Home, Person

RELOADS = 30
CALLERS = 10
EACH_S = 0.1  # so that all callers together call a hundred times a second
CODE = "def execute(ctx, payload):\n    return {word}\n"
BROKEN = (
    "def execute(ctx, payload:\n",
    "raise RuntimeError('at import')\n",
    CODE.format(word=-1) + "def proves(ctx):\n    raise ValueError('no good')\n",
)


class Caller:
    """Calls at a steady pace, and keeps what was wrong."""

    def __init__(self, person: "Person", in_force: list[int]) -> None:
        self.person, self.in_force = person, in_force
        self.calls = 0
        self.wrong: list[str] = []
        self.seen: set[int] = set()

    def call_until(self, stopped: threading.Event) -> None:
        due = time.monotonic()
        while not stopped.is_set():
            least = self.in_force[-1]
            answer = self.person.post("/v1/plugins/teller/execute", {"payload": {}})
            self.calls += 1
            body = answer.json()
            output = body.get("output")
            if answer.status_code != 200 or not body["success"]:
                self.wrong.append(answer.text)
            elif output < least:
                self.wrong.append(f"{output} was answered when {least} was in force")
            self.seen.add(output)
            due += EACH_S
            stopped.wait(max(0.0, due - time.monotonic()))


def contents() -> Iterator[tuple[int | None, str]]:
    good = 0
    for number in range(RELOADS):
        if number % 3 == 2:
            yield None, BROKEN[number // 3 % len(BROKEN)]
        else:
            good += 1
            yield good, CODE.format(word=good) + "def proves(ctx):\n    return 1\n"


def ended(home: "Home") -> int:
    """Count the calls that have a recorded end."""
    count = 0
    for event_type in ("execution_completed", "execution_failed", "execution_timeout"):
        cursor = None
        while True:
            wanted = {"plugin": "teller", "event_type": event_type, "limit": 1000}
            page = home.owner.get("/v1/audit", **wanted, **({} if cursor is None else {"cursor": cursor})).json()
            count += sum(not row["details"].get("trial") for row in page["records"])
            cursor = page["cursor"]
            if cursor is None:
                break
    return count


@pytest.mark.timeout(180)
@pytest.mark.parametrize("wish", ["pristine", "fork", "shared"])
def test_no_call_is_lost_or_fails_by_thirty_reloads(home: "Home", wish: str) -> None:
    home.install("teller", CODE.format(word=0) + "def proves(ctx):\n    return 1\n", isolation=wish, self_test="proves")
    in_force, stopped = [0], threading.Event()
    callers = [Caller(home.person("alice", "execute"), in_force) for _ in range(CALLERS)]
    with ThreadPoolExecutor(CALLERS) as threads:
        running = [threads.submit(each.call_until, stopped) for each in callers]
        try:
            for good, code in contents():
                (home.folder / "plugins" / "teller" / "main.py").write_text(code)
                answer = home.owner.post("/v1/plugins/teller/reload", {"reason": "load"})
                assert answer.status_code == (409 if good is None else 200), answer.text
                if good is not None:
                    in_force.append(good)
                stopped.wait(0.05)
        finally:
            stopped.set()
        for each in running:
            each.result()
    calls = sum(each.calls for each in callers)
    assert [wrong for each in callers for wrong in each.wrong] == []
    assert len(set().union(*(each.seen for each in callers))) > RELOADS // 3, "calls and reloads met"
    assert len(home.records(plugin="teller", event_type="reloaded")) == RELOADS
    assert ended(home) == calls
