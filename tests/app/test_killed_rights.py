"""A real gateway, killed at any moment: what was used up or locked stays so."""

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest

from tests.app.served import WORKER, Gateway, until

if TYPE_CHECKING:
    from tests.conftest import MakeHome

RULES = "p, asked, plugin:worker, vault, write, notes/*, approval, allow, each is looked at\n"


@pytest.fixture
def gateway(make_home: "MakeHome") -> Iterator[Gateway]:
    home = make_home(rules=RULES)
    home.install("worker", WORKER)
    home.close()
    served = Gateway(home.folder)
    yield served
    served.end()


def with_key(gateway: Gateway, key: str, method: str, path: str, body: object) -> httpx.Response:
    with httpx.Client(base_url=f"http://127.0.0.1:{gateway.port}", timeout=30) as client:
        return client.request(method, path, json=body, headers={"authorization": f"Bearer {key}"})


@pytest.mark.timeout(110)
@pytest.mark.parametrize("after_s", [0.0, 0.01, 0.05, None])
def test_killed_while_an_approval_is_used_it_is_never_used_twice(gateway: Gateway, after_s: float | None) -> None:
    alice, bob = gateway.key("alice", "execute"), gateway.key("bob", "approve")

    def keep() -> httpx.Response:
        body = {"payload": {"do": "keep", "value": "v"}}
        return with_key(gateway, alice, "POST", "/v1/plugins/worker/execute", body)

    assert keep().json()["success"] is False
    (waits,) = gateway.ask("GET", "/v1/call-approvals?status=pending").json()["approvals"]
    approved = with_key(gateway, bob, "POST", f"/v1/call-approvals/{waits['id']}/approve", {"reason": "seen"})
    assert approved.status_code == 200, approved.text
    answers: list[Any] = []

    def use() -> None:
        try:
            answers.append(keep().json())
        except httpx.HTTPError as error:
            answers.append(error)

    using = threading.Thread(target=use)
    using.start()
    if after_s is None:
        using.join()
    else:
        using.join(after_s)
    gateway.kill()
    using.join()
    gateway.start()
    # Whatever the killed one came to, of all uses that the log knows there is at most one.
    for _ in range(3):
        keep()
    allowed = [row for row in gateway.rows(plugin="worker", effect="allow") if row["decision"]["kind"] == "vault"]
    assert len(allowed) <= 1
    if after_s is None:
        assert answers[0]["success"] is True
        assert len(allowed) == 1
        assert keep().json()["success"] is False


@pytest.mark.timeout(110)
def test_a_lockdown_ends_all_within_a_second_and_outlives_a_kill(gateway: Gateway) -> None:
    def run() -> None:
        gateway.run("sleep", for_s=60)

    gateway.run("return", value=1)  # so that what is there besides cells is there
    idle = set(gateway.cells())
    running = threading.Thread(target=run)
    running.start()
    until(lambda: gateway.ask("GET", "/v1/plugins/worker").json()["running"] == 1)
    until(lambda: [*gateway.cells()] and gateway.rows(event_type="execution_started"))
    cells = [each for each in gateway.cells() if each not in idle]
    locked = gateway.ask("POST", "/v1/lockdown", {"scope": "all", "reason": "smoke"})
    assert locked.status_code == 201
    until(lambda: not running.is_alive(), 1.0)
    _, alive = psutil.wait_procs(cells, timeout=1.0)
    assert not alive
    assert gateway.run("return", value=1).status_code == 403
    gateway.kill()
    gateway.start()
    assert gateway.run("return", value=1).status_code == 403
    path = f"/v1/lockdown/{locked.json()['id']}"
    assert gateway.ask("DELETE", path, {"reason": " "}).status_code == 400
    assert gateway.ask("DELETE", path, {"reason": "over"}).status_code == 200
    assert gateway.run("return", value=1).json()["success"] is True
