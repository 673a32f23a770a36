"""What a plugin does to its relay costs itself alone, and no more than it may."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from gateway.executor import line as line_module

if TYPE_CHECKING:
    from tests.conftest import Home
    from tests.egress.conftest import Internet

Travel = Callable[..., "Home"]


def test_a_flood_of_connections_is_outlived_and_leaves_nothing(travel: Travel, internet: "Internet") -> None:
    home = travel()
    url = f"http://good.test:{internet.http}/after"
    alice = home.person("alice", "execute")
    alice.run("puppet", ["by_urllib", "GET", url])
    before = threading.active_count(), home.do(_tasks())
    (told,) = alice.run("puppet", ["flood", 200, url])
    assert told == {"status": 200, "body": "GET /after"}
    home.until(lambda: (threading.active_count(), home.do(_tasks())) <= before)


async def _tasks() -> int:
    import asyncio

    return len(asyncio.all_tasks())


def test_who_speaks_slowly_is_told_to_leave(
    travel: Travel, internet: "Internet", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_module, "_HEAD_S", 0.3)
    home = travel(settings="[sandbox]\nmax_connections = 1\n")
    url = f"http://good.test:{internet.http}/after"
    # With one place alone the second is only served when the first has left.
    told = home.person("alice", "execute").run("puppet", ["beside_a_slow_one", url])
    assert told == [{"slow": "HTTP/1.1 400 ", "other": {"status": 200, "body": "GET /after"}}]


def test_a_tunnel_in_which_nothing_passes_ends(
    travel: Travel, internet: "Internet", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_module, "_IDLE_S", 0.3)
    home = travel()
    assert home.person("alice", "execute").run("puppet", ["hold", f"good.test:{internet.echo}"]) == [None]
    home.do(_flush(home))
    (row,) = home.owner.get("/v1/traffic").json()["transfers"]
    assert (row["op"], row["outcome"], row["problem"]) == ("egress.connect", "failed", "unavailable")


async def _flush(home: "Home") -> None:
    home.parts.traffic.flush(home.parts.now())


def test_what_a_tunnel_takes_in_is_bounded_where_nobody_reads(travel: Travel, internet: "Internet") -> None:
    home = travel()
    (told,) = home.person("alice", "execute").run("puppet", ["pour", f"good.test:{internet.echo}", 64 << 20])
    assert told["ended"] == "TimeoutError"
    assert told["sent"] < 32 << 20  # what the buffers of four sockets hold, and ours


def test_the_bytes_of_one_call_are_bounded(travel: Travel, internet: "Internet") -> None:
    home = travel(settings="[sandbox]\nmax_egress_mb = 1\n")
    url = f"http://good.test:{internet.http}/large"
    told = home.person("alice", "execute").run(
        "puppet", ["size", f"{url}/100", 600_000], ["size", f"{url}/100", 600_000], ["size", f"{url}/100", 10]
    )
    assert told[0] == 100
    assert [each["status"] for each in told[1:]] == [413, 413]
    assert "max_egress_mb" in told[1]["body"]
    # Another call has a measure of its own.
    assert home.person("alice", "execute").run("puppet", ["size", f"{url}/100", 600_000]) == [100]


def test_requests_count_among_the_questions_of_a_call(travel: Travel, internet: "Internet") -> None:
    home = travel(settings="[sandbox]\nmax_asks = 3\n")
    url = f"http://good.test:{internet.http}/"
    told = home.person("alice", "execute").run("puppet", *[["by_urllib", "GET", url]] * 5)
    assert [each["status"] for each in told] == [200, 200, 200, 429, 429]
    assert len(home.decided(subject="plugin:puppet", kind="network")) == 3


def test_more_connections_than_places_wait_for_one(travel: Travel, internet: "Internet") -> None:
    home = travel(settings="[sandbox]\nmax_connections = 2\n")
    (told,) = home.person("alice", "execute").run("puppet", ["many", 12, f"http://good.test:{internet.http}/"])
    assert told == [200] * 12


def test_a_call_that_holds_tunnels_ends_with_them(travel: Travel, internet: "Internet") -> None:
    home = travel()
    (told,) = home.person("alice", "execute").run("puppet", ["leave_open", 5, f"good.test:{internet.echo}"])
    assert told == 5
    home.until(lambda: all(each.fileno() < 0 or _ended(each) for each in internet.echoes))
    assert home.parts.traffic.active == ()


def _ended(connection: object) -> bool:
    import socket

    assert isinstance(connection, socket.socket)
    connection.settimeout(0.05)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_a_client_that_has_no_more_to_say_hears_the_rest(travel: Travel, internet: "Internet") -> None:
    home = travel()
    told = home.person("alice", "execute").run("puppet", ["speak_and_listen", f"good.test:{internet.echo}"])
    assert told == ["the last words"]


def test_what_a_plugin_said_in_parting_arrives(travel: Travel, internet: "Internet") -> None:
    home = travel()
    home.person("alice", "execute").run("puppet", ["say_and_go", f"good.test:{internet.echo}"])
    home.until(lambda: b"said in parting" in internet.echoed)


def test_nobody_asks_on_when_the_call_is_over(travel: Travel, internet: "Internet") -> None:
    home = travel()
    url = f"http://good.test:{internet.http}/"
    alice = home.person("alice", "execute")
    alice.run("puppet", ["leave_a_daemon", url])
    decided, asked = len(home.decided(kind="network")), len(internet.asked)
    # Another call takes longer than the daemon would need for its next question.
    assert alice.run("puppet", ["by_urllib", "GET", f"{url}last"])[0]["status"] == 200
    assert len(home.decided(kind="network")) == decided + 1
    assert [each for each in internet.asked[asked:] if "last" not in each] == []
