"""A gateway that is killed in the middle of a reload has the old generation or the new one, whole."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Home, MakeHome

CHILD = """
import asyncio, json, os, signal, sys
from contextlib import contextmanager
from pathlib import Path

import gateway.flows.grants as grants_flow
from gateway.app import open_house
from gateway.audit.log import DecisionLog
from gateway.domain.caller import Caller
from gateway.domain.names import UserId
from gateway.flows.permissions import Answer, approve_request
from gateway.flows.reload_plugin import reload_plugin
from gateway.registry import generations, grants, holds, memory, plugins, requests

FOLDER, LAST, REQUEST = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
begun, steps = False, 0


def durable():
    global steps
    if begun:
        steps += 1
        if steps == LAST:
            os.kill(os.getpid(), signal.SIGKILL)


def then_durable(transaction):
    @contextmanager
    def counted(connection):
        with transaction(connection) as found:
            yield found
        durable()

    return counted


for module in (generations, grants, holds, memory, plugins, requests):
    module.transaction = then_durable(module.transaction)
write_grants, append = grants_flow.write_grants, DecisionLog.append


def write_then(*given, **named):
    write_grants(*given, **named)
    durable()


async def append_then(self, *records, **named):
    found = await append(self, *records, **named)
    durable()
    return found


grants_flow.write_grants, DecisionLog.append = write_then, append_then


async def main():
    global begun
    async with open_house(FOLDER) as house:
        caller = Caller(user_id=UserId(house.parts.owner), owner=True)
        begun = True
        if REQUEST:
            await approve_request(house.parts, caller, REQUEST, Answer(reason="seen"))
        else:
            done = await reload_plugin(house.parts, caller, "teller", "killed")
            assert done.outcome.value == "reloaded", done
        begun = False
    print(json.dumps({"steps": steps}))


asyncio.run(main())
"""
TELLS = "def execute(ctx, payload):\n    return {word!r}\n"
OLD = [{"permission": "vault_write", "scope": "notes"}, {"permission": "core_read", "scope": "version"}]
NEW = {
    "code": OLD,
    "narrowed": [{"permission": "vault_read", "scope": "notes"}],
    "update": [{"permission": "vault_write", "scope": "notes"}, {"permission": "network_read", "scope": "example.com"}],
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", NEW)
def test_killed_after_any_durable_step_it_is_old_or_new(make_home: "MakeHome", tmp_path: Path, kind: str) -> None:
    home = make_home()
    home.install("teller", TELLS.format(word="old"), requested_permissions=OLD)
    home.person("alice", "execute")
    home.write_plugin("teller", TELLS.format(word="new"), version="2.0.0", requested_permissions=NEW[kind])
    request = ""
    if kind == "update":
        answer = home.owner.post("/v1/plugins/teller/reload", {"reason": ""})
        request = answer.json()["reload"]["request_id"]
    home.close()
    kept = tmp_path / "kept"
    shutil.copytree(home.folder, kept, ignore=shutil.ignore_patterns("*.sock"))
    seen = []
    for last in range(1, 60):
        shutil.rmtree(home.folder)
        shutil.copytree(kept, home.folder)
        child = subprocess.run(
            [sys.executable, "-c", CHILD, str(home.folder), str(last), request],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert child.returncode in {0, -signal.SIGKILL}, child.stderr
        home.open()
        seen.append(generation_in_force(home, kind, request))
        home.close()
        if child.returncode == 0:
            assert json.loads(child.stdout)["steps"] == last - 1
            break
    assert (seen[0], seen[-1]) == ("old", "new")
    assert seen == sorted(seen, reverse=True), "once it is new it stays new"
    assert len(seen) > 5


def generation_in_force(home: "Home", kind: str, request: str) -> str:
    """Tell which generation is in force; all that belongs to it is, and nothing of the other."""
    answer = home.person("alice", "execute").begin("teller").result(20).json()
    plugin = home.owner.get("/v1/plugins/teller").json()
    word: str = answer["output"]
    assert plugin["version"] == {"old": "1.0.0", "new": "2.0.0"}[word]
    assert plugin["status"] == "active"
    wanted = {(each["permission"], f"{each['scope']}/*") for each in (OLD if word == "old" else NEW[kind])}
    wanted = {(name, scope.replace("example.com/*", "example.com")) for name, scope in wanted}
    shown = home.owner.get("/v1/plugins/teller/permissions").json()["grants"]
    assert {(each["permission"], each["scope"]) for each in shown} - {("plugin_execute", "teller")} == wanted
    assert home.parts.registry.holds.holds == {}
    assert home.parts.registry.generations.begun() == ()
    assert home.parts.policy.problems == ()
    events = home.owner.get("/v1/plugins/teller/reloads").json()["events"]
    assert [each["success"] for each in events][-1:] == ([True] if word == "new" else [False] if events else [])
    if request:
        listed = home.owner.get("/v1/permission-requests").json()["requests"]
        (state,) = [each["status"] for each in listed if each["id"] == request]
        assert state == ("approved" if word == "new" else "pending")
    return word
