"""One real home in this process: opened on a loop of its own, asked over ASGI by its owner and by people with keys."""

import asyncio
import json
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest

from gateway.app import init_home, open_house
from gateway.app.house import House
from gateway.flows.parts import Parts
from gateway.flows.reload_policy import Reload, reload_policy

WAIT_S = 20.0
READ_ALL = """
import pathlib, pickle, sys
files = (each for each in pathlib.Path(sys.argv[1]).rglob("*") if each.is_file())
sys.stdout.buffer.write(pickle.dumps({str(each): each.read_bytes() for each in files}))
"""
PEOPLE = {"alice": "member", "bob": "approver", "carol": "operator", "dave": "auditor"}  # erin has no role
JSON_TYPE = {"content-type": "application/json"}
PUPPET = '''\
"""Does what the payload says, and tells how each deed ended."""
import asyncio
import time


def execute(ctx, payload):
    return [deed(ctx, *each) for each in payload["do"]]


def deed(ctx, op, *args):
    part, _, verb = op.partition(".")
    try:
        if part == "sleep":
            return time.sleep(args[0])
        found = getattr(getattr(ctx, part), verb)(*args)
        if part == "http":
            return found.status
        return found.decode() if isinstance(found, bytes) else found
    except PermissionError as error:
        return {"denied": error.reason, "decision_id": error.decision_id, "near_misses": error.near_misses}
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}"}
'''


class Person:
    """Somebody who asks the gateway."""

    def __init__(self, home: "Home", client: tuple[str, int], headers: Mapping[str, str], key_id: str = "") -> None:
        self._home, self._client, self._headers = home, client, dict(headers)
        self.key_id = key_id

    def start(self, method: str, path: str, body: object = None, **given: Any) -> "Future[httpx.Response]":  # noqa: ANN401 (httpx's own arguments)
        """Send a request and give its answer to come."""

        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self._home.house.asgi, client=self._client)
            given["headers"] = {**self._headers, **given.pop("headers", {})}
            if body is not None:
                given["json"] = body
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                return await client.request(method, path, **given)

        return self._home.start(send())

    def ask(self, method: str, path: str, body: object = None, **given: Any) -> httpx.Response:  # noqa: ANN401 (same)
        """Send a request and wait for its answer."""
        return self.start(method, path, body, **given).result(WAIT_S)

    def get(self, path: str, **params: object) -> httpx.Response:
        return self.ask("GET", path, params={name: str(value) for name, value in params.items()})

    def post(self, path: str, body: object) -> httpx.Response:
        return self.ask("POST", path, body)

    def delete(self, path: str, body: object = None) -> httpx.Response:
        return self.ask("DELETE", path, body)

    def begin(self, plugin_id: str, *deeds: list[Any], **members: object) -> "Future[httpx.Response]":
        """Let a puppet do deeds, without waiting for it."""
        return self.start("POST", f"/v1/plugins/{plugin_id}/execute", {"payload": {"do": deeds}, **members})

    def run(self, plugin_id: str, *deeds: list[Any], **members: object) -> list[Any]:
        """Let a puppet do deeds and give what became of each."""
        answer = self.begin(plugin_id, *deeds, **members).result(WAIT_S)
        assert answer.status_code == 200, answer.text
        assert answer.json()["outcome"] == "returned", answer.text
        output: list[Any] = answer.json()["output"]
        return output

    def behalf(self, user: str) -> "Person":
        """Give the same person, acting for a user."""
        return Person(self._home, self._client, {**self._headers, "hearthgate-on-behalf": user})


class Home:
    """An open home."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._opened: AbstractAsyncContextManager[House] | None = None
        self._people: dict[tuple[str, tuple[str, ...]], Person] = {}
        self.house: House

    @property
    def parts(self) -> Parts:
        return self.house.parts

    def start(self, work: Coroutine[Any, Any, Any]) -> "Future[Any]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def do(self, work: Awaitable[Any]) -> Any:  # noqa: ANN401 (whatever the work gives)
        """Run something on the home's loop to its end."""

        async def waiting() -> object:
            return await work

        return self.start(waiting()).result(WAIT_S)

    def open(self) -> "Home":
        opened = open_house(self.folder)
        self.house = self.do(opened.__aenter__())
        self._opened = opened
        return self

    def close(self) -> None:
        if self._opened is not None:
            opened, self._opened = self._opened, None
            self.do(opened.__aexit__(None, None, None))

    def reopen(self) -> None:
        """Stop the gateway in order and start it again."""
        self.close()
        self.open()

    def end(self) -> None:
        try:
            self.close()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def contents(self) -> dict[Path, bytes]:
        """Give what is in every file of the home.

        Read by another process: a process that closes a file gives up every lock that it has on it, and the database
        that this one has open would lose its memory to the next process that opens it.
        """
        read = subprocess.run([sys.executable, "-I", "-c", READ_ALL, self.folder], stdout=subprocess.PIPE, check=True)
        found: dict[str, bytes] = pickle.loads(read.stdout)  # noqa: S301 (what our own script wrote)
        return {Path(name): data for name, data in found.items()}

    @property
    def owner(self) -> Person:
        return Person(self, (f"unix-uid:{os.getuid()}", 0), {})

    @property
    def stranger(self) -> Person:
        return Person(self, ("127.0.0.1", 1), {})

    def person(self, user: str, *scopes: str, expires: str | None = None) -> Person:
        """Give somebody with a key of these scopes."""
        known = self._people.get((user, scopes))
        if known is None or expires is not None:
            made = self.owner.post("/v1/keys", {"user": user, "scopes": list(scopes), "expires": expires})
            assert made.status_code == 201, made.text
            headers = {"authorization": f"Bearer {made.json()['key']}"}
            known = Person(self, ("127.0.0.1", 1), headers, made.json()["id"])
            self._people[user, scopes] = known
        return known

    def write_plugin(self, plugin_id: str, code: str | None = PUPPET, **manifest: object) -> dict[str, Any]:
        """Write a plugin's folder and give its manifest."""
        folder = self.folder / "plugins" / plugin_id
        folder.mkdir(exist_ok=True)
        made = {"plugin_id": plugin_id, "name": plugin_id, "version": "1.0.0", **manifest}
        (folder / "manifest.json").write_text(json.dumps(made))
        if code is not None:
            (folder / "main.py").write_text(code)
        return made

    def register(self, plugin_id: str, code: str | None = PUPPET, **manifest: object) -> dict[str, Any]:
        self.write_plugin(plugin_id, code, **manifest)
        answer = self.owner.post("/v1/plugins", {"folder": plugin_id})
        assert answer.status_code == 201, answer.text
        shown: dict[str, Any] = answer.json()
        return shown

    def install(
        self, plugin_id: str, code: str | None = PUPPET, *, wants: tuple[str, ...] = (), **manifest: object
    ) -> None:
        """Write, register and approve a plugin; `wants` are permissions with scopes, as `vault_read notes`."""
        if wants:
            manifest["requested_permissions"] = [
                dict(zip(("permission", "scope"), each.split(" ", 1), strict=True)) for each in wants
            ]
        self.register(plugin_id, code, **manifest)
        answer = self.owner.post(f"/v1/plugins/{plugin_id}/approve", {"reason": "test"})
        assert answer.status_code == 200, answer.text

    def state(self, plugin_id: str) -> str:
        status: str = self.owner.get(f"/v1/plugins/{plugin_id}").json()["status"]
        return status

    def write_rules(self, text: str, name: str = "90-test.csv") -> None:
        rules = self.folder / "policies" / "rules"
        # In one step: the watch may look at any moment, and an empty file is a policy, too.
        (rules / f".{name}").write_text(text)
        (rules / f".{name}").rename(rules / name)

    def reload(self) -> Reload:
        """Judge the policy files now, as the watch would a moment later."""
        reload: Reload = self.do(reload_policy(self.parts, by="test", why="test"))
        return reload

    def put_in_force(self) -> None:
        """Put the policy files as they are in force, whether the watch was quicker or not."""
        assert [each for each in self.reload().problems if each.severity != "warning"] == []

    def rules(self, text: str) -> None:
        """Put rules in force."""
        self.write_rules(text)
        assert self.reload().problems == ()

    def records(self, **wanted: object) -> list[dict[str, Any]]:
        """Give records, oldest first."""
        answer = self.owner.get("/v1/audit", limit=1000, **wanted)
        assert answer.status_code == 200, answer.text
        rows: list[dict[str, Any]] = answer.json()["records"][::-1]
        return rows

    def decision(self, decision_id: str) -> dict[str, Any]:
        """Give a decision as it was recorded."""
        answer = self.owner.get(f"/v1/decisions/{decision_id}")
        assert answer.status_code == 200, answer.text
        shown: dict[str, Any] = answer.json()
        return shown

    def at(self, moment: datetime) -> None:
        """Stop the clock at a moment."""
        object.__setattr__(self.parts, "now", lambda: moment)

    def decided(self, **wanted: object) -> list[dict[str, Any]]:
        """Give the recorded decisions with these members, oldest first."""
        decisions = [row["decision"] for row in self.records() if row["decision"] is not None]
        return [each for each in decisions if wanted.items() <= each.items()]

    @property
    def grants(self) -> str:
        return (self.folder / "policies" / "grants.csv").read_text()

    def until(self, holds: Callable[[], object], wait_s: float = WAIT_S) -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + wait_s
        while not holds():
            assert time.monotonic() < deadline, "it never came true"
            time.sleep(0.01)

    def running(self, plugin_id: str) -> int:
        return sum(job.plugin_id == plugin_id for job in self.parts.pool.running)


class MakeHome(Protocol):
    """Makes a home; it is open unless told otherwise."""

    def __call__(self, *, rules: str = "", settings: str = "", opened: bool = True) -> Home: ...


def new_home(folder: Path, rules: str = "", settings: str = "") -> Home:
    """Make a home with people of every role, and further rules and settings; it is not open."""
    init_home(folder)
    with (folder / "policies" / "roles.csv").open("a") as roles:
        roles.writelines(f"g, user:{user}, role:{role}\n" for user, role in PEOPLE.items())
    if rules:
        (folder / "policies" / "rules" / "90-test.csv").write_text(rules)
    if settings:
        (folder / "hearthgate.toml").write_text(settings)
    return Home(folder)


@pytest.fixture(scope="module")
def quiet_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """Give an open home that the tests of a module share: they must not change it."""
    home = new_home(tmp_path_factory.mktemp("quiet") / "home")
    try:
        yield home.open()
    finally:
        home.end()


@pytest.fixture
def make_home(tmp_path: Path) -> Iterator[MakeHome]:
    """Give a function that makes a home with people of every role, and further rules and settings."""
    made: list[Home] = []

    def make(*, rules: str = "", settings: str = "", opened: bool = True) -> Home:
        home = new_home(tmp_path / f"home{len(made)}", rules, settings)
        made.append(home)
        return home.open() if opened else home

    yield make
    for home in made:
        home.end()


@pytest.fixture
def home(make_home: MakeHome) -> Home:
    """Give an open home with people of every role."""
    return make_home()
