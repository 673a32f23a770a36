"""A real gateway, killed at any moment: what was used up or locked stays so."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest

from tests.app.served import Gateway, until

if TYPE_CHECKING:
    from tests.conftest import MakeHome

SLEEPER = """\
import ctypes
import time


def execute(ctx, payload):
    match payload["do"]:
        case "return":
            return payload["value"]
        case "keep":
            ctx.vault.write("notes/kept", payload["value"])
        case "sleep":
            ctypes.CDLL(None).prctl(15, payload["as"].encode(), 0, 0, 0)  # so that others can tell whose it is
            time.sleep(60)
"""
RULES = "p, asked, plugin:worker, vault, write, notes/*, approval, allow, each is looked at\n"


@pytest.fixture
def gateway(make_home: "MakeHome") -> Iterator[Gateway]:
    home = make_home(rules=RULES)
    home.install("worker", SLEEPER)
    home.write_plugin("other", SLEEPER)
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


SCOPES = {
    "all": (True, "locked_down"),
    "plugin:worker": (False, "locked_down"),
    "user:alice": (False, "locked_down"),
    "kind:vault": (True, None),
}


def cells_named(gateway: Gateway, name: str) -> list[psutil.Process]:
    found = []
    for each in gateway.cells():
        with suppress(psutil.NoSuchProcess):  # one that was on its way out
            found += [each] if each.name() == name else []
    return found


@pytest.mark.timeout(110)
@pytest.mark.parametrize("scope", SCOPES)
def test_a_lockdown_ends_what_it_names_within_a_second_and_outlives_a_kill(gateway: Gateway, scope: str) -> None:
    ends_the_other, refused = SCOPES[scope]
    gateway.ask("POST", "/v1/plugins", {"folder": "other"})
    assert gateway.ask("POST", "/v1/plugins/other/approve", {"reason": "x"}).status_code == 200
    keys = {name: gateway.key(name, "execute") for name in ("alice", "carol")}

    def call(name: str, plugin_id: str, **payload: object) -> httpx.Response:
        return with_key(gateway, keys[name], "POST", f"/v1/plugins/{plugin_id}/execute", {"payload": payload})

    def sleep(name: str, plugin_id: str) -> tuple[threading.Thread, list[psutil.Process]]:
        sleeping = f"sleeps-{plugin_id}"

        def run() -> None:
            with suppress(httpx.HTTPError):  # the gateway may be killed meanwhile
                call(name, plugin_id, **{"do": "sleep", "as": sleeping})

        running = threading.Thread(target=run)
        running.start()
        until(lambda: cells_named(gateway, sleeping))
        return running, cells_named(gateway, sleeping)

    named, cells = sleep("alice", "worker")
    other, others = sleep("carol", "other")
    locked = gateway.ask("POST", "/v1/lockdown", {"scope": scope, "reason": "smoke"})
    assert locked.status_code == 201
    _, alive = psutil.wait_procs([*cells, *(others if ends_the_other else ())], timeout=1.0)
    assert not alive
    until(lambda: not named.is_alive(), 1.0)
    assert ends_the_other or (other.is_alive() and all(each.is_running() for each in others))
    gateway.kill()
    named.join()
    other.join()
    gateway.start()
    answer = call("alice", "worker", do="return", value=1)
    assert answer.status_code == (403 if refused else 200)
    assert call("carol", "other", do="return", value=1).status_code == (403 if scope == "all" else 200)
    if scope == "kind:vault":
        assert call("alice", "worker", do="keep", value="v").json()["success"] is False
        denied = [row["decision"] for row in gateway.rows(plugin="worker", event_type="access_denied")]
        assert (denied[-1]["kind"], denied[-1]["reason"]) == ("vault", "locked_down")
    path = f"/v1/lockdown/{locked.json()['id']}"
    assert gateway.ask("DELETE", path, {"reason": " "}).status_code == 400
    assert gateway.ask("DELETE", path, {"reason": "over"}).status_code == 200
    assert call("alice", "worker", do="return", value=1).json()["success"] is True
