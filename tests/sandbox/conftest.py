"""What every test of the sandbox starts from: cells run by root and by an ordinary user, and plain twins."""
# ruff: noqa: ANN401, S105  # answers are JSON; the secrets are made up

import contextlib
import ctypes
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import sandbox
from sandbox.launcher import Launcher
from sandbox.spec import Limits, Spec

TESTDATA = Path(__file__).parent.parent / "testdata" / "sandbox"
NOBODY = 65534
SYSTEM_PYTHON = "/usr/bin/python3"
SECRET_IN_ENVIRONMENT = "hearth-secret-31337"
SECRET_IN_FILE_AND_MEMORY = "hoarded-secret-73313"
CELL_UID = 0x6000_0123
PATIENCE_S = 20.0


class Host:
    """A process of some user that runs cells, and the twins of that user."""

    def __init__(self, uid: int, interpreter: str, folder: Path) -> None:
        self.uid = uid
        self.interpreter = interpreter
        self.folder = folder
        self.secret = SECRET_IN_FILE_AND_MEMORY
        secret = folder / "secret.txt"
        secret.write_text(self.secret)
        self.secret_file = str(secret)
        self.code = self.deeds()
        copy = folder / "lib"
        shutil.copytree(Path(sandbox.__file__).parent, copy / "sandbox", ignore=shutil.ignore_patterns("__pycache__"))
        self._process = self._popen(
            [str(shutil.copy(TESTDATA / "driver.py", folder)), str(copy), self.secret_file], stdin=subprocess.PIPE
        )
        self.started = self._read()

    def snapshot(self, text: str, name: str = "main.py") -> str:
        """Keep a plugin's code as the gateway keeps it."""
        code = Path(tempfile.mkdtemp(prefix="code-", dir=self.folder))
        code.chmod(0o755)
        (code / name).write_text(text)
        (code / name).chmod(0o644)
        os.chown(code, self.uid, self.uid)
        os.chown(code / name, self.uid, self.uid)
        return str(code)

    def deeds(self) -> str:
        """Keep the code of all deeds."""
        code = self.snapshot(TESTDATA.joinpath("deeds.py").read_text())
        for name in ("kernel_deeds.py", "outward_deeds.py"):
            copy = Path(shutil.copy(TESTDATA / name, code))
            copy.chmod(0o644)
            os.chown(copy, self.uid, self.uid)
        return code

    def scratch(self) -> str:
        """Make a folder that a twin may write in."""
        path = tempfile.mkdtemp(prefix="scratch-", dir=self.folder)
        os.chown(path, self.uid, self.uid)
        return path

    def call(
        self,
        function: str,
        *,
        code: str | None = None,
        spec: dict[str, Any] | None = None,
        without: str | None = None,
        patience_s: float = PATIENCE_S,
        **kwargs: object,
    ) -> dict[str, Any]:
        """Call a function of a plugin in a fresh cell; `without` one of the layers of without.py."""
        if without is not None:
            place = self.folder / f"{without.replace(' ', '_')}.py"
            if not place.exists():
                shutil.copy(TESTDATA / "without.py", place)
                place.chmod(0o644)
        whole = {
            "plugin_id": "deeds",
            "code": code or self.code,
            "uid": CELL_UID,
            "require_cgroup": self.uid == 0,
            **(spec or {}),
        }
        order = {"spec": whole, "function": function, "kwargs": kwargs, "patience_s": patience_s, "without": without}
        return self._ask(order)

    def probe(self) -> list[dict[str, Any]]:
        """Prove this host's guarantees."""
        return self._ask({"probe": True})

    def twin(self, deed: str, *, privileged: bool = False, **given: object) -> dict[str, Any]:
        """Do a deed without any barrier."""
        order = json.dumps({"deed": deed, "privileged": privileged, **given})
        code = self.deeds()
        with Path(self.secret_file).open("rb") as inherited:
            done = self._popen([f"{code}/main.py", order], pass_fds=(inherited.fileno(),))
            out, _ = done.communicate(timeout=PATIENCE_S)
        return json.loads(out) if out else {"done": done.returncode == 0, "by": f"exit {done.returncode}"}

    def close(self) -> None:
        """End the driver and with it every cell."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE_S)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _ask(self, order: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the driver ended"
        return json.loads(line)

    def _popen(self, argv: list[str], **more: Any) -> "subprocess.Popen[str]":
        ids = {"user": self.uid, "group": self.uid, "extra_groups": []} if os.getuid() == 0 else {}
        return subprocess.Popen(
            [self.interpreter, "-I", "-S", *argv],
            stdout=subprocess.PIPE,
            text=True,
            env={"HEARTH_SECRET": SECRET_IN_ENVIRONMENT},
            **ids,
            **more,
        )


def users() -> list[Any]:
    """Name the users as whom cells are tried: oneself, and as root also an ordinary one."""
    if os.getuid() != 0:
        return [pytest.param((os.getuid(), sys.executable), id="self")]
    nobody = pytest.param((NOBODY, SYSTEM_PYTHON), id="nobody", marks=_needs_system_python())
    return [pytest.param((0, os.path.realpath(sys.executable)), id="root"), nobody]


def _needs_system_python() -> pytest.MarkDecorator:
    probe = [SYSTEM_PYTHON, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
    fits = Path(SYSTEM_PYTHON).exists() and subprocess.run(probe, check=False).returncode == 0
    return pytest.mark.skipif(not fits, reason=f"an ordinary user needs a {SYSTEM_PYTHON} of 3.11 or newer")


@pytest.fixture(scope="session", params=users())
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    """Cells and twins of one user."""
    uid, interpreter = request.param
    folder = Path(tempfile.mkdtemp(prefix="hearthgate-test-"))
    folder.chmod(0o755)
    running = Host(uid, interpreter, folder)
    yield running
    running.close()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def launcher() -> Iterator[Launcher]:
    """A launcher in this very process, as the gateway has one."""
    with Launcher() as running:
        yield running


@dataclass(frozen=True, slots=True)
class World:
    """What stands outside a cell, for deeds to reach out to."""

    known: dict[str, object]  # what a case's `$name` stands for
    ids: dict[str, Any]
    victims: "list[subprocess.Popen[bytes]]"

    @property
    def victim(self) -> "subprocess.Popen[bytes]":
        """Give the process that lives now."""
        return self.victims[-1]

    def revive(self) -> None:
        """Have a process that lives, whatever a deed did to the last one."""
        if not self.victims or self.victim.poll() is not None:
            self.victims.append(subprocess.Popen(["/bin/sleep", "3000"], start_new_session=True, **self.ids))
        self.known["pid"] = self.victim.pid

    def given(self, attack: dict[str, Any], host: Host, *, in_cell: bool) -> dict[str, Any]:
        """Fill in what a deed is given, in a cell or outside."""
        known = {
            **self.known,
            "other_code": f"{host.snapshot('x = 1')}/main.py",
            "own_file": f"{host.snapshot('x = 1')}/main.py",
            "code": "/plugin/main.py" if in_cell else f"{host.code}/main.py",
            "folder": "/plugin" if in_cell else host.scratch(),
            "other": "/plugin" if in_cell else host.scratch(),
            "scratch": "/scratch" if in_cell else host.scratch(),
            "outside": not in_cell,
        }
        given = attack.get("given", {}).items()
        return {name: known[each[1:]] if str(each).startswith("$") else each for name, each in given}


@pytest.fixture(scope="session")
def world(host: Host) -> Iterator[World]:
    """Servers, a process and shared memory of the host's, within reach of whoever is not confined."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        datagrams = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        datagrams.bind(("127.0.0.1", 0))
        folder = host.scratch()
        streams, packets = socket.SOCK_STREAM, socket.SOCK_SEQPACKET
        servers = [server]
        for name, kind in (
            (f"{folder}/gateway.sock", streams),
            (f"\0{folder}/gateway", streams),
            (f"\0{folder}/packets", packets),
        ):
            listening = stack.enter_context(socket.socket(socket.AF_UNIX, kind))
            listening.bind(name)
            listening.listen()
            servers.append(listening)
        for name in (f"{folder}/datagrams.sock", f"\0{folder}/datagrams"):
            stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)).bind(name)
        for name in ("gateway.sock", "datagrams.sock"):
            Path(folder, name).chmod(0o777)
        for sock in servers:
            threading.Thread(target=_greet, args=(sock,), daemon=True).start()
        ids: dict[str, Any] = {"user": host.uid, "group": host.uid, "extra_groups": []} if os.getuid() == 0 else {}
        known: dict[str, object] = {
            "secret_file": host.secret_file,
            "port": server.getsockname()[1],
            "datagram": datagrams.getsockname()[1],
            "socket": f"{folder}/gateway.sock",
            "datagrams": f"{folder}/datagrams.sock",
            "abstract": f"{folder}/gateway",
            "abstract_datagrams": f"{folder}/datagrams",
            "abstract_packets": f"{folder}/packets",
            "key": stack.enter_context(_shared_memory()),
            "group_procs": next((str(each) for each in Path("/sys/fs/cgroup").glob("**/cgroup.procs")), "/sys/none"),
        }
        built = World(known=known, ids=ids, victims=[])
        built.revive()
        yield built
        for sock in servers:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        built.victim.kill()
        built.victim.wait()


@contextlib.contextmanager
def _shared_memory() -> Iterator[int]:
    """Make a piece of memory that any process of the host may find by its key."""
    libc = ctypes.CDLL(None, use_errno=True)
    key = 0x48000000 | secrets.randbits(24)
    number = libc.shmget(key, 4096, 0o1666)
    assert number >= 0
    yield key
    libc.shmctl(number, 0, None)


def _greet(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            connection.sendall(b"come in")


@pytest.fixture(scope="session")
def attacks() -> list[dict[str, Any]]:
    """Every case of attacks.toml."""
    cases: list[dict[str, Any]] = tomllib.loads((TESTDATA / "attacks.toml").read_text())["attack"]
    return cases


@pytest.fixture
def spec_of(tmp_path: Path) -> Callable[..., Spec]:
    """Make a specification around a plugin's code."""

    def make(text: str, *, limits: Limits | None = None, **more: Any) -> Spec:
        code = tmp_path / "code"
        code.mkdir(exist_ok=True)
        (code / "main.py").write_text(text)
        return Spec(
            plugin_id="tested",
            code=str(code),
            uid=CELL_UID,
            limits=limits or Limits(),
            require_cgroup=os.getuid() == 0,
            **more,
        )

    return make
