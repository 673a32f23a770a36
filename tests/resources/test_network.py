import asyncio
import gc
import gzip
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Never

import httpcore
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.errors import DeniedError, MalformedError, OverloadedError, TooLargeError, UnavailableError
from gateway.resources import network as network_module
from gateway.resources.dial import PinnedDialler
from gateway.resources.network import HttpReply, HttpRequest, Network, Resolve
from gateway.resources.url import parse_url

Serve = Callable[..., AbstractContextManager[Any]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Seen: 1\r\nX-Seen: 2\r\n\r\nhi"


def resolving(*rounds: Sequence[str]) -> Resolve:
    """Make a resolver that answers each lookup with the next of `rounds`, the last one for ever."""
    left = list(rounds)

    async def resolve(_host: str, _port: int) -> Sequence[str]:
        await asyncio.sleep(0)
        return left.pop(0) if len(left) > 1 else left[0]

    return resolve


TO_LOOPBACK = resolving(["127.0.0.1"])


def send(  # noqa: PLR0913 (each test names what it is about)
    network: Network,
    url: str,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    *,
    private_ok: bool = True,
    timeout_s: float = 30.0,
    max_bytes: int = 8 << 20,
) -> HttpReply:
    request = HttpRequest(method=method, url=parse_url(url), headers=headers or {}, body=body)
    return asyncio.run(network.request(request, private_ok=private_ok, timeout_s=timeout_s, max_bytes=max_bytes))


def test_a_request_arrives_and_its_answer_comes_back(serve: Serve) -> None:
    with serve(OK) as upstream:
        reply = send(
            Network(resolve=TO_LOOPBACK),
            f"http://api.weather.test:{upstream.port}/v1?city=Z%C3%BCrich",
            "POST",
            {"X-Key": " value ", "Accept": "text/plain"},
            b"body",
        )
    assert reply == HttpReply(
        status=200, headers=(("content-length", "2"), ("x-seen", "1"), ("x-seen", "2")), body=b"hi"
    )
    head, _, body = bytes(upstream.received).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /v1?city=Z%C3%BCrich HTTP/1.1"
    assert sorted(line.lower() for line in lines[1:]) == [
        "accept-encoding: identity",
        "accept: text/plain",
        "connection: close",
        "content-length: 4",
        f"host: api.weather.test:{upstream.port}",
        "x-key: value",
    ]
    assert body == b"body"


def test_nothing_of_the_environment_is_heeded(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(OK) as upstream, serve(OK) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert send(Network(resolve=TO_LOOPBACK), f"http://a.test:{upstream.port}/").status == 200
        assert proxy.connections == 0


def test_a_redirect_is_an_answer_and_is_not_followed(serve: Serve) -> None:
    with serve(OK) as target:
        redirect = f"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{target.port}/\r\nContent-Length: 0\r\n\r\n"
        with serve(redirect.encode()) as upstream:
            reply = send(Network(resolve=TO_LOOPBACK), f"http://a.test:{upstream.port}/")
        assert (reply.status, dict(reply.headers)["location"]) == (302, f"http://127.0.0.1:{target.port}/")
        assert target.connections == 0


@pytest.mark.parametrize(
    "answers",
    [
        ["127.0.0.1"],
        ["8.8.8.8", "127.0.0.1"],
        ["8.8.8.8", "10.0.0.1"],
        ["::1"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::127.0.0.1"],
        ["2002:7f00:1::"],
        ["169.254.1.1"],
        ["fe80::1%1"],
        ["0.0.0.0"],  # noqa: S104 (as a target)
    ],
)
def test_one_address_that_is_not_public_is_enough_to_dial_nothing(serve: Serve, answers: list[str]) -> None:
    with serve(OK) as upstream:
        with pytest.raises(DeniedError):
            send(Network(resolve=resolving(answers)), f"http://a.test:{upstream.port}/", private_ok=False)
        assert upstream.connections == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::ffff:7f00:1]", "127.8.8.8"])
def test_a_private_address_written_out_needs_the_same_leave(serve: Serve, host: str) -> None:
    with serve(OK) as upstream:
        with pytest.raises(DeniedError, match="literally"):
            send(Network(), f"http://{host}:{upstream.port}/", private_ok=False)
        assert upstream.connections == 0


@pytest.mark.parametrize(
    "answers",
    [["169.254.169.254"], ["::ffff:169.254.169.254"], ["127.0.0.1", "169.254.169.254"], ["168.63.129.16"], ["::"]],
)
@pytest.mark.parametrize("private_ok", [True, False])
def test_metadata_is_out_of_reach_whatever_a_rule_says(serve: Serve, answers: list[str], *, private_ok: bool) -> None:
    with serve(OK) as upstream:
        with pytest.raises(DeniedError):
            send(Network(resolve=resolving(answers)), f"http://a.test:{upstream.port}/", private_ok=private_ok)
        assert upstream.connections == 0


@pytest.mark.parametrize("host", ["a.test", "127.0.0.1", "127.0.0.2", "[::ffff:127.0.0.1]"])
def test_the_gateway_itself_is_out_of_reach_whatever_a_rule_says(serve: Serve, host: str) -> None:
    with serve(OK) as gateway:
        with pytest.raises(DeniedError):
            send(Network(resolve=TO_LOOPBACK, own_ports=lambda: {gateway.port}), f"http://{host}:{gateway.port}/")
        assert gateway.connections == 0


def test_a_name_that_changes_its_mind_is_asked_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lookups: list[str] = []
    dialled: list[str] = []

    async def rebinding(host: str, _port: int) -> Sequence[str]:
        await asyncio.sleep(0)
        lookups.append(host)
        return ["8.8.8.8" if len(lookups) == 1 else "127.0.0.1"]

    async def dial_nowhere(_self: object, address: str, *_: object) -> Never:
        await asyncio.sleep(0)
        dialled.append(address)
        raise httpcore.ConnectError("the test sends nothing out of this machine")

    monkeypatch.setattr(PinnedDialler, "_dial", dial_nowhere)
    with pytest.raises(UnavailableError, match="cannot be connected to"):
        send(Network(resolve=rebinding), "http://rebind.test/", private_ok=False)
    assert (lookups, dialled) == (["rebind.test"], ["8.8.8.8"])
    # The twin: whoever asks a second time is led to the loopback address.
    assert asyncio.run(rebinding("rebind.test", 0)) == ["127.0.0.1"]


def test_the_next_address_is_tried_when_one_does_not_answer(serve: Serve) -> None:
    with serve(OK) as upstream:
        network = Network(resolve=resolving(["127.0.0.9", "127.0.0.1"]))
        assert send(network, f"http://a.test:{upstream.port}/").body == b"hi"


def test_nothing_is_sent_twice(serve: Serve) -> None:
    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()
        await asyncio.sleep(0)

    with serve(hang_up) as upstream:
        network = Network(resolve=resolving(["127.0.0.1", "127.0.0.1", "::ffff:127.0.0.1"]))
        with pytest.raises(UnavailableError, match="may have been carried out"):
            send(network, f"http://a.test:{upstream.port}/", "POST", body=b"x")
        assert upstream.connections == 1


async def drip(writer: asyncio.StreamWriter, beginning: bytes, drop: bytes) -> None:
    writer.write(beginning)
    while not writer.is_closing():
        writer.write(drop)
        await writer.drain()
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("beginning", "drop"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"", b""),
    ],
    ids=["headers", "body", "chunks", "informational", "silence"],
)
def test_a_server_that_drips_is_left_at_the_deadline(serve: Serve, beginning: bytes, drop: bytes) -> None:
    async def slowly(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await drip(writer, beginning, drop)

    with serve(slowly) as upstream:
        began = time.monotonic()
        with pytest.raises(UnavailableError, match=r"within 0\.3 s"):
            send(Network(resolve=TO_LOOPBACK), f"http://a.test:{upstream.port}/", timeout_s=0.3)
        assert time.monotonic() - began < 10


def test_a_resolver_that_hangs_is_left_at_the_deadline() -> None:
    async def hang(_host: str, _port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    with pytest.raises(UnavailableError, match="within"):
        send(Network(resolve=hang), "http://a.test/", timeout_s=0.1)


@pytest.mark.parametrize(
    ("answer", "fits"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 100, True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100, True),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 101, False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 101 + b"0\r\n\r\n", False),
        (b"HTTP/1.1 500 No\r\nContent-Length: 99999999999\r\n\r\n", False),
    ],
)
def test_an_answer_is_read_up_to_its_cap(serve: Serve, answer: bytes, *, fits: bool) -> None:
    with serve(answer) as upstream:
        url = f"http://a.test:{upstream.port}/"
        if fits:
            assert send(Network(resolve=TO_LOOPBACK), url, max_bytes=100).body == b"x" * 100
        else:
            with pytest.raises(TooLargeError):
                send(Network(resolve=TO_LOOPBACK), url, max_bytes=100)


def test_an_endless_answer_is_cut_at_the_cap(serve: Serve) -> None:
    async def endlessly(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x" * 65536)
            await writer.drain()

    with serve(endlessly) as upstream, pytest.raises(TooLargeError):
        send(Network(resolve=TO_LOOPBACK), f"http://a.test:{upstream.port}/", max_bytes=1 << 20)


def test_endless_headers_are_cut(serve: Serve) -> None:
    async def endlessly(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while not writer.is_closing():
            writer.write(b"X-A: b\r\n" * 1000)
            await writer.drain()

    with serve(endlessly) as upstream, pytest.raises(UnavailableError, match="broke off"):
        send(Network(resolve=TO_LOOPBACK), f"http://a.test:{upstream.port}/")


def test_what_was_packed_is_handed_on_packed(serve: Serve) -> None:
    bomb = gzip.compress(b"\0" * (64 << 20))
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n"
    with serve(head.encode() + bomb) as upstream:
        reply = send(Network(resolve=TO_LOOPBACK), f"http://a.test:{upstream.port}/", max_bytes=len(bomb))
    assert reply.body == bomb
    assert ("content-encoding", "gzip") in reply.headers


def test_a_head_request_is_told_a_length_and_given_no_body(serve: Serve) -> None:
    with serve(b"HTTP/1.1 200 OK\r\nContent-Length: 5000000000\r\n\r\n") as upstream:
        reply = send(Network(resolve=TO_LOOPBACK), f"http://a.test:{upstream.port}/", "HEAD")
    assert reply.body == b""
    assert dict(reply.headers)["content-length"] == "5000000000"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-A", "b\r\nHost: evil.test"),
        ("X-A", "b\nEvil: 1"),
        ("X-A", "b\0"),
        ("X-A", "\u010aEvil"),
        ("X-A\r\nEvil", "b"),
        ("X A", "b"),
        ("", "b"),
        ("X-A:", "b"),
        ("Host", "evil.test"),
        ("hOsT", "evil.test"),
        ("Content-Length", "0"),
        ("Content_Length", "0"),
        ("Transfer-Encoding", "chunked"),
        ("Connection", "x-key"),
        ("Upgrade", "websocket"),
        ("TE", "trailers"),
        ("Expect", "100-continue"),
        ("Proxy-Authorization", "x"),
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-HTTP-Method-Override", "DELETE"),
    ],
)
def test_a_header_that_is_not_a_plugins_is_refused_and_nothing_is_sent(serve: Serve, name: str, value: str) -> None:
    with serve(OK) as upstream:
        with pytest.raises(MalformedError):
            send(Network(resolve=TO_LOOPBACK), f"http://a.test:{upstream.port}/", headers={name: value})
        assert upstream.connections == 0


@pytest.mark.parametrize("headers", [{f"x-{n}": "" for n in range(101)}, {"x-a": "b" * 40_000}])
def test_headers_are_not_endless(headers: dict[str, str]) -> None:
    with pytest.raises(TooLargeError):
        send(Network(), "http://a.test/", headers=headers)


@pytest.mark.parametrize("method", ["get", "CONNECT", "TRACE", "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET", "", "BREW"])
def test_a_method_that_is_not_a_plugins_is_refused(method: str) -> None:
    with pytest.raises(MalformedError):
        send(Network(), "http://a.test/", method)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_read_carries_no_body(method: str) -> None:
    with pytest.raises(MalformedError, match="with a body"):
        send(Network(), "http://a.test/", method, body=b"x")


@pytest.mark.parametrize("answers", [OSError("no such host"), UnicodeError("odd"), [], ["not an address"]], ids=str)
def test_a_name_without_address_is_told(answers: Exception | list[str]) -> None:
    async def resolve(_host: str, _port: int) -> Sequence[str]:
        await asyncio.sleep(0)
        if isinstance(answers, Exception):
            raise answers
        return answers

    with pytest.raises(UnavailableError, match=r"a\.test"):
        send(Network(resolve=resolve), "http://a.test/")


def test_the_systems_resolver_knows_the_loopback_name(serve: Serve) -> None:
    with serve(OK) as upstream:
        with pytest.raises(DeniedError):
            send(Network(), f"http://localhost:{upstream.port}/", private_ok=False)
        assert send(Network(), f"http://localhost:{upstream.port}/").status == 200


@pytest.mark.parametrize(
    "answer", [b"", b"\0\1\2\3", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"]
)
def test_an_answer_that_is_no_http_is_told(serve: Serve, answer: bytes) -> None:
    with serve(answer) as upstream, pytest.raises(UnavailableError, match="broke off"):
        send(Network(resolve=TO_LOOPBACK), f"http://a.test:{upstream.port}/")


def test_too_many_requests_at_once_are_refused_and_leave_no_trace(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_module, "MAX_IN_FLIGHT", 2)

    async def silence(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def crowd(port: int) -> list[BaseException | HttpReply]:
        network = Network(resolve=TO_LOOPBACK)
        request = HttpRequest(method="GET", url=parse_url(f"http://a.test:{port}/"))
        first = await asyncio.gather(
            *(network.request(request, private_ok=True, timeout_s=0.3) for _ in range(3)), return_exceptions=True
        )
        again = await asyncio.gather(network.request(request, private_ok=True, timeout_s=0.3), return_exceptions=True)
        return [*first, *again]

    with serve(silence) as upstream:
        kinds = [type(each) for each in asyncio.run(crowd(upstream.port))]
    assert sorted(kind.__name__ for kind in kinds[:3]) == [
        "OverloadedError",
        "UnavailableError",
        "UnavailableError",
    ]
    assert kinds[3] is UnavailableError
    assert OverloadedError in kinds


@pytest.fixture
def certificates(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Give a server's context with a certificate for api.good.test, and a client's that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "api.good.test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("api.good.test")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "server.pem"
    pem.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    return server, ssl.create_default_context(cafile=pem)


def test_a_certificate_is_checked_against_the_name_and_not_the_address(
    serve: Serve, certificates: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    server, client = certificates
    asked: list[str | None] = []
    server.sni_callback = lambda _socket, name, _context: asked.append(name)
    with serve(OK, server) as upstream:
        network = Network(resolve=TO_LOOPBACK, ssl_context=client)
        assert send(network, f"https://api.good.test:{upstream.port}/").body == b"hi"
        for url, trusting in (
            (f"https://api.evil.test:{upstream.port}/", network),
            (f"https://127.0.0.1:{upstream.port}/", network),
            (f"https://api.good.test:{upstream.port}/", Network(resolve=TO_LOOPBACK)),
        ):
            with pytest.raises(UnavailableError, match=r"(?i)certificate"):
                send(trusting, url)
        assert bytes(upstream.received).count(b"GET ") == 1
    assert asked[:2] == ["api.good.test", "api.evil.test"]


def test_a_tls_server_that_never_shakes_hands_is_left_at_the_deadline(serve: Serve) -> None:
    async def silence(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    with serve(silence) as upstream, pytest.raises(UnavailableError):
        send(Network(resolve=TO_LOOPBACK), f"https://a.test:{upstream.port}/", timeout_s=0.3)
    gc.collect()  # a connection left open is a warning here, and so an error
