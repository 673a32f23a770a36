"""Sinks get every record at least once, in order, and nothing of what they do reaches the log."""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gateway.audit.formats.known import FORMATS
from gateway.audit.formats.redaction import FIELDS
from gateway.audit.log import DecisionLog
from gateway.audit.sinks import delivery
from gateway.audit.sinks.delivery import Batch, Delivery, UndeliveredError
from gateway.audit.sinks.file import FileTarget
from gateway.audit.sinks.place import Place
from gateway.audit.sinks.sink import LogFile, Sink, Syslog, Webhook
from gateway.audit.sinks.syslog import SyslogTarget
from gateway.audit.sinks.webhook import WebhookTarget
from gateway.domain.record import Record
from gateway.errors import NotFoundError

KEY = b"0123456789abcdef-canary"
AT = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Receiver:
    """An HTTP server of this machine that answers what it is told to and keeps what it got."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.got: list[tuple[dict[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                status, headers = receiver.answers.pop(0) if receiver.answers else (204, {})
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Be quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/hook/secret-path"

    def end(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.end()


@pytest.fixture
def write(open_log: Callable[[], DecisionLog]) -> Callable[..., None]:
    def do(*records: Record) -> None:
        async def run() -> None:
            log = open_log()
            await log.append(*records)
            await log.close()

        asyncio.run(run())

    return do


def webhook(url: str, **more: Any) -> Sink:  # noqa: ANN401 # any member of a sink
    target = Webhook(url=url, key=lambda: KEY)
    return Sink(**{"name": "siem", "target": target, "form": FORMATS["jsonl"], "from_start": True, **more})


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "FIRST_WAIT_S", 0.001)


@pytest.fixture
def deliver(folder: Path) -> Iterator[Callable[[Sink], Delivery]]:
    made: list[Delivery] = []

    def to(sink: Sink) -> Delivery:
        target = sink.target
        if isinstance(target, LogFile):
            made.append(Delivery(folder, sink, FileTarget(target), lambda: AT))
        elif isinstance(target, Syslog):
            made.append(Delivery(folder, sink, SyslogTarget(target), lambda: AT))
        else:
            made.append(Delivery(folder, sink, WebhookTarget(sink, target, lambda: AT), lambda: AT))
        return made[-1]

    yield to
    for each in made:
        each._target.close()


def all_of(delivery: Delivery) -> None:
    while delivery.step() == 0.0:
        pass


def seqs(receiver: Receiver) -> list[int]:
    return [json.loads(line)["seq"] for _, body in receiver.got for line in body.splitlines()]


def test_every_record_arrives_signed_and_in_order(
    receiver: Receiver, write: Callable[..., None], record: Callable[..., Record], deliver: Callable[[Sink], Delivery]
) -> None:
    write(*(record() for _ in range(5)))
    all_of(deliver(webhook(receiver.url, batch_rows=2)))
    assert seqs(receiver) == [1, 2, 3, 4, 5]
    for headers, body in receiver.got:
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        wanted = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
        assert headers["webhook-signature"] == f"v1,{wanted}"
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 3


def test_a_restart_goes_on_where_it_was(
    receiver: Receiver, write: Callable[..., None], record: Callable[..., Record], deliver: Callable[[Sink], Delivery]
) -> None:
    write(record(), record())
    all_of(deliver(webhook(receiver.url)))
    write(record())
    all_of(deliver(webhook(receiver.url)))
    assert seqs(receiver) == [1, 2, 3]


def test_a_new_sink_begins_with_what_comes_from_now_on(
    receiver: Receiver, write: Callable[..., None], record: Callable[..., Record], deliver: Callable[[Sink], Delivery]
) -> None:
    write(record(), record())
    to = deliver(webhook(receiver.url, from_start=False))
    all_of(to)
    write(record())
    all_of(to)
    assert seqs(receiver) == [3]


def test_a_refused_batch_is_tried_again_then_put_aside_then_sent_on_request(  # one fixture each
    folder: Path,
    receiver: Receiver,
    write: Callable[..., None],
    decided: Callable[..., Record],
    deliver: Callable[[Sink], Delivery],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "FIRST_WAIT_S", 0.001)
    write(decided(user="alice-the-canary"), decided())
    receiver.answers = [(500, {}), (429, {"retry-after": "7"}), (302, {"location": "http://169.254.169.254/"})]
    to = deliver(webhook(receiver.url, batch_rows=1, attempts=3))
    assert 0 < to.step() < 1
    assert to.step() == 7
    to.step()
    all_of(to)
    place = Place(folder, "siem")
    position = place.read()
    assert position is not None
    assert (position.position, position.sent, position.put_aside) == (2, 1, 1)
    assert position.last_error == "the endpoint answered 302: redirects are not followed"
    kept = b"".join(path.read_bytes() for path in (folder / "sinks").iterdir())
    assert b"canary" not in kept  # numbers, no values: what is erased is in no queue
    assert b"secret-path" not in kept
    place.send_again()
    all_of(to)
    assert seqs(receiver) == [1, 1, 1, 2, 1]
    with pytest.raises(NotFoundError):
        place.send_again()


def test_the_same_records_have_the_same_message_id(
    receiver: Receiver,
    write: Callable[..., None],
    record: Callable[..., Record],
    deliver: Callable[[Sink], Delivery],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "FIRST_WAIT_S", 0.001)
    write(record())
    receiver.answers = [(503, {})]
    to = deliver(webhook(receiver.url))
    to.step()
    all_of(to)
    assert len(receiver.got) == 2
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1


def test_only_what_is_wanted_is_sent_without_what_is_redacted(
    receiver: Receiver, write: Callable[..., None], decided: Callable[..., Record], deliver: Callable[[Sink], Delivery]
) -> None:
    write(decided(risk=10), decided(user="alice", risk=90), decided(risk=20))
    all_of(deliver(webhook(receiver.url, min_risk=50, redacted=frozenset(FIELDS))))
    assert seqs(receiver) == [2]
    assert b"alice" not in receiver.got[0][1]


def test_cloudevents_come_as_one_array(
    receiver: Receiver, write: Callable[..., None], record: Callable[..., Record], deliver: Callable[[Sink], Delivery]
) -> None:
    write(record(), record())
    all_of(deliver(webhook(receiver.url, form=FORMATS["cloudevents"])))
    ((headers, body),) = receiver.got
    assert headers["content-type"] == "application/cloudevents-batch+json"
    assert [each["type"] for each in json.loads(body)] == ["hearthgate.audit.started"] * 2


def test_an_endpoint_whose_certificate_is_not_known_gets_nothing(
    write: Callable[..., None], record: Callable[..., Record], deliver: Callable[[Sink], Delivery], folder: Path
) -> None:
    write(record())
    with socket.create_server(("127.0.0.1", 0)) as plain:
        threading.Thread(target=_refuse_tls, args=(plain,), daemon=True).start()
        deliver(webhook(f"https://127.0.0.1:{plain.getsockname()[1]}/")).step()
    position = Place(folder, "siem").read()
    assert position is not None
    assert (position.sent, position.failures) == (0, 1)


def _refuse_tls(plain: socket.socket) -> None:
    connected, _ = plain.accept()
    connected.recv(100)
    connected.close()


def test_tls_is_verified() -> None:
    target = WebhookTarget(
        webhook("https://x.example/"), Webhook(url="https://x.example/", key=lambda: KEY), lambda: AT
    )
    context = target._client._transport._pool._ssl_context  # type: ignore[attr-defined] # httpx keeps it there
    target.close()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_syslog_over_udp_and_tcp(
    write: Callable[..., None], record: Callable[..., Record], deliver: Callable[[Sink], Delivery], tmp_path: Path
) -> None:
    write(record(plugin_id="notes"), record(details={"long": "x" * 9000}))
    form = FORMATS["syslog"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.create_server(("127.0.0.1", 0)) as tcp:
        udp.bind(("127.0.0.1", 0))
        udp.settimeout(10)
        to = Syslog(transport="udp", host="127.0.0.1", port=udp.getsockname()[1], max_bytes=2048)
        all_of(deliver(Sink(name="udp", target=to, form=form, from_start=True)))
        first, second = udp.recv(65_535), udp.recv(65_535)
        assert first.startswith(b"<110>1 2026-")
        assert first.endswith(b"started notes completed")
        assert len(second) == 2048
        over = Syslog(transport="tcp", host="127.0.0.1", port=tcp.getsockname()[1])
        all_of(deliver(Sink(name="tcp", target=over, form=form, from_start=True)))
        accepted, _ = tcp.accept()
        with accepted, accepted.makefile("rb") as stream:
            for _ in range(2):
                length = int(_until_space(stream))
                assert stream.read(length).startswith(b"<110>1 ")
    path = tmp_path / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as local:
        local.bind(str(path))
        local.settimeout(10)
        unix = Syslog(transport="unix", path=str(path))
        all_of(deliver(Sink(name="unix", target=unix, form=form, from_start=True)))
        assert local.recv(65_535).startswith(b"<110>1 ")


def _until_space(stream: Any) -> bytes:  # noqa: ANN401 # a file
    taken = b""
    while (one := stream.read(1)) != b" ":
        taken += one
    return taken


def test_a_receiver_that_is_away_is_tried_again(
    write: Callable[..., None], record: Callable[..., Record], deliver: Callable[[Sink], Delivery], folder: Path
) -> None:
    write(record())
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    to = Syslog(transport="tcp", host="127.0.0.1", port=port)
    assert deliver(Sink(name="siem", target=to, form=FORMATS["syslog"], from_start=True)).step() > 0
    position = Place(folder, "siem").read()
    assert position is not None
    assert position.last_error is not None
    assert position.position == 0


def test_a_file_grows_to_its_size_and_makes_room(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    target = FileTarget(LogFile(path=path, max_bytes=100, keep=2))
    for number in range(5):
        target.send(Batch(first_seq=number, last_seq=number, messages=[b"%d" % number + b"x" * 60 + b"\n"]))
    assert [path.read_bytes()[:1], *((tmp_path / f"out.jsonl.{n}").read_bytes()[:1] for n in (1, 2))] == [
        b"4",
        b"3",
        b"2",
    ]
    assert not (tmp_path / "out.jsonl.3").exists()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_is_never_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("keep")
    (tmp_path / "out").symlink_to(tmp_path / "victim")
    with pytest.raises(UndeliveredError):
        FileTarget(LogFile(path=tmp_path / "out", max_bytes=100, keep=1)).send(
            Batch(first_seq=1, last_seq=1, messages=[b"x\n"])
        )
    assert (tmp_path / "victim").read_text() == "keep"


@pytest.mark.parametrize("what", ["a pipe", "a link to a large file", "another's file"])
def test_a_file_that_somebody_else_put_there_gets_nothing_and_stays(tmp_path: Path, what: str) -> None:
    path, victim = tmp_path / "out", tmp_path / "victim"
    victim.write_bytes(b"x" * 200)
    if what == "a pipe":
        os.mkfifo(path)
    elif what == "a link to a large file":
        path.symlink_to(victim)
    else:
        if os.geteuid() != 0:
            pytest.skip("only root can make a file another's")
        path.write_bytes(b"")
        os.chown(path, 65534, 65534)
    before = path.lstat()
    with pytest.raises(UndeliveredError):
        FileTarget(LogFile(path=path, max_bytes=100, keep=1)).send(
            Batch(first_seq=1, last_seq=1, messages=[b"x" * 50 + b"\n"])
        )
    assert path.lstat() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["out", "victim"]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "answer",
    [
        (503, {"retry-after": "9" * 5000}),
        (503, {"retry-after": "-1"}),
        (302, {"location": "http://[::1/" + "%" * 9}),
        (204, {"set-cookie": "a" * 5000}),
    ],
    ids=["an endless number", "a negative number", "a place that is none", "a great cookie"],
)
def test_nothing_that_an_endpoint_answers_ends_a_delivery(
    folder: Path,
    receiver: Receiver,
    write: Callable[..., None],
    record: Callable[..., Record],
    deliver: Callable[[Sink], Delivery],
    answer: tuple[int, dict[str, str]],
) -> None:
    write(record(), record())
    receiver.answers = [answer]
    to = deliver(webhook(receiver.url, batch_rows=1, attempts=2))
    assert to.step() <= 300
    all_of(to)
    assert set(seqs(receiver)) == {1, 2}
    position = Place(folder, "siem").read()
    assert position is not None
    assert position.put_aside == 0


def test_a_fault_of_sending_is_told_by_its_kind_and_puts_its_batch_aside(  # one fixture each
    folder: Path,
    receiver: Receiver,
    write: Callable[..., None],
    record: Callable[..., Record],
    deliver: Callable[[Sink], Delivery],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "FIRST_WAIT_S", 0.001)
    write(record(), record())
    to = deliver(webhook(receiver.url, batch_rows=1, attempts=1))

    def break_once(_batch: Batch) -> None:
        monkeypatch.undo()
        raise LookupError("canary words")

    monkeypatch.setattr(to._target, "send", break_once)
    to.step()
    all_of(to)
    position = Place(folder, "siem").read()
    assert position is not None
    assert (position.position, position.put_aside, seqs(receiver)) == (2, 1, [2])
    assert position.last_error == "it cannot be sent (LookupError)"


def test_what_was_dropped_before_it_was_taken_is_counted_and_named(
    folder: Path,
    receiver: Receiver,
    open_log: Callable[[], DecisionLog],
    record: Callable[..., Record],
    deliver: Callable[[Sink], Delivery],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "FIRST_WAIT_S", 0.001)

    async def story(count: int, *, drop: bool) -> None:
        log = open_log()
        await log.append(*(record() for _ in range(count)))
        assert await log.rotate()
        if drop:
            assert await log.drop(
                next(each for each in log.segments if each.kept), record(event_type="segment_dropped")
            )
        await log.close()

    asyncio.run(story(3, drop=False))
    receiver.answers = [(500, {})]
    to = deliver(webhook(receiver.url, batch_rows=2, attempts=1))
    to.step()
    asyncio.run(story(2, drop=True))
    all_of(to)
    place = Place(folder, "siem")
    position = place.read()
    assert position is not None
    assert (position.put_aside, position.missed) == (2, 1)
    assert position.last_error == "records 3 to 3 were dropped from the log before this sink took them"
    place.send_again()
    all_of(to)
    position = place.read()
    assert position is not None
    assert (position.missed, position.position) == (3, 6)
    assert position.last_error == "records 1 to 2 were dropped from the log before this sink took them"
    assert seqs(receiver) == [1, 2, 4, 5, 6]
