"""What the way out of a cell costs: to a call that has one, to a request through it, and to a tunnel that is cut.

usage: python -m benchmarks.egress
"""

import contextlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import gateway
from gateway.app import init_home
from gateway.facade import Gateway

ROUNDS, CALLS, REQUESTS, CUTS = 5, 20, 50, 20
LARGE = 32 << 20
CLIENT = '''\
"""Asks a server so many times, and tells how long each took."""
import os
import time
import urllib.request


def execute(ctx, payload):
    return globals()[payload["do"]](ctx, payload["url"], payload["count"])


def nothing(ctx, url, count):
    return None


def by_urllib(ctx, url, count):
    return [timed(lambda: urllib.request.urlopen(url).read()) for _ in range(count)]


def by_ctx(ctx, url, count):
    return [timed(lambda: ctx.http.get(url)) for _ in range(count)]


def hold(ctx, url, count):
    import socket

    host = url.split("/")[2]
    with socket.create_connection(("127.0.0.1", 3128)) as line:
        line.sendall(f"CONNECT {host} HTTP/1.1\\r\\nHost: {host}\\r\\n\\r\\n".encode())
        line.recv(1000)
        line.sendall(b"GET /hold HTTP/1.1\\r\\n\\r\\n")
        line.recv(1000)


def timed(deed):
    began = time.perf_counter()
    deed()
    return time.perf_counter() - began


if __name__ == "__main__":
    import json
    import sys

    order = json.loads(sys.argv[1])
    print(json.dumps(execute(None, order)))
'''


class Server(ThreadingHTTPServer):
    """A server on loopback; `/hold` is held until its client is gone."""

    daemon_threads = True
    held = threading.Event()
    cut_at = 0.0
    cut = threading.Event()


class Answers(BaseHTTPRequestHandler):
    """A thousand bytes, or as many as the path says."""

    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer."""
        if self.path == "/hold":
            self.server.held.set()
            with contextlib.suppress(OSError):
                self.connection.recv(1)
            self.server.cut_at = time.perf_counter()
            self.server.cut.set()
            self.close_connection = True
            return
        size = int(self.path[1:] or 1000)
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        self.wfile.write(bytes(size))

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main() -> None:
    """Print a table."""
    with serving() as server, tempfile.TemporaryDirectory() as name, opened(Path(name) / "house", server) as gw:
        url = f"http://127.0.0.1:{server.server_port}/"
        calls(gw, url)
        requests(gw, url, Path(name))
        cuts(gw, url, server)


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """Have the server answer."""
    server = Server(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@contextlib.contextmanager
def opened(folder: Path, server: Server) -> Iterator[Gateway]:
    """Give a home with two plugins alike, of which one may reach the server."""
    init_home(folder)
    (folder / "policies" / "rules" / "90-bench.csv").write_text(
        f"p, out, plugin:out, network, write, 127.0.0.1:{server.server_port}, -, allow, bench\n"
    )
    (folder / "hearthgate.toml").write_text("[sandbox]\nmax_egress_mb = 4096\nmax_asks = 100000\n")
    for plugin in ("out", "in"):
        (folder / "plugins" / plugin).mkdir()
        (folder / "plugins" / plugin / "main.py").write_text(CLIENT)
    with gateway.open(folder) as gw:
        for plugin in ("out", "in"):
            gw.plugins.register_plugin({"plugin_id": plugin, "name": plugin, "version": "1.0.0"}, "owner")
            gw.plugins.approve_plugin(plugin, "owner", "bench")
        yield gw


def run(gw: Gateway, plugin: str, do: str, url: str, count: int = 0) -> Any:  # noqa: ANN401 (JSON)
    """Run a plugin and give what it returned."""
    result = gw.plugins.execute_plugin(plugin, "owner", {"do": do, "url": url, "count": count})
    if not result.success and do != "hold":
        raise SystemExit(f"{plugin} {do}: {result.error}")
    return result.output


def calls(gw: Gateway, url: str) -> None:
    """Compare a call that has a way out with one that has none."""
    took: dict[str, list[float]] = {"in": [], "out": []}
    for plugin in ("in", "out") * ROUNDS:
        for _ in range(CALLS):
            began = time.perf_counter()
            run(gw, plugin, "nothing", url)
            took[plugin].append(time.perf_counter() - began)
    tell("a call without a way out", took["in"])
    tell("a call with one", took["out"])


def requests(gw: Gateway, url: str, folder: Path) -> None:
    """Compare a request through the relay with `ctx.http`, and with none of this between."""
    took: dict[str, list[float]] = {"direct": [], "by_urllib": [], "by_ctx": []}
    plain = folder / "client.py"
    plain.write_text(CLIENT)
    for _ in range(ROUNDS):
        took["direct"] += direct(plain, url, REQUESTS)
        for how in ("by_urllib", "by_ctx"):
            took[how] += run(gw, "out", how, url, REQUESTS)
    tell("urllib, from the host, nothing between", took["direct"])
    tell("urllib in a cell, decided and recorded", took["by_urllib"])
    tell("ctx.http in a cell, decided and recorded", took["by_ctx"])
    large = [LARGE / (1 << 20) / each for each in run(gw, "out", "by_urllib", f"{url}{LARGE}", 5)]
    alone = [LARGE / (1 << 20) / each for each in direct(plain, f"{url}{LARGE}", 5)]
    print(f"{'one answer of 32 MiB through the relay':42}{statistics.median(large):9.0f} MiB/s")
    print(f"{'the same with nothing between':42}{statistics.median(alone):9.0f} MiB/s")


def direct(plain: Path, url: str, count: int) -> list[float]:
    """Have the same client ask from a plain process."""
    order = f'{{"do": "by_urllib", "url": "{url}", "count": {count}}}'
    done = subprocess.run([sys.executable, "-I", str(plain), order], check=True, capture_output=True, text=True)
    return [float(each) for each in done.stdout.strip()[1:-1].split(",")]


def cuts(gw: Gateway, url: str, server: Server) -> None:
    """Tell how long a tunnel lives after its plugin is suspended."""
    took: list[float] = []
    for _ in range(CUTS):
        server.held.clear()
        server.cut.clear()
        call = threading.Thread(target=run, args=(gw, "out", "hold", url))
        call.start()
        server.held.wait(10)
        began = time.perf_counter()
        gw.plugins.suspend_plugin("out", "owner", "bench")
        server.cut.wait(10)
        took.append(server.cut_at - began)
        call.join()
        gw.plugins.resume_plugin("out", "owner", "bench")
    tell("from `suspend` until its tunnel is cut", took)


def tell(what: str, took: list[float]) -> None:
    """Print a row: the median and the highest of a hundred."""
    ordered = sorted(took)
    p99 = ordered[min(len(ordered) - 1, round(len(ordered) * 0.99))]
    print(f"{what:42}{statistics.median(took) * 1000:9.2f} ms   p99 {p99 * 1000:8.2f} ms   n {len(took)}", flush=True)


if __name__ == "__main__":
    main()
