"""One rule, two walls, outside a cell: hosts through the relay and `ctx.http`, programs through `ctx.system`.

Drawn at random: allow and deny rules over a few hosts and programs. What is let through is what an oracle says, by each
of the ways that there are; a raw call reaches nothing, whatever was drawn.
"""

import http.server
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from tests.conftest import Home, new_home

REACHER = """\
import ctypes
import os
import socket
import struct
import urllib.request

libc = ctypes.CDLL(None, use_errno=True)


def execute(ctx, payload):
    return {
        "asked": [tried(lambda: ctx.http.get(url(port)).text) for port in payload["ports"]],
        "relayed": [tried(lambda: urllib.request.urlopen(url(port)).read().decode()) for port in payload["ports"]],
        "connected": [connect(port) for port in payload["ports"]],
        "run": [tried(lambda: ctx.system.run([path])) for path in payload["programs"]],
        "executed": [execve(path) for path in payload["programs"]],
    }


def url(port):
    return f"http://127.0.0.1:{port}/"


def tried(deed):
    try:
        return deed() is not None
    except OSError:
        return False


def connect(port):
    handle = libc.socket(2, 1, 0)
    address = struct.pack("=H", 2) + struct.pack("!H", port) + bytes([127, 0, 0, 1]) + bytes(8)
    return handle >= 0 and libc.connect(handle, address, len(address)) == 0


def execve(path):
    child = os.fork()
    if child == 0:
        libc.execve(path.encode(), (ctypes.c_char_p * 2)(path.encode(), None), None)
        os._exit(77)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 77
"""
PROGRAMS = ("/usr/bin/true", "/usr/bin/env", "/usr/bin/id")
HOSTS = 3


@dataclass(frozen=True)
class Drawn:
    """What was drawn of rules: which host or program each is about; None: all of them."""

    hosts: tuple[tuple[str, int | None], ...]
    programs: tuple[tuple[str, int | None], ...]

    def allowed(self, rules: tuple[tuple[str, int | None], ...], which: int, *, literally: bool) -> bool:
        """Tell whether the rules let one through, thought up from the contract's words alone."""
        of = [(effect, about) for effect, about in rules if about in {which, None}]
        return not any(effect == "deny" for effect, _ in of) and any(
            effect == "allow" and (about is not None or not literally) for effect, about in of
        )


RULES = st.lists(
    st.tuples(st.sampled_from(["allow", "allow", "deny"]), st.sampled_from([0, 1, 2, None])), max_size=4, unique=True
).map(tuple)
DRAWN = st.builds(Drawn, hosts=RULES, programs=RULES)


class Greeter(http.server.BaseHTTPRequestHandler):
    """Answers everything."""

    def do_GET(self) -> None:  # the base's name
        """Greet."""
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_told: object) -> None:  # type: ignore[override]  # says nothing
        """Say nothing."""


@pytest.fixture(scope="module")
def ports() -> Iterator[list[int]]:
    with ExitStack() as stack:
        servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), Greeter) for _ in range(HOSTS)]
        for server in servers:
            stack.enter_context(server)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
        yield [server.server_address[1] for server in servers]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = new_home(tmp_path_factory.mktemp("outward") / "home")
    try:
        home.open()
        home.register(
            "reacher", REACHER, requested_permissions=[{"permission": "network_read", "scope": "example.org"}]
        )
        home.owner.post("/v1/plugins/reacher/approve", {"reason": "test"})
        yield home
    finally:
        home.end()


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example(Drawn(hosts=(("allow", 0), ("allow", 1), ("deny", 1)), programs=(("allow", 0), ("allow", 1), ("deny", 1))))
@example(Drawn(hosts=(("allow", None),), programs=(("allow", None), ("deny", 2))))
@example(Drawn(hosts=(("allow", 2), ("deny", None)), programs=()))
@given(drawn=DRAWN)
def test_what_is_reached_outside_is_what_the_rules_say(home: Home, ports: list[int], drawn: Drawn) -> None:
    told = reach(home, ports, drawn)
    # A loopback address needs a rule that names it literally.
    hosts = [drawn.allowed(drawn.hosts, which, literally=True) for which in range(HOSTS)]
    programs = [drawn.allowed(drawn.programs, which, literally=False) for which in range(len(PROGRAMS))]
    event(f"{sum(hosts)} hosts, {sum(programs)} programs")
    assert told["asked"] == hosts, drawn
    assert told["relayed"] == hosts, drawn
    assert told["run"] == programs, drawn
    assert told["connected"] == [False] * HOSTS, "a raw connection reaches nothing, granted or not"
    assert told["executed"] == [False] * len(PROGRAMS), "nothing is executed in a cell, granted or not"


def reach(home: Home, ports: list[int], drawn: Drawn) -> dict[str, Any]:
    scopes = {
        "network, read": ["*" if about is None else f"127.0.0.1:{ports[about]}" for _, about in drawn.hosts],
        "system, execute": ["*" if about is None else PROGRAMS[about] for _, about in drawn.programs],
    }
    effects = {
        "network, read": [effect for effect, _ in drawn.hosts],
        "system, execute": [effect for effect, _ in drawn.programs],
    }
    lines = [
        f"plugin:reacher, {what}, {scope}, -, {effect}, drawn"
        for what in scopes
        for scope, effect in zip(scopes[what], effects[what], strict=True)
    ]
    home.rules("".join(f"p, drawn-{number}, {line}\n" for number, line in enumerate(lines)))
    payload = {"ports": ports, "programs": PROGRAMS}
    answer = home.person("alice", "execute").post("/v1/plugins/reacher/execute", {"payload": payload})
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    assert told["success"], told
    found: dict[str, Any] = told["output"]
    return found
