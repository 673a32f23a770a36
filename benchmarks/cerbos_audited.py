"""Cerbos as it is run to keep its decisions: its own log on disk, REST over TCP, on one core."""

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks.cerbos_server import PROGRAM, NotRunError, write_policies
from benchmarks.workload import Workload

_UP_S = 120.0
_LOOK_S = 0.05


@contextmanager
def audited_cerbos(workload: Workload, folder: Path, *, core: int) -> Iterator[tuple[psutil.Process, int]]:
    """Run a server over the rules of a workload until the block ends; gives its process and port.

    Raises:
        NotRunError: it did not come up.
    """
    write_policies(workload, folder / "policies")
    port, grpc_port = _free_ports()
    config = {
        "server": {"httpListenAddr": f"127.0.0.1:{port}", "grpcListenAddr": f"127.0.0.1:{grpc_port}"},
        "storage": {"driver": "disk", "disk": {"directory": str(folder / "policies"), "watchForChanges": False}},
        "audit": {
            "enabled": True,
            "accessLogsEnabled": False,
            "decisionLogsEnabled": True,
            "backend": "local",
            "local": {"storagePath": str(folder / "audit"), "retentionPeriod": "24h"},
        },
        "telemetry": {"disabled": True},
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "CERBOS_NO_TELEMETRY": "1", "GOMAXPROCS": "1"}
    with (folder / "log").open("wb") as log:
        started = subprocess.Popen(
            [str(PROGRAM), "server", f"--config={folder / 'config.json'}", "--log-level=error"],
            env=environment, stdout=log, stderr=log, preexec_fn=lambda: os.sched_setaffinity(0, {core}),  # noqa: PLW1509 (no thread here)
        )  # fmt: skip
    try:
        _wait(started, port, folder)
        yield psutil.Process(started.pid), port
    finally:
        started.kill()
        started.wait()


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def _wait(started: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    deadline = time.monotonic() + _UP_S
    while time.monotonic() < deadline:
        if started.poll() is not None:
            raise NotRunError(f"it ended: {(folder / 'log').read_text(encoding='utf-8')[-300:]}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/_cerbos/health", timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(_LOOK_S)
    raise NotRunError(f"not loaded in {_UP_S:.0f} s")
