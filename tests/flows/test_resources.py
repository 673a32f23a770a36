"""What a plugin asks for is decided, recorded and only then done; nobody reaches what is another's."""

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from gateway.errors import ConfigError
from gateway.flows import asking
from gateway.flows.decide import decide

if TYPE_CHECKING:
    from tests.conftest import Home, MakeHome


def test_the_vault_is_each_users_own(home: "Home") -> None:
    home.install("puppet", wants=("vault_read notes", "vault_write notes"))
    alice, bob = home.person("alice", "execute"), home.person("bob", "execute")
    alice.run("puppet", ["vault.write", "notes/a", "alice's"])
    assert bob.run("puppet", ["vault.list", "notes"])[0] == []
    bob.run("puppet", ["vault.write", "notes/a", "bob's"])
    assert alice.run("puppet", ["vault.read", "notes/a"]) == ["alice's"]
    bob.run("puppet", ["vault.delete", "notes/a"])
    assert alice.run("puppet", ["vault.read", "notes/a"]) == ["alice's"]


@pytest.mark.parametrize(
    "scope", ["../bob/notes", "notes/../../x", "/notes", "notes//a", "bob\x00", "notes/*", "*", "", "notes/e\u0301"]
)
def test_no_spelling_of_a_scope_leads_out(home: "Home", scope: str) -> None:
    home.install("puppet", wants=("vault_read *", "vault_write *"))
    alice = home.person("alice", "execute")
    told = alice.run("puppet", ["vault.read", scope], ["vault.write", scope, 1], ["vault.list", scope])
    assert all("failed" in each for each in told), told


def test_a_list_shows_only_what_reading_would_allow(make_home: "MakeHome") -> None:
    home = make_home(rules="p, hide, plugin:puppet, vault, read, notes/secret/*, -, deny, x\n")
    home.install("puppet", wants=("vault_read notes", "vault_write notes"))
    alice = home.person("alice", "execute")
    writes = [["vault.write", f"notes/{name}", 1] for name in ("a", "b/c", "secret/d")]
    told = alice.run("puppet", *writes, ["vault.list", "notes"], ["vault.list", "notes/secret"])
    assert told[3] == ["notes/a", "notes/b/c"]
    assert told[4]["denied"] == "rule"


def test_a_denied_ask_shows_near_misses_of_rules_that_name_this_plugin_alone(make_home: "MakeHome") -> None:
    home = make_home(
        rules="p, mine, plugin:puppet, vault, read, notes/*, consent; risk<=1, allow, x\n"
        "p, everybodys, group:plugins, vault, read, notes/*, consent, allow, x\n"
        "p, others, plugin:other, vault, read, notes/*, consent, allow, x\n"
    )
    home.install("puppet")
    (told,) = home.person("alice", "execute").run("puppet", ["vault.read", "notes/a"])
    assert told["near_misses"] == [{"id": "mine", "unmet": ["consent", "risk"]}]
    assert {each["id"] for each in home.decision(told["decision_id"])["near_misses"]} == {"mine", "everybodys"}


def test_a_called_plugin_acts_with_what_both_may(home: "Home") -> None:
    home.install("inner", wants=("vault_read notes", "vault_read inner", "vault_write notes"))
    home.install("outer", wants=("plugin_execute inner", "vault_read notes", "vault_read outer"))
    alice = home.person("alice", "execute")
    alice.run("inner", ["vault.write", "notes/a", 1])
    deeds = [
        ["vault.read", "notes/a"],
        ["vault.read", "inner/x"],
        ["vault.read", "outer/x"],
        ["vault.write", "notes/a", 2],
    ]
    (told,) = alice.run("outer", ["plugins.call", "inner", {"do": deeds}])
    assert told[0] == 1
    assert [each["denied"] for each in told[1:]] == ["no_rule"] * 3
    assert alice.run("inner", ["vault.read", "notes/a"]) == [1]
    asked = [each["subject"] for each in home.decided(permission="vault_read", scope="inner/x")]
    assert asked == ["plugin:inner", "plugin:outer"]


def test_calling_another_plugin_needs_the_right_to(home: "Home") -> None:
    home.install("inner")
    home.install("outer")
    alice = home.person("alice", "execute")
    assert alice.run("outer", ["plugins.call", "inner", {"do": []}])[0]["denied"] == "no_rule"
    assert alice.run("outer", ["plugins.list"]) == [["outer"]]
    assert "failed" in alice.run("outer", ["plugins.call", "../inner", {"do": []}])[0]


def test_a_stopped_plugin_cannot_be_called_by_another(home: "Home") -> None:
    home.install("inner")
    home.install("outer", wants=("plugin_execute inner",))
    home.owner.post("/v1/plugins/inner/suspend", {"reason": ""})
    (told,) = home.person("alice", "execute").run("outer", ["plugins.call", "inner", {"do": []}])
    assert "suspended" in told["failed"]


def test_host_files_are_read_where_granted_and_nowhere_else(home: "Home", tmp_path: Path) -> None:
    shared, private = tmp_path / "shared", tmp_path / "private"
    for folder in (shared, private):
        folder.mkdir()
        (folder / "a.txt").write_text(folder.name)
    (shared / "way-out").symlink_to(private / "a.txt")
    (shared / "home").symlink_to(home.folder)
    home.install("puppet", wants=(f"file_read {shared}", "file_read /etc", f"file_write {home.folder}"))
    told = home.person("alice", "execute").run(
        "puppet",
        ["files.read", f"{shared}/a.txt"],
        ["files.read", f"{private}/a.txt"],
        ["files.read", f"{shared}/way-out"],
        ["files.read", f"{shared}/../private/a.txt"],
        ["files.read", "/etc/passwd"],
        ["files.read", f"{home.folder}/hearthgate.toml"],
        ["files.read", f"{shared}/home/data/keys/log.key"],
        ["files.write", f"{home.folder}/policies/rules/99.csv", "p"],
        ["files.read", "/proc/self/environ"],
    )
    assert told[0] == "shared"
    assert not [each for each in told[1:] if not isinstance(each, dict)]
    assert told[1]["denied"] == told[2]["denied"] == "no_rule"
    assert told[4]["denied"] == "rule"
    assert not (home.folder / "policies" / "rules" / "99.csv").exists()


def test_what_exists_is_not_told_to_who_may_not_read(home: "Home") -> None:
    home.install("puppet")
    told = home.person("alice", "execute").run(
        "puppet", ["files.read", "/usr/bin/env"], ["files.read", "/usr/bin/no-such-program"]
    )
    assert [each["denied"] for each in told] == ["no_rule", "no_rule"]


@pytest.mark.parametrize(
    "deed",
    [
        ["http.get", "http://127.0.0.1:1/"],
        ["http.get", "http://localhost/"],
        ["http.get", "http://169.254.169.254/latest/meta-data/"],
        ["http.get", "http://[::1]/"],
        ["system.run", ["/bin/true"]],
        ["system.info", "cpu"],
        ["user.get", "name"],
        ["core.get", "version"],
        ["api.call", "mail", "GET", "inbox"],
    ],
)
def test_nothing_is_done_that_was_not_granted(home: "Home", deed: list[object]) -> None:
    home.install("puppet")
    (told,) = home.person("alice", "execute").run("puppet", deed)
    assert "denied" in told or "failed" in told, told
    assert home.records(event_type="execution_completed")[-1]["details"]["asks"][-1]["effect"] != "allow"


def test_an_ask_that_nobody_knows_is_refused(home: "Home") -> None:
    code = """\
def execute(ctx, payload):
    found = []
    for op in ("vault.steal", "", "__class__", "vault.read" * 100):
        try:
            ctx.vault._ask(op, {})
        except Exception as error:
            found.append(type(error).__name__)
    return len(found)
"""
    home.install("probe", code)
    answer = home.person("alice", "execute").begin("probe").result(20).json()
    assert answer["output"] == 4


def test_user_data_is_the_users_own(home: "Home") -> None:
    home.install("puppet", wants=("user_read name", "user_write name"))
    alice, bob = home.person("alice", "execute"), home.person("bob", "execute")
    alice.run("puppet", ["user.set", "name", "Alice"])
    assert alice.run("puppet", ["user.get", "name"]) == ["Alice"]
    assert bob.run("puppet", ["user.get", "name"])[0] != "Alice"


def test_a_long_list_lets_others_have_their_turn(home: "Home", monkeypatch: pytest.MonkeyPatch) -> None:
    home.install("puppet", wants=("vault_read notes",))
    for number in range(200):
        home.parts.resources.vault.write("alice", f"notes/{number}", number)
    judged = [0]

    def counting(*args: Any, **given: Any) -> Any:  # noqa: ANN401 (those of `decide`)
        judged[-1] += 1
        return decide(*args, **given)

    async def take_turns() -> None:
        while True:
            judged.append(0)
            await asyncio.sleep(0)

    monkeypatch.setattr(asking, "decide", counting)
    turns = home.start(take_turns())
    (names,) = home.person("alice", "execute").run("puppet", ["vault.list", "notes"])
    turns.cancel()
    assert len(names) == 200
    assert sum(judged) == 200
    assert max(judged) <= 10


def test_an_answer_that_no_frame_holds_is_told_at_once(home: "Home", tmp_path: Path) -> None:
    share = tmp_path / "share"
    share.mkdir()
    (share / "film").write_bytes(bytes(9 << 20))
    home.install("puppet", wants=(f"file_read {share}",))
    answer = home.person("alice", "execute").begin("puppet", ["files.read", str(share / "film")]).result(20).json()
    assert "cannot be sent" in answer["output"][0]["failed"]
    assert [each["ok"] for each in answer["sandbox_result"]["asks"]] == [False]


@pytest.mark.parametrize(("method", "ending"), [("DELETE", "denied"), ("delete", "failed"), ("DelEte", "failed")])
def test_a_rule_on_the_method_sees_the_method_that_is_sent(make_home: "MakeHome", method: str, ending: str) -> None:
    home = make_home(rules="p, no-delete, plugin:puppet, network, write, *, args.method == DELETE, deny, x\n")
    ask = "ctx._channel.ask('http.request', {'method': payload['method'], 'url': 'http://h.invalid/', 'headers': {}})"
    code = (
        f"def execute(ctx, payload):\n    try:\n        {ask}\n"
        "    except PermissionError:\n        return 'denied'\n"
        "    except OSError as error:\n        return f'failed: {error}'\n"
    )
    home.install("puppet", code, wants=("network_write h.invalid",))
    alice = home.person("alice", "execute")
    told = alice.post("/v1/plugins/puppet/execute", {"payload": {"method": method}}).json()["output"]
    assert told.startswith(ending)
    assert "resolved" not in told


SERVICE = """
[upstream.weather]
url = "http://127.0.0.1:{port}/base"
secret_file = "data/keys/weather.secret"
prefix = "Bearer "
private = true
"""
ASK_SERVICES = """\
def execute(ctx, payload):
    told = []
    for upstream, method, path in payload["calls"]:
        try:
            told.append(ctx.api.call(upstream, method, path).text)
        except PermissionError as error:
            told.append("denied: " + error.reason)
        except OSError as error:
            told.append("failed: " + str(error))
    return told
"""


class Service(BaseHTTPRequestHandler):
    """Answers with what it was asked."""

    asked: ClassVar[list[tuple[str, str | None]]] = []
    traces: ClassVar[list[tuple[str | None, str | None]]] = []

    def do_GET(self) -> None:  # the name that http.server calls
        self.asked.append((self.requestline, self.headers["authorization"]))
        self.traces.append((self.headers["traceparent"], self.headers["tracestate"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"sunny")

    def log_message(self, *words: object) -> None:
        """Say nothing."""


@pytest.fixture
def service() -> Iterator[ThreadingHTTPServer]:
    Service.asked.clear()
    Service.traces.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_named_service_is_asked_with_a_credential_that_no_plugin_sees(
    make_home: "MakeHome", service: ThreadingHTTPServer
) -> None:
    home = make_home(settings=SERVICE.format(port=service.server_port), opened=False)
    key = home.folder / "data" / "keys" / "weather.secret"
    key.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
    key.touch(mode=0o600)
    key.write_text("canary-of-the-weather")
    home.open()
    home.install("probe", ASK_SERVICES, wants=("api_read weather/v1/*", "file_read /"))
    calls = [
        ["weather", "GET", "v1/now?q=1"],
        ["weather", "GET", "v1/%2e%2e/admin"],
        ["weather", "GET", "admin"],
        ["weather", "POST", "v1/now"],
        ["traffic", "GET", "v1"],
    ]
    answer = home.person("alice", "execute").post("/v1/plugins/probe/execute", {"payload": {"calls": calls}}).json()
    assert answer["output"][0] == "sunny"
    assert answer["output"][1].startswith("failed")
    assert answer["output"][2:] == ["denied: no_rule"] * 3
    assert Service.asked == [("GET /base/v1/now?q=1 HTTP/1.1", "Bearer canary-of-the-weather")]
    assert "canary" not in repr(home.records())
    told = home.owner.get("/v1/traffic")
    (row,) = told.json()["transfers"]
    assert (row["op"], row["host"], row["port"], row["status"]) == ("api.call", "127.0.0.1", service.server_port, 200)
    assert "canary" not in told.text


FORGED = "00-11111111111111111111111111111111-1111111111111111-01"
ASK_WITH_A_TRACE = f"""\
def execute(ctx, payload):
    headers = {{"TraceParent": "{FORGED}", "tracestate": "own=1"}}
    ctx.api.call("weather", "GET", "v1/now", headers=headers)
    ctx.http.request("GET", payload["url"], headers=headers)
"""


def test_the_trace_of_a_call_goes_on_to_whom_it_asks_in_place_of_the_plugins_own(
    make_home: "MakeHome", service: ThreadingHTTPServer
) -> None:
    port = service.server_port
    rules = f"p, out, plugin:probe, network, read, 127.0.0.1:{port}, -, allow, test\n"
    home = make_home(settings=SERVICE.format(port=port), rules=rules, opened=False)
    key = home.folder / "data" / "keys" / "weather.secret"
    key.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
    key.touch(mode=0o600)
    key.write_text("canary-of-the-weather")
    home.open()
    home.install("probe", ASK_WITH_A_TRACE, wants=("api_read weather/v1/*", "network_read h.invalid"))
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    body = {"payload": {"url": f"http://127.0.0.1:{port}/x"}}
    for headers in ({"traceparent": parent}, {}):
        answer = home.owner.ask("POST", "/v1/plugins/probe/execute", body, headers=headers).json()
        assert answer["success"], answer["error"]
    assert Service.traces == [(parent, None)] * 2 + [(FORGED, "own=1")] * 2


def test_a_service_whose_credential_is_missing_stops_the_start(make_home: "MakeHome") -> None:
    home = make_home(settings=SERVICE.format(port=1), opened=False)
    with pytest.raises(ConfigError, match=r"weather\.secret"):
        home.open()
