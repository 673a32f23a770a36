"""Executing over HTTP: a real gateway on a home of its own, asked by wrk, every record durable."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks import wrk
from gateway.app import init_home

CLIENTS = (1, 2, 8)
SECONDS = 4
MODES = ("pristine", "fork", "shared")
_USER = "host"
_CODE = "def execute(ctx, payload):\n    return payload\n"
_PATIENCE_S = 20.0


def tell_http() -> None:
    """Measure and print."""
    if not wrk.installed():
        print(wrk.HOW_TO_GET)
        return
    with tempfile.TemporaryDirectory() as name:
        home = Path(name) / "home"
        _make_home(home)
        serving = subprocess.Popen(
            [_program(), "--home", str(home), "serve", "--listen", "127.0.0.1:0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            _measure(home, _port(serving), serving.pid)
        finally:
            serving.terminate()
            serving.wait()
            if serving.stdout is not None:
                serving.stdout.close()


def _measure(home: Path, port: int, pid: int) -> None:
    key = _cli(home, "key", "add", _USER, "--scope", "execute", "--reason", "bench")["key"]
    for mode in MODES:
        _cli(home, "plugin", "register", mode, "--reason", "bench")
        _cli(home, "plugin", "approve", mode, "--reason", "bench")
    for mode in MODES:
        folder = home / mode
        folder.mkdir()
        asked = wrk.write_questions(folder, [b'{"payload": {"word": "x"}}'], {"Authorization": f"Bearer {key}"})
        for clients in CLIENTS:
            before = _cpu_s(pid)
            found = wrk.load(
                f"http://127.0.0.1:{port}/v1/plugins/{mode}/execute", asked,
                connections=clients, seconds=SECONDS, core=len(os.sched_getaffinity(0)) - 1,
            )  # fmt: skip
            cpu_ms = (_cpu_s(pid) - before) / found.requests * 1000
            told = f"{found.rate:7.0f}/s  p50 {found.p50_us / 1000:6.2f} ms  p99 {found.p99_us / 1000:6.2f} ms"
            print(
                f"execute, {mode:8} {clients} clients  {told}  gateway {cpu_ms:.2f} cpu ms/call  failed {found.failed}"
            )


def _make_home(home: Path) -> None:
    init_home(home)
    with (home / "policies" / "roles.csv").open("a") as file:
        file.write(f"g, user:{_USER}, role:operator\n")
    for mode in MODES:
        folder = home / "plugins" / mode
        folder.mkdir(parents=True)
        manifest = {"plugin_id": mode, "name": mode, "version": "1.0.0", "isolation": mode}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        (folder / "main.py").write_text(_CODE)


def _program() -> str:
    return str(Path(sys.executable).parent / "hearthgate")


def _cli(home: Path, *words: str) -> dict[str, Any]:
    done = subprocess.run(
        [_program(), "--home", str(home), "--json", *words], check=True, capture_output=True, text=True
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _port(serving: "subprocess.Popen[str]") -> int:
    deadline = time.monotonic() + _PATIENCE_S
    while serving.stdout is not None and time.monotonic() < deadline:
        line = serving.stdout.readline()
        if "127.0.0.1:" in line:
            return int(line.partition("127.0.0.1:")[2].split()[0].strip("/,.;\"'}"))
    sys.exit("the gateway did not tell its port")


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)
