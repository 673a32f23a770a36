"""A real gateway in a process of its own, and its end."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from gateway.client import socket_of
from gateway.errors import UnavailableError

_START_S = 15.0
_STOP_S = 5.0
_POLL_S = 0.02
_READY = 200
_URL = re.compile(r"http://127\.0\.0\.1:\d+")


@contextmanager
def serving(home: Path, log: Path) -> Iterator[str]:
    """Serve `home` on its unix socket and a free loopback port; give the port's URL once it is ready.

    Raises:
        UnavailableError: it did not become ready; `log` has what it printed.

    """
    # SECURITY: `-P`, as for every process of the gateway: the folder it was started in is no place to take code from.
    command = [sys.executable, "-P", "-m", "gateway.cli", "serve", "--home", str(home), "--listen", "127.0.0.1:0"]
    with log.open("wb") as output:
        # WHY: a session of its own, so that Ctrl-C reaches this process first, which then stops that one in order.
        process = subprocess.Popen(  # noqa: S603 (our own program, no word of it from outside)
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield _wait_until_ready(process, home, log)
    finally:
        _stop(process)


def _wait_until_ready(process: subprocess.Popen[bytes], home: Path, log: Path) -> str:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        found = _URL.search(log.read_text("utf-8", "replace"))
        if found and socket_of(home).exists() and _is_ready(found.group()):
            return found.group()
        time.sleep(_POLL_S)
    told = log.read_text("utf-8", "replace").strip()[-2000:]
    raise UnavailableError("the gateway did not become ready", way_out=f"it said: {told or 'nothing'}")


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=1.0).status_code == _READY
    except httpx.TransportError:
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    try:
        process.terminate()
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        pass
    finally:
        # WHY: also when a second Ctrl-C cuts the wait short.
        process.kill()
        process.wait()
