"""What every test of the sandbox starts from: cells run by root and by an ordinary user, and plain twins."""
# ruff: noqa: ANN401, S105  # answers are JSON; the secrets are made up

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
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
        self.code = self.snapshot(TESTDATA.joinpath("deeds.py").read_text())
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
        patience_s: float = PATIENCE_S,
        **kwargs: object,
    ) -> dict[str, Any]:
        """Call a function of a plugin in a fresh cell."""
        whole = {
            "plugin_id": "deeds",
            "code": code or self.code,
            "uid": CELL_UID,
            "require_cgroup": self.uid == 0,
            **(spec or {}),
        }
        order = {"spec": whole, "function": function, "kwargs": kwargs, "patience_s": patience_s}
        return self._ask(order)

    def probe(self) -> list[dict[str, Any]]:
        """Prove this host's guarantees."""
        return self._ask({"probe": True})

    def twin(self, deed: str, *, privileged: bool = False, **given: object) -> dict[str, Any]:
        """Do a deed without any barrier."""
        order = json.dumps({"deed": deed, "privileged": privileged, **given})
        code = self.snapshot(TESTDATA.joinpath("deeds.py").read_text())
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
