"""A trial: what is tried in a cell, and by a plain process as control, and what it proves."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sandbox import frames, relay
from sandbox.errors import ProtocolError
from sandbox.launcher import Ending, Launcher
from sandbox.spec import NATIVE, RUNSC, Limits, Spec

PROBE_UID = 0x5FFF_FFFF
PATIENCE_S = 20.0
MEMORY_BYTES = 48 << 20
TOO_MUCH_BYTES = 128 << 20
# What is told of each, and what `probed.look` calls it.
DEEDS = (
    ("no_network", "connected"),
    ("no_host_files", "secret"),
    ("read_only_code", "code"),
    ("seccomp", "new_namespace"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarantee:
    """One promise of the sandbox and whether this host keeps it."""

    name: str
    held: bool
    mandatory: bool  # without it no cell is made at all
    detail: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Trial:
    """Runs deeds in cells of one backend, and outside."""

    launcher: Launcher
    code: str
    backend: str = NATIVE

    def _spec(self, limits: Limits | None = None, *, relay: bool = False) -> Spec:
        return Spec(
            plugin_id="probe",
            code=self.code,
            uid=PROBE_UID,
            limits=limits or Limits(timeout_s=PATIENCE_S),
            require_cgroup=False,
            relay=relay,
            backend=self.backend,
            single_process=self.backend == RUNSC,
        )

    def inside(
        self, function: str, limits: Limits | None = None, **kwargs: object
    ) -> tuple[Mapping[str, Any] | None, Ending]:
        """Do a deed in a cell; gives its answer, None if there was none, and how the cell ended."""
        spec = self._spec(limits)
        with self.launcher.spawn(spec) as cell:
            cell.channel.settimeout(PATIENCE_S)
            frames.write_frame(cell.channel, {"t": "call", "function": function, "kwargs": kwargs})
            with contextlib.suppress(ConnectionError, ProtocolError, TimeoutError):
                frame = frames.read_said(cell.channel)
                cell.kill()
                return (None if frame is None else frame[0]), cell.wait(PATIENCE_S)
            cell.kill()
            return None, cell.wait(PATIENCE_S)

    def told_of(self, function: str, **kwargs: object) -> list[object]:
        """Do a deed in a cell; gives the scopes of what the kernel told of it."""
        with self.launcher.spawn(self._spec()) as cell:
            frames.write_frame(cell.channel, {"t": "call", "function": function, "kwargs": kwargs})
            cell.wait(PATIENCE_S)
            return [each.get("scope") for each in cell.take_refused()]

    def outside(self, function: str, **kwargs: object) -> Any:  # noqa: ANN401  # JSON may be anything
        """Do a deed in a plain process."""
        order = json.dumps({"function": function, "kwargs": kwargs})
        done = subprocess.run(  # noqa: S603  # our own file, by our own interpreter
            [os.path.realpath(sys.executable), "-I", "-S", f"{self.code}/main.py", order],
            capture_output=True,
            env={"CONTROL": "1"},
            timeout=PATIENCE_S,
            check=False,
        )
        return json.loads(done.stdout) if done.returncode == 0 else None

    def speaks_through_door(self) -> bool:
        """Have a cell say something at its door, and answer it."""
        with self.launcher.spawn(self._spec(relay=True)) as cell:
            if cell.door is None:
                return False
            frames.write_frame(cell.channel, {"t": "call", "function": "speak", "kwargs": {"port": relay.PORT}})
            for sock in (cell.door, cell.channel):
                sock.settimeout(PATIENCE_S)
            with contextlib.suppress(OSError, ProtocolError):
                connection, _address = cell.door.accept()
                with connection:
                    connection.settimeout(PATIENCE_S)
                    connection.sendall(connection.recv(1))
                told = frames.read_said(cell.channel)
                return told is not None and told[0].get("value") == "x"
            return False

    def is_gone_after_kill(self) -> bool:
        """Kill a cell that resists and leaves a daemon; its output ends only when nobody is left to print."""
        with self.launcher.spawn(self._spec()) as cell:
            frames.write_frame(cell.channel, {"t": "call", "function": "stay", "kwargs": {}})
            cell.channel.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                frames.read_said(cell.channel)
            cell.kill()
            cell.wait(PATIENCE_S)
            cell.output.settimeout(PATIENCE_S)
            return cell.output.recv(1) == b""
