"""What a plugin moves is told: to which host, how many bytes, on whose behalf, under which decision."""

import csv
import io
import json
import logging
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Home, MakeHome

TRUE = str(Path("/usr/bin/true").resolve())
SECRET = "zz-canary-in-the-url"  # noqa: S105 (a canary)


class Upstream:
    """A server on loopback that answers with 1000 bytes, or waits with it."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.asked = threading.Event()
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                upstream.asked.set()
                if "slow" in self.path:
                    upstream.go.wait(20)
                self.send_response(203)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b"x" * 1000)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def port(self) -> int:
        return self._server.server_port

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def close(self) -> None:
        self.go.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    made = Upstream()
    yield made
    made.close()


def rules(upstream: Upstream) -> str:
    return (
        f"p, up, plugin:puppet, network, write, 127.0.0.1:{upstream.port}, -, allow, x\n"
        f"p, run, plugin:puppet, system, execute, {TRUE}, -, allow, x\n"
    )


@pytest.fixture
def home(make_home: "MakeHome", upstream: Upstream) -> "Home":
    made = make_home(rules=rules(upstream))
    made.install("puppet", wants=("vault_write notes", "network_read b.test"))
    return made


def test_a_request_is_told_with_its_bytes_and_its_decision_and_without_its_secrets(
    home: "Home", upstream: Upstream
) -> None:
    alice = home.person("alice", "execute")
    alice.run("puppet", ["http.post", upstream.url(f"/a/{SECRET}?key={SECRET}")])
    answer = home.owner.get("/v1/traffic", plugin="puppet")
    (row,) = answer.json()["transfers"]
    shown = {name: row[name] for name in ("plugin", "user", "op", "method", "host", "port", "path", "status")}
    assert shown == {
        "plugin": "puppet",
        "user": "alice",
        "op": "http.request",
        "method": "POST",
        "host": "127.0.0.1",
        "port": upstream.port,
        "path": None,
        "status": 203,
    }
    assert row["outcome"] == "returned"
    assert row["bytes_in"] > 1000
    assert row["bytes_out"] > len(SECRET) * 2
    assert row["duration_ms"] > 0
    assert row["ended"] >= row["started"]
    decision = home.decision(row["decision_id"])
    assert (decision["effect"], decision["scope"]) == ("allow", f"127.0.0.1:{upstream.port}")
    assert home.records(event_type="execution_completed")[-1]["details"]["execution_id"] == row["execution_id"]
    exported = home.owner.get("/v1/traffic/export").text
    assert json.loads(exported) == row
    home.close()
    assert SECRET.encode() not in b"".join(path.read_bytes() for path in (home.folder / "data").glob("traffic.db*"))


def test_the_path_is_kept_where_the_settings_say_so_and_the_query_never(
    make_home: "MakeHome", upstream: Upstream
) -> None:
    home = make_home(rules=rules(upstream), settings="[traffic]\npaths = true\n")
    home.install("puppet")
    home.person("alice", "execute").run("puppet", ["http.get", upstream.url(f"/a/b?key={SECRET}")])
    answer = home.owner.get("/v1/traffic")
    assert answer.json()["transfers"][0]["path"] == "/a/b"
    assert SECRET not in answer.text


def test_everything_that_is_allowed_is_counted_and_what_is_denied_is_not(home: "Home") -> None:
    alice = home.person("alice", "execute")
    told = alice.run(
        "puppet",
        ["vault.write", "notes/a", "x" * 500],
        ["vault.read", "notes/a"],
        ["vault.read", "secrets/a"],
        ["system.run", [TRUE]],
        ["http.get", "http://b.test/"],
        ["http.get", "http://c.test/"],
    )
    assert "denied" in told[2]
    assert "denied" in told[5]
    rows = home.owner.get("/v1/traffic").json()["transfers"][::-1]
    assert [(row["op"], row["outcome"], row["problem"]) for row in rows] == [
        ("vault.write", "returned", None),
        ("vault.read", "returned", None),
        ("system.run", "returned", None),
        ("http.request", "failed", "unavailable"),  # b.test is no name of this world
    ]
    assert rows[0]["bytes_out"] > 500
    assert rows[1]["bytes_in"] > 500
    assert rows[3]["bytes_in"] == 0
    summary = home.owner.get("/v1/traffic/summary").json()
    assert (summary["transfers"], summary["not_returned"]) == (4, 1)
    assert summary["log"] == {
        "dropped": 0,
        "waiting": 0,
        "problem": None,
        "keep_days": 30,
        "max_entries": 1_000_000,
    }


def test_a_request_under_way_is_shown_and_one_of_a_killed_plugin_is_told(home: "Home", upstream: Upstream) -> None:
    running = home.person("alice", "execute").begin("puppet", ["http.get", upstream.url("/slow")])
    assert upstream.asked.wait(20)
    (active,) = home.owner.get("/v1/traffic/active").json()["active"]
    assert (active["plugin"], active["host"], active["bytes_in"]) == ("puppet", "127.0.0.1", 0)
    assert active["bytes_out"] > 0
    assert home.parts.resources.network._places._taken == {"puppet": 1}  # out of this plugin's share
    home.owner.post("/v1/plugins/puppet/suspend", {"reason": "x"})
    assert running.result(20).json()["outcome"] == "killed"
    assert home.owner.get("/v1/traffic/active").json()["active"] == []
    (row,) = home.owner.get("/v1/traffic").json()["transfers"]
    assert (row["outcome"], row["status"]) == ("killed", None)


def test_who_may_not_read_the_audit_learns_nothing_of_traffic(home: "Home") -> None:
    for path in ("", "/summary", "/active", "/export"):
        assert home.person("alice", "execute").get(f"/v1/traffic{path}").status_code == 403
        assert home.person("alice", "audit").get(f"/v1/traffic{path}").status_code == 403
        assert home.person("dave", "execute").get(f"/v1/traffic{path}").status_code == 403
        assert home.person("dave", "audit").get(f"/v1/traffic{path}").status_code == 200
        assert home.stranger.get(f"/v1/traffic{path}").status_code == 401


def test_what_is_asked_wrongly_is_malformed(home: "Home") -> None:
    for params in ({"since": "noon"}, {"cursor": "x"}, {"limit": 0}, {"limit": 9999}):
        assert home.owner.get("/v1/traffic", **params).status_code == 400, params
    assert home.owner.get("/v1/traffic/export", format="xml").status_code == 400


def test_an_export_is_recorded_and_a_spreadsheet_can_read_it(home: "Home") -> None:
    home.person("alice", "execute").run("puppet", ["vault.write", "notes/a", 1])
    text = home.owner.get("/v1/traffic/export", format="csv", user="alice").text
    (row,) = csv.DictReader(io.StringIO(text))
    assert (row["plugin"], row["user"], row["op"]) == ("puppet", "alice", "vault.write")
    record = home.records(event_type="exported")[-1]
    assert (record["details"]["what"], record["details"]["user"]) == ("traffic", "alice")


def test_traffic_outlives_a_restart_and_is_kept_as_long_as_the_settings_say(
    make_home: "MakeHome", upstream: Upstream
) -> None:
    home = make_home(rules=rules(upstream), settings="[traffic]\nkeep_days = 2\n")
    home.install("puppet", wants=("vault_write notes",))
    home.person("alice", "execute").run("puppet", ["vault.write", "notes/a", 1])
    home.reopen()
    assert len(home.owner.get("/v1/traffic").json()["transfers"]) == 1
    home.at(home.parts.now() + timedelta(days=3))
    assert home.owner.get("/v1/traffic").json()["transfers"] == []


def test_a_call_asks_no_more_than_it_may_what_it_calls_included(
    make_home: "MakeHome", caplog: pytest.LogCaptureFixture
) -> None:
    home = make_home(settings="[sandbox]\nmax_asks = 5\n")
    home.install("inner", wants=("vault_write notes",))
    home.install("puppet", wants=("vault_write notes", "plugin_execute inner"))
    alice = home.person("alice", "execute")
    deeds = [["vault.write", "notes/a", number] for number in range(8)]
    with caplog.at_level(logging.WARNING):
        told = alice.run("puppet", *deeds)
    assert told[:5] == [None] * 5
    assert all("overloaded: one call asks at most 5" in each["failed"] for each in told[5:])
    assert caplog.text.count("asked more than 5 questions") == 1
    assert len(home.decided(kind="vault")) == 5
    assert alice.run("puppet", *deeds[:5]) == [None] * 5  # another call, another measure
    nested = alice.run("puppet", ["plugins.call", "inner", {"do": deeds[:6]}], *deeds[:2])
    assert [type(each) for each in nested[0]] == [type(None)] * 4 + [dict] * 2
    assert all("overloaded" in each["failed"] for each in nested[1:])
