"""What may befall a serving gateway's log: nothing that was acknowledged is lost, nothing unrecorded is answered."""

import concurrent.futures
import http.client
import json
import os
import random
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gateway.audit import merkle
from gateway.audit.query import LogReader
from tests.app.served import Gateway, export, until

if TYPE_CHECKING:
    from tests.conftest import MakeHome

KILLS = int(os.environ.get("HEARTHGATE_KILLS", "5"))  # `make soak` asks for a hundred
CALLERS = 8
QUESTION = {"subject": "plugin:worker", "permission": "vault_read", "scope": "notes/x"}


@pytest.fixture
def gateway(make_home: "MakeHome") -> Iterator[Gateway]:
    """Give a gateway on a home of its own."""
    home = make_home(opened=False)
    served = Gateway(home.folder)
    yield served
    served.end()


class Asker:
    """Somebody who asks over one connection after the other, and keeps what was acknowledged."""

    def __init__(self, gateway: Gateway, key: str) -> None:
        self.port, self.key = gateway.port, key
        self.acknowledged: list[str] = []
        self.statuses: list[int] = []

    def ask(self, connection: http.client.HTTPConnection) -> int:
        headers = {"content-type": "application/json", "authorization": f"Bearer {self.key}"}
        connection.request("POST", "/v1/decisions", json.dumps(QUESTION), headers)
        answer = connection.getresponse()
        found = json.loads(answer.read())
        if answer.status == 200:
            self.acknowledged.append(found["decision_id"])
        self.statuses.append(answer.status)
        return answer.status

    def ask_until(self, stopped: threading.Event) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with suppress(OSError, http.client.HTTPException, ValueError):
            while not stopped.is_set():
                self.ask(connection)
        connection.close()


def recorded(folder: Path) -> set[str]:
    """Give the decisions in the log, and check its tree from the first record to the last."""
    with LogReader(folder / "data").connect() as connection:
        rows = connection.execute("SELECT seq, lower(hex(id)), committed, leaf FROM record ORDER BY seq").fetchall()
        notes = dict(connection.execute("SELECT size, root FROM checkpoint").fetchall())
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    frontier = merkle.Frontier()
    for number, (seq, _, committed, leaf) in enumerate(rows, 1):
        assert seq == number
        assert merkle.leaf_hash(committed.encode()) == leaf
        frontier.push(leaf)
        assert notes.get(number, frontier.root()) == frontier.root()
    assert notes.keys() <= set(range(len(rows) + 1))
    return {text for _, text, _, _ in rows}


def plain(decision_ids: list[str]) -> set[str]:
    return {each.replace("-", "") for each in decision_ids}


@pytest.mark.timeout(120 + 12 * KILLS)
def test_killed_again_and_again_under_load_it_loses_nothing_it_acknowledged(gateway: Gateway, tmp_path: Path) -> None:
    rng = random.Random(7)  # noqa: S311 (moments of a test)
    key = gateway.key("carol", "evaluate")
    acknowledged: set[str] = set()
    for _ in range(KILLS):
        askers = [Asker(gateway, key) for _ in range(CALLERS)]
        stopped = threading.Event()
        with concurrent.futures.ThreadPoolExecutor(CALLERS) as threads:
            running = [threads.submit(each.ask_until, stopped) for each in askers]
            until(lambda askers=askers: any(each.acknowledged for each in askers))
            stopped.wait(rng.uniform(0.05, 0.3))
            gateway.kill()
            stopped.set()
            for each in running:
                each.result()
        acknowledged |= {each for asker in askers for each in plain(asker.acknowledged)}
        gateway.start()
        assert acknowledged <= recorded(gateway.folder)
    assert len(acknowledged) > KILLS
    export(gateway, tmp_path / "log.jsonl")


def deleted(database: Path) -> Callable[[], None]:
    aside = database.with_suffix(".aside")
    database.rename(aside)
    return lambda: aside.replace(database) and None


def replaced(database: Path) -> Callable[[], None]:
    aside = database.with_suffix(".aside")
    database.rename(aside)
    shutil.copyfile(aside, database)
    return lambda: aside.replace(database) and None


def wal_deleted(database: Path) -> Callable[[], None]:
    database.with_name("audit.db-wal").unlink()
    return lambda: None


@pytest.mark.parametrize("fault", [deleted, replaced, wal_deleted])
def test_a_log_that_is_not_where_it_was_answers_nobody_until_it_is_back(
    gateway: Gateway, tmp_path: Path, fault: Callable[[Path], Callable[[], None]]
) -> None:
    until(lambda: gateway.ask("GET", "/readyz").status_code == 200)
    asker = Asker(gateway, gateway.key("carol", "evaluate"))
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    assert asker.ask(connection) == 200
    mend = fault(gateway.folder / "data" / "audit.db")
    if fault is not wal_deleted:
        # INVARIANT: the very next question is refused; that it may wait for the once-a-second look is not enough.
        assert [asker.ask(connection) for _ in range(3)] == [503, 503, 503]
        ready = gateway.ask("GET", "/readyz")
        assert ready.status_code == 503
        assert "audit.db" in ready.json()["missing"][0]
        assert gateway.ask("GET", "/healthz").status_code == 200
    mend()
    until(lambda: asker.ask(connection) == 200)
    connection.close()
    until(lambda: gateway.ask("GET", "/readyz").status_code == 200)
    assert plain(asker.acknowledged) <= recorded(gateway.folder)
    assert gateway.rows(event_type="recovered")
    export(gateway, tmp_path / "log.jsonl")


def test_twice_the_load_it_can_take_is_answered_in_full_and_nothing_is_dropped(gateway: Gateway) -> None:
    key = gateway.key("carol", "evaluate")
    askers, stopped = [Asker(gateway, key) for _ in range(CALLERS)], threading.Event()
    with concurrent.futures.ThreadPoolExecutor(CALLERS) as threads:
        running = [threads.submit(each.ask_until, stopped) for each in askers]
        stopped.wait(1.0)
        stopped.set()
        for each in running:
            each.result()
    in_a_second = sum(len(each.statuses) for each in askers)
    assert in_a_second > 0
    each_sends = max(2, 2 * in_a_second // 64)
    with concurrent.futures.ThreadPoolExecutor(64) as threads:
        answers = list(threads.map(lambda _: pipelined(gateway.port, key, each_sends), range(64)))
    statuses = [status for each in answers for status, _ in each]
    assert len(statuses) == 64 * each_sends, "every question is answered"
    assert set(statuses) <= {200, 503}
    told = {decision_id for each in answers for status, decision_id in each if status == 200}
    assert told
    counts = gateway.ask("GET", "/readyz").json()["log"]
    assert counts["dropped"] == 0
    assert plain([*told]) <= recorded(gateway.folder)


def request_bytes(key: str) -> bytes:
    body = json.dumps(QUESTION).encode()
    head = (
        f"POST /v1/decisions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {key}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def pipelined(port: int, key: str, count: int) -> list[tuple[int, str]]:
    """Send so many questions at once and read every answer."""
    found: list[tuple[int, str]] = []
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        sender = threading.Thread(target=connection.sendall, args=(request_bytes(key) * count,))
        sender.start()
        reader = connection.makefile("rb")
        for _ in range(count):
            status = int(reader.readline().split()[1])
            length = 0
            while (line := reader.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            told = json.loads(reader.read(length))
            found.append((status, told.get("decision_id", "")))
        sender.join()
    return found


def test_who_goes_away_while_the_batch_commits_takes_nothing_from_the_others(gateway: Gateway) -> None:
    key = gateway.key("carol", "evaluate")
    request = request_bytes(key)
    stopped = threading.Event()
    steady = [Asker(gateway, key) for _ in range(4)]

    def leaving(number: int) -> None:
        while not stopped.is_set():
            with suppress(OSError), socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as each:
                # Whole and gone at once; half a body; half a head; one and a half.
                each.sendall((request, request[:-5], request[:60], request + request[:100])[number % 4])
                if number % 2:
                    each.shutdown(socket.SHUT_WR)

    with concurrent.futures.ThreadPoolExecutor(12) as threads:
        running = [threads.submit(each.ask_until, stopped) for each in steady]
        running += [threads.submit(leaving, number) for number in range(8)]
        deadline = time.monotonic() + 30
        until(lambda: min(len(each.statuses) for each in steady) >= 50 or time.monotonic() > deadline)
        stopped.set()
        for each in running:
            each.result()
    assert min(len(each.statuses) for each in steady) >= 50
    assert {status for each in steady for status in each.statuses} == {200}
    assert plain([one for each in steady for one in each.acknowledged]) <= recorded(gateway.folder)
    counts = gateway.ask("GET", "/readyz").json()["log"]
    assert (counts["refused"], counts["dropped"]) == (0, 0)
    assert "Traceback" not in gateway.said
