"""A cell's one way out: a door on its own loopback that whoever ordered the cell listens at."""
# ruff: noqa: ANN401  # the fixture's class lies in conftest, which tests do not import

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox import frames, relay
from sandbox.errors import SandboxError
from sandbox.launcher import Cell, Launcher
from sandbox.spec import Limits, Spec

PATIENCE_S = 20.0
SPEAK = """
import os, socket

def speak(ctx, word):
    with socket.create_connection(("127.0.0.1", 3128), 5) as connection:
        connection.sendall(word.encode())
        return connection.recv(100).decode()

def environment(ctx):
    return dict(os.environ)

def read(ctx, path):
    with open(path) as file:
        return file.read()

def flood(ctx, count):
    kept, refused = [], 0
    for number in range(count):
        connection = socket.socket()
        connection.setblocking(False)
        connection.connect_ex(("127.0.0.1", 3128))
        kept.append(connection)
        if number % 3 == 0:
            try:
                connection.shutdown(socket.SHUT_WR)
            except OSError:
                refused += 1
    if os.fork() == 0:
        os.setsid()
        os._exit(0)
    return len(kept)
"""


@pytest.fixture
def answering() -> Iterator[Callable[[Cell, str], None]]:
    """Have a name and what was said answered at a cell's door."""
    stack = contextlib.ExitStack()

    def answer(cell: Cell, name: str) -> None:
        door = cell.door
        assert door is not None

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = door.accept()
                    with connection:
                        connection.sendall(f"{name} heard {connection.recv(100).decode()}".encode())

        thread = threading.Thread(target=serve)
        thread.start()
        stack.callback(thread.join, PATIENCE_S)

    with stack:
        yield answer


def _end(door: socket.socket) -> None:
    """Wake who waits at a door."""
    with contextlib.suppress(OSError):
        door.shutdown(socket.SHUT_RDWR)


def call(cell: Cell, function: str, **kwargs: object) -> Any:
    frames.write_frame(cell.channel, {"t": "call", "function": function, "kwargs": kwargs})
    cell.channel.settimeout(PATIENCE_S)
    told = frames.read_frame(cell.channel)
    assert told is not None
    assert told[0]["t"] == "result", told
    return told[0]["value"]


def test_what_is_connected_to_the_door_is_taken_by_who_ordered_the_cell(
    launcher: Launcher, spec_of: Callable[..., Spec], answering: Callable[[Cell, str], None]
) -> None:
    with launcher.spawn(spec_of(SPEAK, relay=True)) as one, launcher.spawn(spec_of(SPEAK, relay=True)) as other:
        answering(one, "one")
        answering(other, "other")
        assert call(other, "speak", word="hello") == "other heard hello"
        assert call(one, "speak", word="good day") == "one heard good day"
        for cell in (one, other):
            assert cell.door is not None
            _end(cell.door)


def test_the_environment_names_the_door_and_nothing_else(
    launcher: Launcher, spec_of: Callable[..., Spec], tmp_path: Path
) -> None:
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:3128")
    with launcher.spawn(spec_of(SPEAK, relay=True)) as cell:
        assert call(cell, "environment") == proxies
    trust = tmp_path / "trusted.pem"
    trust.write_text("somebody")
    with launcher.spawn(spec_of(SPEAK, relay=True, certificates=str(trust))) as cell:
        told = call(cell, "environment")
        assert told == {**proxies, "SSL_CERT_FILE": relay.CERTIFICATES}
    with launcher.spawn(spec_of(SPEAK, relay=True, certificates=str(trust))) as cell:
        assert call(cell, "read", path=relay.CERTIFICATES) == "somebody"
    with launcher.spawn(spec_of(SPEAK)) as cell:
        assert call(cell, "environment") == {}
        assert cell.door is None


def test_a_flood_at_the_door_keeps_the_init_from_nothing(launcher: Launcher, spec_of: Callable[..., Spec]) -> None:
    with launcher.spawn(spec_of(SPEAK, relay=True, limits=Limits(open_files=200))) as cell:
        assert call(cell, "flood", count=150) == 150
        ending = cell.wait(PATIENCE_S)
    assert (ending.exit, ending.signal, ending.timed_out) == (0, None, False)


def test_nobody_is_behind_the_door_of_a_cell_that_is_gone(launcher: Launcher, spec_of: Callable[..., Spec]) -> None:
    with launcher.spawn(spec_of(SPEAK, relay=True)) as cell:
        assert call(cell, "environment")
        cell.wait(PATIENCE_S)
        assert cell.door is not None
        assert cell.door.fileno() == -1


def test_a_stream_without_a_door_is_an_error() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with pytest.raises(SandboxError, match="relay"):
            relay.receive(ours)
        theirs.sendall(b"d")
        with pytest.raises(SandboxError, match="nothing was handed over"):
            relay.receive(ours)


@pytest.fixture
def greeting() -> Iterator[int]:
    """Give the port of a server of the host that greets."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.sendall(b"come in")

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(PATIENCE_S)


@pytest.mark.parametrize(
    ("deed", "held_by"),
    [
        ("connect", r"Errno (13|111)\]"),  # Landlock, or nobody there: the network is the cell's own
        ("connect_without_a_call", r"Errno 1\]"),
        ("connect_mapped", r"Errno 97\]"),
        ("send_datagram", r"Errno 97\]"),
        ("listen", r"Errno 1\]"),
        ("raw_socket", r"Errno 97\]"),
        ("packet_socket", r"Errno 97\]"),
        ("netlink_socket", r"Errno 97\]"),
        ("connect_unix", r"Errno 97\]"),
        ("look_up_name", r"gaierror"),
    ],
)
def test_a_door_lets_nowhere_else(host: Any, greeting: int, deed: str, held_by: str) -> None:
    given: dict[str, object] = {}
    if deed.startswith(("connect", "send")) and deed != "connect_unix":
        given = {"port": greeting}
    if deed in {"connect", "connect_without_a_call", "send_datagram"}:
        given["host"] = "127.0.0.1"
    if deed == "connect_unix":
        given = {"path": "/run/any.sock"}
    inside = host.call("attempt", deed=deed, spec={"relay": True}, **given)["frame"]["value"]
    assert not inside["done"], inside
    assert re.search(held_by, inside["by"]), inside
    if deed != "connect_unix":  # its twin has a socket to reach in test_attacks
        privileged = deed in {"raw_socket", "packet_socket"}
        assert host.twin(deed, privileged=privileged, **given)["done"]
