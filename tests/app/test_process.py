"""The gateway as a process of its own: killed, asked to end, starved of disk, and flooded."""

import concurrent.futures
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest

from tests.app.served import WAIT_S, WORKER, Gateway, export, until

if TYPE_CHECKING:
    from tests.conftest import Home, MakeHome


@pytest.fixture
def folder(make_home: "MakeHome") -> Path:
    """Give a closed home with an active plugin."""
    home = make_home()
    home.install("worker", WORKER, wants=("vault_write notes", "vault_read notes"))
    home.close()
    return home.folder


@pytest.fixture
def gateway(folder: Path) -> Iterator[Gateway]:
    served = Gateway(folder)
    yield served
    served.end()


@pytest.fixture(scope="module")
def steady(quiet_home: "Home") -> Iterator[Gateway]:
    """Give a gateway that the tests of this module share: they must neither end nor change it."""
    quiet_home.install("worker", WORKER, wants=("vault_write notes", "vault_read notes"))
    quiet_home.close()
    served = Gateway(quiet_home.folder)
    yield served
    served.end()


def test_killed_it_leaves_no_cell_behind_and_tells_of_the_lost_call(gateway: Gateway) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        call = threads.submit(gateway.run, "sleep", for_s=60, timeout_s=60)
        until(lambda: gateway.rows(event_type="execution_started"))
        until(lambda: len(gateway.cells()) >= 3)
        left = gateway.cells()
        gateway.kill()
        with pytest.raises(httpx.TransportError):
            call.result()
    _, alive = psutil.wait_procs(left, timeout=10)
    assert not alive
    gateway.start()
    (lost,) = gateway.rows(event_type="execution_lost")
    assert (lost["plugin_id"], lost["resolution"]) == ("worker", "unknown")
    assert gateway.run("return", value=1).json()["output"] == 1


def test_asked_to_end_it_lets_a_call_finish_and_tells_of_its_end(gateway: Gateway) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        call = threads.submit(gateway.run, "sleep", for_s=1.5)
        until(lambda: gateway.rows(event_type="execution_started"))
        gateway.process.terminate()
        assert call.result().json()["outcome"] == "returned"
        assert gateway.process.wait(WAIT_S) == 0
    assert not (gateway.folder / "run" / "hearthgate.sock").exists()
    gateway.start()
    kinds = [row["event_type"] for row in gateway.rows()]
    assert "execution_lost" not in kinds
    assert kinds.count("stopped") == 1
    assert kinds.count("started") == 2


def test_a_second_one_on_the_same_home_is_told_so(steady: Gateway) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "serve", "--home", str(steady.folder), "--listen", "127.0.0.1:0"],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert second.returncode == 1
    assert "another process" in second.stderr.lower()
    assert "Traceback" not in second.stderr
    assert steady.ask("GET", "/healthz").status_code == 200


def test_an_address_that_is_taken_or_not_ours_is_told_so(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for listen, words in (
            (f"127.0.0.1:{taken.getsockname()[1]}", "cannot listen"),
            ("0.0.0.0:0", "only a loopback address"),
        ):
            ended = subprocess.run(
                [sys.executable, "-m", "gateway.cli", "serve", "--home", str(folder), "--listen", listen],
                capture_output=True,
                text=True,
                timeout=WAIT_S,
                check=False,
            )
            assert ended.returncode == 1
            assert words in ended.stderr
            assert "Traceback" not in ended.stderr


def test_the_socket_is_its_owners_alone_and_tcp_needs_a_key(steady: Gateway) -> None:
    run = steady.folder / "run"
    assert run.stat().st_mode & 0o777 == 0o700
    assert (run / "hearthgate.sock").stat().st_mode & 0o777 == 0o600
    assert steady.ask("GET", "/v1/plugins").status_code == 200
    with httpx.Client(base_url=f"http://127.0.0.1:{steady.port}") as tcp:
        for headers in ({}, {"x-forwarded-for": f"unix-uid:{os.getuid()}"}, {"forwarded": "for=unix-uid:0"}):
            assert tcp.get("/v1/plugins", headers=headers).status_code == 401
        assert tcp.get("/healthz", headers={"host": "evil.example"}).status_code == 421
    until(lambda: steady.ask("GET", "/readyz").status_code == 200)


@pytest.mark.parametrize(
    ("do", "members", "outcomes"),
    [
        ("exit", {}, {"failed"}),
        ("eat", {}, {"killed", "failed"}),
        ("sleep", {"for_s": 60, "timeout_s": 0.5}, {"timed_out"}),
        ("flood", {}, {"returned"}),
    ],
)
def test_whatever_a_plugin_does_the_gateway_goes_on(
    steady: Gateway, do: str, members: dict[str, Any], outcomes: set[str]
) -> None:
    until(lambda: steady.ask("GET", "/readyz").status_code == 200)  # what proves the host has started and ended
    idle = len(steady.cells())
    answer = steady.run(do, **members)
    assert answer.status_code == 200, answer.text
    assert answer.json()["outcome"] in outcomes, answer.text
    assert steady.run("return", value="next").json()["output"] == "next"
    until(lambda: len(steady.cells()) <= idle + 2)


def test_more_calls_than_can_run_or_wait_are_answered_at_once_and_none_runs_without_a_record(folder: Path) -> None:
    (folder / "hearthgate.toml").write_text("[sandbox]\nmax_cells = 2\nmax_waiting = 4\n")
    gateway = Gateway(folder)
    try:
        with concurrent.futures.ThreadPoolExecutor(24) as threads:
            answers = list(threads.map(lambda _: gateway.run("sleep", for_s=0.1), range(96)))
        statuses = [each.status_code for each in answers]
        assert set(statuses) == {200, 429}
        refused = next(each for each in answers if each.status_code == 429)
        assert int(refused.headers["retry-after"]) >= 1
        ran = {each.json()["execution_id"] for each in answers if each.status_code == 200}
        begun = {each["details"]["execution_id"] for each in gateway.rows(event_type="execution_started")}
        ended = [each["details"]["execution_id"] for each in gateway.rows(event_type="execution_completed")]
        assert ran <= begun
        assert sorted(ended) == sorted(ran)
        assert gateway.run("return", value=1).json()["output"] == 1
    finally:
        gateway.end()


def test_slow_clients_hold_up_nobody(steady: Gateway) -> None:
    slow = [socket.create_connection(("127.0.0.1", steady.port)) for _ in range(50)]
    try:
        for number, each in enumerate(slow):
            each.sendall(b"POST /v1/decisions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
            if number % 2:
                each.sendall(b"Content-Length: 1000\r\n\r\n{")
        began = time.monotonic()
        assert steady.run("return", value=1).json()["output"] == 1
        assert steady.ask("GET", "/healthz").status_code == 200
        assert time.monotonic() - began < 10
    finally:
        for each in slow:
            each.close()


def test_a_slow_call_holds_up_no_other(steady: Gateway) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        call = threads.submit(steady.run, "sleep", for_s=2, timeout_s=20)
        until(lambda: any(job for job in steady.ask("GET", "/v1/plugins").json()["plugins"] if job["running"]))
        assert steady.run("return", value=1).json()["output"] == 1
        assert not call.done()
        assert call.result().json()["outcome"] == "returned"


def test_what_is_no_http_is_answered_by_nobody(steady: Gateway) -> None:
    for junk in (b"\x16\x03\x01\x02\x00", b"GET / HTTP/9.9\r\n\r\n", b"A" * 100_000, b"\r\n" * 1000):
        with socket.create_connection(("127.0.0.1", steady.port), timeout=10) as each, suppress(OSError):
            each.sendall(junk)
            each.shutdown(socket.SHUT_WR)
            assert b" 200 " not in each.recv(65536)
    connection = http.client.HTTPConnection("127.0.0.1", steady.port, timeout=10)
    connection.putrequest("POST", "/v1/decisions", skip_host=True)
    connection.putheader("Host", "localhost")
    connection.putheader("Host", "evil.example")
    connection.endheaders()
    assert connection.getresponse().status in {400, 401, 415, 421}
    connection.close()
    assert steady.ask("GET", "/healthz").status_code == 200


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a folder on a disk of 24 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.getuid() != 0:
        pytest.skip("only root may mount a small disk")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=0700", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_on_a_full_disk_nothing_runs_and_when_it_is_freed_the_gap_is_told(folder: Path, small_disk: Path) -> None:
    data = folder / "data"
    for path in data.iterdir():
        subprocess.run(["cp", "-a", str(path), str(small_disk)], check=True)
    subprocess.run(["mount", "--bind", str(small_disk), str(data)], check=True)
    gateway = None
    try:
        gateway = Gateway(folder)
        until(lambda: gateway.ask("GET", "/readyz").status_code == 200)
        assert gateway.run("keep", value=1).status_code == 200
        filler = small_disk / "filler"
        descriptor = os.open(filler, os.O_WRONLY | os.O_CREAT)
        with suppress(OSError):
            while os.write(descriptor, bytes(4096)):
                pass
        os.close(descriptor)
        statuses: list[int] = []
        # WHY: mending frees what the -wal held, so a disk is not full for good when it first refuses.
        until(lambda: statuses.append(gateway.run("keep", value=2).status_code) or statuses[-5:] == [503] * 5)
        refused = gateway.run("keep", value=3)
        assert refused.status_code == 503
        assert refused.json()["type"] == "urn:hearthgate:problem:log_unavailable"
        assert gateway.ask("GET", "/readyz").status_code == 503
        assert gateway.ask("GET", "/healthz").status_code == 200
        filler.unlink()
        until(lambda: gateway.ask("GET", "/readyz").status_code == 200)
        assert gateway.run("return", value=4).json()["output"] == 4
        assert "recovered" in {row["event_type"] for row in gateway.rows()}
        export(gateway, folder.parent / "log.jsonl")
    finally:
        if gateway is not None:
            gateway.end()
        subprocess.run(["umount", "-l", str(data)], check=True)


def test_a_home_is_where_it_says(folder: Path, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "serve", "--home", str(tmp_path / "nowhere")],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
        env={**os.environ, "HEARTHGATE_HOME": str(folder)},
    )
    assert ended.returncode == 2
    assert "is not a home" in ended.stderr


class Tarpit:
    """A server of this machine that takes connections and never answers."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.taken: list[socket.socket] = []
        self._thread = threading.Thread(target=self._take)
        self._thread.start()

    def _take(self) -> None:
        with suppress(OSError):
            while True:
                self.taken.append(self._listener.accept()[0])

    def end(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for each in self.taken:
            each.close()


@pytest.fixture
def tarpit() -> Iterator[Tarpit]:
    made = Tarpit()
    yield made
    made.end()


def test_no_decision_waits_for_a_sink_that_never_answers(
    make_home: "MakeHome", tarpit: Tarpit, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    key = tmp_path / "key"
    key.write_text("a-key-of-more-than-16-bytes")
    key.chmod(0o600)
    settings = (
        f'[[log.sink]]\nname = "siem"\nkind = "webhook"\nurl = "http://127.0.0.1:{tarpit.port}/"\n'
        f'key_file = "{key}"\nbegin = "start"\n'
        f'[[log.sink]]\nname = "copy"\nkind = "file"\npath = "{tmp_path}/copy.jsonl"\nbegin = "start"\n'
    )
    home = make_home(settings=settings, opened=False)
    gateway = Gateway(home.folder)
    request.addfinalizer(gateway.end)
    until(lambda: tarpit.taken)
    asked = {"subject": "role:owner", "permission": "gateway_read", "scope": "audit"}
    with gateway.owner() as owner:
        answers = [owner.post("/v1/decisions", json=asked).status_code for _ in range(50)]
    assert answers == [200] * 50

    def states() -> dict[str, Any]:
        return {each["name"]: each for each in gateway.ask("GET", "/v1/audit/sinks").json()["sinks"]}

    # Each look is itself recorded, so that the other sink is never quite at the end.
    until(lambda: (states()["copy"]["position"] or 0) > 50)
    assert states()["siem"]["lag"] >= 50
    until(lambda: states()["siem"]["last_error"] is not None)
    assert states()["siem"]["last_error"] == "the endpoint does not answer in time"
    below = psutil.Process(gateway.process.pid).children()
    gateway.end()
    assert psutil.wait_procs(below, timeout=WAIT_S)[1] == []
    copied = [json.loads(line)["seq"] for line in (tmp_path / "copy.jsonl").read_text().splitlines()]
    assert copied == list(range(1, len(copied) + 1))
