"""Whose right a connection needs, when it ends, and what the records tell of it."""

import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Home
    from tests.egress.conftest import Internet

Travel = Callable[..., "Home"]


def test_a_refused_request_is_on_record_at_once_with_the_line_that_would_allow_it(
    travel: Travel, internet: "Internet"
) -> None:
    home = travel("", wants=("network_read elsewhere.test",))
    url = f"http://good.test:{internet.http}/"
    alice = home.person("alice", "execute")
    (told,) = alice.run("puppet", ["by_urllib", "GET", url])
    assert told["status"] == 403
    (record,) = (each for each in home.records(event_type="access_denied") if each["decision"]["kind"] == "network")
    assert record["decision"]["scope"] == f"good.test:{internet.http}"
    assert record["decision"]["decision_id"] in told["body"]
    assert record["resolution"] == "denied"
    line = record["details"]["would_allow"]
    home.rules(line + "\n")
    (told,) = alice.run("puppet", ["by_urllib", "GET", url])
    assert told == {"status": 200, "body": "GET /"}
    # As `policy suggest` says it, which tries each line before it shows it.
    suggested = home.owner.get(f"/v1/decisions/{record['decision']['decision_id']}/explain").text
    assert f"good.test:{internet.http}" in suggested


def test_what_passed_is_in_the_traffic_log_and_in_the_outcome(travel: Travel, internet: "Internet") -> None:
    home = travel()
    urls = [f"{scheme}://good.test:{port}/large/100000" for scheme, port in internet.doors]
    answer = home.person("alice", "execute").begin("puppet", *[["size", each, 50_000] for each in urls]).result(20)
    shown = answer.json()["sandbox_result"]
    home.do(_flush(home))
    rows = sorted(home.owner.get("/v1/traffic").json()["transfers"], key=lambda row: str(row["op"]), reverse=True)
    told = [(row["op"], row["method"], row["host"], row["port"], row["status"], row["outcome"]) for row in rows]
    assert told == [
        ("egress.request", "POST", "good.test", internet.http, 200, "returned"),
        ("egress.connect", "CONNECT", "good.test", internet.https, None, "returned"),
    ]
    assert all(row["bytes_out"] > 50_000 and row["bytes_in"] > 100_000 for row in rows)
    assert shown["usage"]["bytes_out"] == sum(row["bytes_out"] for row in rows)
    assert shown["usage"]["bytes_in"] == sum(row["bytes_in"] for row in rows)
    assert [(each["op"], each["ok"]) for each in shown["asks"]] == [("egress.request", True), ("egress.connect", True)]
    assert [each["decision_id"] for each in shown["asks"]] == [row["decision_id"] for row in rows]
    assert {row["execution_id"] for row in rows} == {answer.json()["execution_id"]}


async def _flush(home: "Home") -> None:
    home.parts.traffic.flush(home.parts.now())


def test_reading_and_writing_are_asked_apart_and_a_tunnel_is_writing(travel: Travel, internet: "Internet") -> None:
    rules = "".join(
        f"p, read-{port}, plugin:puppet, network, read, good.test:{port}, -, allow, test\n"
        for port in (internet.http, internet.https)
    )
    home = travel(rules)
    url = f"http://good.test:{internet.http}/"
    told = home.person("alice", "execute").run(
        "puppet",
        ["by_urllib", "GET", url],
        ["by_urllib", "HEAD", url],
        *[["by_urllib", method, url, "x"] for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH")],
        ["connect", f"good.test:{internet.https}"],
    )
    assert [each["status"] for each in told[:-1]] == [200, 200, 403, 403, 403, 403, 403]
    assert told[-1].startswith("HTTP/1.1 403 ")


def test_a_rule_may_look_at_the_method_and_the_url(travel: Travel, internet: "Internet") -> None:
    host = f"good.test:{internet.http}"
    home = travel(
        f"p, any, plugin:puppet, network, write, {host}, -, allow, test\n"
        f"p, no-delete, plugin:puppet, network, write, {host}, args.method == DELETE, deny, test\n"
        f"p, no-admin, plugin:puppet, network, read, {host}, args.url startswith http://{host}/admin, deny, test\n"
    )
    told = home.person("alice", "execute").run(
        "puppet",
        ["by_urllib", "POST", f"http://{host}/", "x"],
        ["by_urllib", "DELETE", f"http://{host}/", "x"],
        ["by_urllib", "GET", f"http://{host}/admin/x"],
        ["connect", host],
    )
    assert [each["status"] for each in told[:3]] == [200, 403, 403]
    # Whoever looks at the URL refuses what hides it.
    assert told[3].startswith("HTTP/1.1 403 ")


def test_a_right_that_needs_consent_needs_it_here_too(travel: Travel, internet: "Internet") -> None:
    host = f"good.test:{internet.http}"
    home = travel(f"p, asked, plugin:puppet, network, read, {host}, consent, allow, test\n")
    alice = home.person("alice", "execute", "consent")
    (told,) = alice.run("puppet", ["by_urllib", "GET", f"http://{host}/"])
    assert "consent_required" in told["body"]
    consent = {"plugin_id": "puppet", "user_id": "alice", "permission": "network_read", "scope": host}
    assert alice.post("/v1/consents", consent).status_code == 201
    assert alice.run("puppet", ["by_urllib", "GET", f"http://{host}/"])[0]["status"] == 200
    assert home.person("bob", "execute").run("puppet", ["by_urllib", "GET", f"http://{host}/"])[0]["status"] == 403


@pytest.mark.parametrize("how", ["revoke", "suspend", "lockdown", "permission"])
def test_a_tunnel_dies_with_the_right_to_it(travel: Travel, internet: "Internet", how: str) -> None:
    home = travel(wants=("network_write elsewhere.test",))
    call = home.person("alice", "execute").begin("puppet", ["hold", f"good.test:{internet.echo}"])
    home.until(lambda: b"held" in internet.echoed)
    taking = {
        "revoke": ("/v1/plugins/puppet/revoke", {"reason": "test"}),
        "suspend": ("/v1/plugins/puppet/suspend", {"reason": "test"}),
        "lockdown": ("/v1/lockdown", {"scope": "kind:network", "reason": "test"}),
        "permission": ("/v1/plugins/puppet/permissions/revoke", {"reason": "test"}),
    }[how]
    assert home.owner.post(*taking).status_code < 300
    began = time.monotonic()
    (connection,) = internet.echoes
    connection.settimeout(20)
    assert _is_closed(connection)
    took_s = time.monotonic() - began
    assert took_s < 5, "far less is promised; a busy machine gets this much"
    assert call.result(20).json()["outcome"] == "killed"
    home.until(lambda: home.parts.traffic.active == ())


def _is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def test_each_cell_speaks_for_itself_and_its_own_user(travel: Travel, internet: "Internet") -> None:
    host = f"good.test:{internet.http}"
    home = travel(
        f"p, mine, plugin:puppet, network, read, {host}, context.unknown == x, allow, test\n"
        f"p, others, plugin:other, network, read, {host}, -, allow, test\n"
    )
    code = (home.folder / "plugins" / "puppet" / "main.py").read_text()
    home.install("other", code.replace('"/plugin/ca.pem"', "None"))
    deeds = [["by_urllib", "GET", f"http://{host}/{number}"] for number in range(5)]
    calls = [
        home.person(user, "execute").begin(plugin, *deeds)
        for user, plugin in (("alice", "puppet"), ("bob", "other"), ("bob", "puppet"), ("alice", "other"))
    ]
    told = [{each["status"] for each in call.result(20).json()["output"]} for call in calls]
    assert told == [{403}, {200}, {403}, {200}]
    asked = {(each["subject"], each["user"], each["effect"]) for each in home.decided(kind="network")}
    assert asked == {
        ("plugin:puppet", "alice", "deny"),
        ("plugin:puppet", "bob", "deny"),
        ("plugin:other", "alice", "allow"),
        ("plugin:other", "bob", "allow"),
    }


def test_a_called_plugin_needs_the_right_of_both(travel: Travel, internet: "Internet") -> None:
    host = f"good.test:{internet.http}"
    home = travel(f"p, inner, plugin:puppet, network, read, {host}, -, allow, test\n")
    home.install(
        "outer",
        "def execute(ctx, payload):\n    return ctx.plugins.call('puppet', payload)\n",
        wants=("plugin_execute puppet",),
    )
    alice = home.person("alice", "execute")
    deed = ["by_urllib", "GET", f"http://{host}/"]
    assert alice.run("puppet", deed)[0]["status"] == 200
    assert alice.run("outer", deed)[0]["status"] == 403


def test_who_never_spoke_of_the_network_has_no_socket(travel: Travel, internet: "Internet") -> None:
    home = travel("")
    told = home.person("alice", "execute").run(
        "puppet", ["connect", f"good.test:{internet.http}"], ["by_urllib", "GET", f"http://good.test:{internet.http}/"]
    )
    assert "Address family not supported" in told[0]["failed"]
    assert "name resolution" in told[1]["failed"]
    assert home.decided(subject="plugin:puppet", kind="network") == []


def test_a_cell_with_a_relay_trusts_whom_the_gateway_trusts(travel: Travel) -> None:
    home = travel()
    assert home.person("alice", "execute").run("puppet", ["certificates"])[0] > 50


def test_nothing_is_carried_that_cannot_be_recorded(
    travel: Travel, internet: "Internet", monkeypatch: pytest.MonkeyPatch
) -> None:
    home = travel()
    from gateway.errors import LogUnavailableError
    from gateway.flows import use_resource

    async def full(*_: object, **__: object) -> None:
        raise LogUnavailableError("the disk is full")

    monkeypatch.setattr(use_resource, "record_decisions", full)
    told = home.person("alice", "execute").run(
        "puppet", ["by_urllib", "GET", f"http://good.test:{internet.http}/"], ["connect", f"good.test:{internet.echo}"]
    )
    assert told[0]["status"] == 503
    assert told[1].startswith("HTTP/1.1 503 ")
    assert internet.asked == internet.echoed == internet.looked_up == []
