"""A small internet on loopback: names, a CA of its own, an HTTP and an HTTPS server; and a plugin that goes there."""

import datetime as dt
import ipaddress
import shutil
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from tests.conftest import Home, MakeHome

VENDORED = ("requests", "urllib3", "idna", "certifi", "charset_normalizer", "httpx", "httpcore", "h11", "anyio")
VENDORED_FILES = ("typing_extensions.py",)
LIFE = dt.timedelta(days=2)
TRAVELLER = (Path(__file__).parents[1] / "testdata" / "egress" / "traveller.py").read_text()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    scheme = "http"
    world: "Internet"

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that leave."""


@dataclass
class Internet:
    """What stands outside: names with their addresses, and servers that tell what they were asked."""

    folder: Path
    ca: Path
    names: dict[str, list[list[str]]] = field(default_factory=dict)  # the answers in turn; the last one stays
    asked: list[str] = field(default_factory=list)
    looked_up: list[str] = field(default_factory=list)
    http: int = 0
    https: int = 0
    echo: int = 0
    silent: int = 0
    echoed: list[bytes] = field(default_factory=list)
    echoes: list[socket.socket] = field(default_factory=list)

    @property
    def doors(self) -> tuple[tuple[str, int], ...]:
        """Give the schemes and ports of the web servers."""
        return ("http", self.http), ("https", self.https)

    async def resolve(self, host: str, _port: int) -> Sequence[str]:
        """Answer as a name server would."""
        self.looked_up.append(host)
        answers = self.names.get(host)
        if not answers:
            raise OSError("no such name")
        return answers.pop(0) if len(answers) > 1 else answers[0]


class _Answers(BaseHTTPRequestHandler):
    """Tells what it was asked; `/to/URL` sends on; `/headers`, `/feed` and `/large/N` give what they say."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (the function that http.server calls for any method)
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)

    def _answer(self) -> None:
        body = self._body()
        self.server.world.asked.append(f"{self.server.scheme} {self.command} {self.path} {body}".strip())
        headers, told = {"Connection": "close, X-Private", "X-Private": "of this connection"}, b""
        status = 200
        if self.path.startswith("/to/"):
            status, headers["Location"] = 302, self.path.removeprefix("/to/")
        elif self.path.startswith("/headers"):
            told = "\n".join(f"{name.lower()}: {value}" for name, value in self.headers.items()).encode()
        elif self.path.startswith("/feed"):
            told = b'{"items": [{"title": "rain"}, {"title": "sun"}, {"title": "snow"}]}'
        elif self.path.startswith("/large/"):
            told = b"x" * int(self.path.rsplit("/", 1)[1])
        else:
            told = f"{self.command} {self.path} {body}".strip().encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(told))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(told)
        self.close_connection = True

    def _body(self) -> str:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        return body.decode()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def certificates(folder: Path) -> tuple[Path, Path]:
    """Make a CA and a server's certificate with its key for `*.test`."""
    now = dt.datetime.now(dt.UTC)
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a CA of the tests")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "good.test")])
    alternatives = [x509.DNSName("good.test"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]

    def base(subject: x509.Name, public: Any) -> x509.CertificateBuilder:  # noqa: ANN401 (one of many key classes)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - LIFE)
            .not_valid_after(now + LIFE)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        )

    ca = base(ca_name, ca_key.public_key()).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    signed_ca = ca.add_extension(usage, critical=True).sign(ca_key, hashes.SHA256())
    leaf = base(name, key.public_key()).add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    signed = leaf.sign(ca_key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(signed_ca.public_bytes(pem))
    (folder / "server.pem").write_bytes(
        signed.public_bytes(pem)
        + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "ca.pem", folder / "server.pem"


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return certificates(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def internet(tmp_path: Path, pki: tuple[Path, Path]) -> Iterator[Internet]:
    ca, server_pem = pki
    world = Internet(folder=tmp_path, ca=ca)

    plain, secure = (_Server(("127.0.0.1", 0), _Answers) for _ in range(2))
    plain.world = secure.world = world
    secure.scheme = "https"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server_pem)
    secure.socket = context.wrap_socket(secure.socket, server_side=True, do_handshake_on_connect=False)
    echo = socket.create_server(("127.0.0.1", 0))
    echo.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
    world.http, world.https, world.echo = plain.server_port, secure.server_port, echo.getsockname()[1]
    threads = [threading.Thread(target=each.serve_forever, args=(0.01,)) for each in (plain, secure)]
    threads.append(threading.Thread(target=_echo, args=(echo, world)))
    for thread in threads:
        thread.start()
    yield world
    for server in (plain, secure):
        server.shutdown()
        server.server_close()
    echo.shutdown(socket.SHUT_RDWR)
    echo.close()
    for each in world.echoes:
        each.close()
    for thread in threads:
        thread.join(10)


def _echo(server: socket.socket, world: Internet) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        world.echoes.append(connection)
        threading.Thread(target=_speak, args=(connection, world), daemon=True).start()


def _speak(connection: socket.socket, world: Internet) -> None:
    try:
        while data := connection.recv(100):
            world.echoed.append(data)
            if data == b"held":
                return  # and take nothing more
            connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def rules_for(world: Internet, plugin: str = "puppet") -> str:
    """Let a plugin reach every server of the small internet, by the name it is allowed under."""
    ports = (world.http, world.https, world.echo)
    return "".join(
        f"p, {plugin}-{host.partition('.')[0]}-{port}, plugin:{plugin}, network, write, {host}:{port}, -, allow, test\n"
        for port in ports
        for host in ("good.test", "127.0.0.1")
    )


def vendor(folder: Path, ca: Path) -> None:
    """Put the clients, as they are, beside a plugin's code."""
    site = Path(requests.__file__).parents[1]
    for name in VENDORED:
        shutil.copytree(
            site / name,
            folder / name,
            ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.pyi", "_backends", "cli"),
        )
    shutil.copytree(site / "anyio" / "_backends", folder / "anyio" / "_backends", dirs_exist_ok=True)
    shutil.copytree(site / "httpcore" / "_backends", folder / "httpcore" / "_backends", dirs_exist_ok=True)
    for cached in folder.rglob("__pycache__"):
        shutil.rmtree(cached)
    for file in VENDORED_FILES:
        shutil.copy(site / file, folder / file)
    shutil.copy(ca, folder / "ca.pem")


@pytest.fixture
def travel(make_home: "MakeHome", internet: Internet) -> "Callable[..., Home]":
    """Make a home whose plugin `puppet` travels; its names are those of the small internet."""

    def make(
        rules: str | None = None, *, settings: str = "", wants: tuple[str, ...] = (), clients: bool = False
    ) -> "Home":
        home = make_home(rules=rules_for(internet) if rules is None else rules, settings=settings)
        object.__setattr__(home.parts.resources.network, "_resolve", internet.resolve)
        internet.names.setdefault("good.test", [["127.0.0.1"]])
        folder = home.folder / "plugins" / "puppet"
        folder.mkdir()
        shutil.copy(internet.ca, folder / "ca.pem")
        if clients:
            vendor(folder, internet.ca)
        home.install("puppet", TRAVELLER, wants=wants)
        return home

    return make
