"""TLS: an address that others reach has it or is behind a proxy; handshakes are bounded; certificates are renewed."""

import asyncio
import contextlib
import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.errors import ConfigError
from gateway.http import tls
from gateway.http.server import Listeners
from gateway.http.tls import Certificate
from tests.app.served import Gateway, until

if TYPE_CHECKING:
    from tests.conftest import MakeHome


def make_certificate(folder: Path, name: str = "localhost") -> Certificate:
    """Write a self-signed certificate; clients trust it by its own file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    found = Certificate(chain=folder / "cert.pem", key=folder / "key.pem")
    found.chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    found.key.touch(0o600)
    found.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return found


async def application(scope: Any, _receive: Any, send: Any) -> None:  # noqa: ANN401 (ASGI)
    body = scope["scheme"].encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def serving(certificate: Certificate) -> AsyncIterator[int]:
    listeners = Listeners(application, grace_s=1.0)
    _, port = listeners.listen_tcp("127.0.0.1", 0, certificate)
    await listeners.start()
    try:
        yield port
    finally:
        await listeners.stop()


async def get(port: int, trusted: ssl.SSLContext) -> tuple[str, bytes]:
    """Ask, and give the answer's body and the certificate."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusted, server_hostname="localhost")
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    with contextlib.suppress(OSError, ssl.SSLError):
        await writer.wait_closed()
    return answer.rpartition(b"\r\n\r\n")[2].decode(), shown


def trusting(certificate: Certificate) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate.chain))


def test_what_is_asked_by_tls_is_known_to_be(tmp_path: Path) -> None:
    async def ask() -> None:
        certificate = make_certificate(tmp_path)
        async with serving(certificate) as port:
            assert (await get(port, trusting(certificate)))[0] == "https"
            with pytest.raises(ssl.SSLError):
                await get(port, ssl.create_default_context())

    asyncio.run(ask())


def test_an_old_protocol_and_plain_words_are_refused(tmp_path: Path) -> None:
    async def ask() -> None:
        certificate = make_certificate(tmp_path)
        async with serving(certificate) as port:
            old = trusting(certificate)
            old.set_ciphers("DEFAULT:@SECLEVEL=0")
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await get(port, old)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                assert b"200" not in await reader.read()
            writer.close()
            assert (await get(port, trusting(certificate)))[0] == "https"

    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        asyncio.run(ask())


def test_who_never_ends_a_handshake_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "_MOST_SHAKING", 4)
    monkeypatch.setattr(tls, "_HANDSHAKE_S", 0.5)

    async def attack() -> None:
        certificate = make_certificate(tmp_path)
        async with serving(certificate) as port:
            silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
            for _ in range(3):
                assert (await get(port, trusting(certificate)))[0] == "https"
            async with asyncio.timeout(10):
                for reader, writer in silent:
                    with contextlib.suppress(ConnectionError):
                        assert await reader.read() == b""
                    writer.close()

    asyncio.run(attack())


def test_a_renewed_certificate_is_taken_over_and_a_broken_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tls, "_LOOK_AGAIN_S", 0.0)

    async def ask() -> None:
        certificate = make_certificate(tmp_path)
        async with serving(certificate) as port:
            old = trusting(certificate)
            _, first = await get(port, old)
            certificate.chain.write_text("no certificate")
            assert (await get(port, old))[1] == first
            assert "stays" in caplog.text
            make_certificate(tmp_path)
            _, second = await get(port, trusting(certificate))
            assert second != first

    asyncio.run(ask())


@pytest.mark.parametrize("broken", ["chain", "key", "mode", "other"])
def test_what_is_no_certificate_is_told_at_the_start(tmp_path: Path, broken: str) -> None:
    certificate = make_certificate(tmp_path)
    match broken:
        case "chain":
            certificate.chain.unlink()
        case "key":
            certificate.key.write_text("x")
        case "mode":
            certificate.key.chmod(0o604)
        case _:
            (tmp_path / "other").mkdir()
            certificate = Certificate(chain=certificate.chain, key=make_certificate(tmp_path / "other").key)
    with pytest.raises(ConfigError, match="pem"):
        certificate.context()


def test_a_gateway_that_others_reach_is_served_by_tls(make_home: "MakeHome") -> None:
    home = make_home()
    home.close()
    certificate = make_certificate(home.folder)
    settings = home.folder / "hearthgate.toml"
    settings.write_text('[http]\ntls_cert = "cert.pem"\ntls_key = "key.pem"\nlisten = "0.0.0.0:0"\n')
    served = Gateway(home.folder, listen=None)
    try:
        key = served.key("alice", "evaluate")
        headers = {"authorization": f"Bearer {key}"}
        question = {"subject": "user:alice", "permission": "vault_read", "scope": "notes"}
        base = f"https://localhost:{served.port}"
        with httpx.Client(base_url=base, verify=trusting(certificate), headers=headers) as client:
            assert client.post("/v1/decisions", json=question).status_code == 200
            metadata = client.get("/.well-known/authzen-configuration").json()
            assert metadata["policy_decision_point"] == base
            assert client.get("/healthz", headers={"host": "elsewhere.example"}).status_code == 421
        served.process.terminate()
        until(lambda: served.process.poll() is not None)
        assert served.process.returncode == 0, served.said
    finally:
        served.end()
