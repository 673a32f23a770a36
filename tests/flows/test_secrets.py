"""No secret reaches the gateway's own log, an error over HTTP or the decision log, at any level."""

import io
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from gateway.own_log import set_up_own_log

if TYPE_CHECKING:
    from tests.conftest import Home

PAYLOAD, VALUE, BEARER, HEADER, QUERY, SURPRISE = (
    f"zz-canary-{name}-0123456789" for name in ("payload", "value", "bearer", "header", "query", "surprise")
)
CANARIES = (PAYLOAD, VALUE, BEARER, HEADER, QUERY, SURPRISE)
CODE = """
import os


def execute(ctx, payload):
    match payload["do"]:
        case "write":
            ctx.vault.write("notes/a", payload["secret"])
            return ctx.vault.read("notes/a")
        case "send":
            try:
                ctx.http.request("GET", "http://b.test/x?k=" + payload["secret"], headers={"X-Api": payload["secret"]})
            except Exception:
                pass
        case "fail":
            raise ValueError("cannot log in with " + payload["secret"])
        case "crash":
            os.abort()
"""


@pytest.fixture
def told() -> Iterator[io.StringIO]:
    """Give what the gateway tells at level debug, and what a program's own handler for everything prints."""
    root, own = logging.getLogger(), logging.getLogger("hearthgate")
    handlers, levels = root.handlers[:], (root.level, own.level)
    stream = io.StringIO()
    set_up_own_log("debug", stream=stream)
    every = logging.StreamHandler(stream)
    root.addHandler(every)
    root.setLevel(logging.DEBUG)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    own.setLevel(levels[1])


def test_secrets_stay_where_they_belong(home: "Home", told: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    home.install("puppet", CODE, wants=("vault_read notes", "vault_write notes", "network_read b.test"))
    alice = home.person("alice", "execute")
    key = alice._headers["authorization"]

    def run(what: str, secret: str) -> str:
        return alice.post("/v1/plugins/puppet/execute", {"payload": {"do": what, "secret": secret}}).text

    assert VALUE in run("write", VALUE)  # the twin: who may know it gets it
    assert PAYLOAD in run("fail", PAYLOAD)
    run("send", QUERY)
    run("send", HEADER)
    assert "killed" in run("crash", PAYLOAD)
    answers = [
        home.stranger.ask("GET", "/v1/plugins", headers={"authorization": f"Bearer {BEARER}"}),
        home.stranger.ask("GET", f"/v1/plugins?key={QUERY}", headers={"authorization": f"Bearer hg_0123abcd_{BEARER}"}),
        alice.ask("POST", "/v1/plugins/puppet/execute", None, content=f'{{"payload": "{PAYLOAD}"}}'.encode()),
        alice.post("/v1/plugins/puppet/execute", {"payload": {"do": "write"}, "timeout_s": PAYLOAD}),
    ]

    def fail(*_: object) -> None:
        raise RuntimeError(SURPRISE)

    monkeypatch.setattr(home.parts.registry.plugins, "all", fail)
    answers.append(home.owner.get("/v1/plugins"))
    monkeypatch.undo()
    assert [answer.status_code for answer in answers] == [401, 401, 415, 400, 500]
    for answer in answers:
        assert not [canary for canary in CANARIES if canary in answer.text], answer.text
    home.write_rules("p, bad, plugin:puppet, vault, raed, notes, -, allow, x\n")
    home.reload()
    home.close()

    log = told.getvalue()
    assert not [canary for canary in (*CANARIES, key, key[-30:]) if canary in log]
    for sign in ("answered 500: RuntimeError < ", "of puppet killed", "of puppet failed", "asks vault.write", ": 401 "):
        assert sign in log, log
    assert "90-test.csv:1: level `raed`" in log or "raed" in log
    kept = b"".join(
        path.read_bytes()
        for path in (home.folder / "data").rglob("*")
        if path.is_file() and not path.name.startswith("vault.db")
    )
    assert not [canary for canary in (*CANARIES, key[-30:]) if canary.encode() in kept]
