"""A real `hearthgate serve`, as a process of its own that tests can ask, kill and start again."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from gateway.audit.verify import verify_file

WAIT_S = 30.0
URL = re.compile(r"https?://[0-9.]+:(\d+)")
WORKER = """\
import os
import sys
import time


def execute(ctx, payload):
    match payload["do"]:
        case "return":
            return payload["value"]
        case "sleep":
            time.sleep(payload["for_s"])
        case "keep":
            ctx.vault.write("notes/kept", payload["value"])
        case "exit":
            os._exit(9)
        case "eat":
            found = [bytearray(16 << 20) for _ in range(200)]
            return len(found)
        case "flood":
            for _ in range(200):
                sys.stdout.write("x" * 65536)
            return "done"
"""


class Gateway:
    """`hearthgate serve` on a home."""

    def __init__(self, folder: Path, listen: str | None = "127.0.0.1:0") -> None:
        self.folder = folder
        self.listen = () if listen is None else ("--listen", listen)
        self.log = folder.parent / f"{folder.name}.out"
        self.start()

    def start(self) -> None:
        # WHY: a file that outlives the process, so that what it says when it dies can be read.
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gateway.cli", "serve", "--home", str(self.folder), *self.listen],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        until(lambda: "unix:" in self.said or self.process.poll() is not None)
        assert self.process.poll() is None, self.said
        found = URL.search(self.said)
        assert found is not None
        self.port = int(found[1])

    @property
    def said(self) -> str:
        return self.log.read_text()

    def owner(self, timeout_s: float = WAIT_S) -> httpx.Client:
        # WHY: through the folder's own descriptor, for a socket's address is short and a test's folder is deep.
        transport = httpx.HTTPTransport(uds=os.path.relpath(self.folder / "run" / "hearthgate.sock"))
        return httpx.Client(transport=transport, base_url="http://localhost", timeout=timeout_s)

    def ask(self, method: str, path: str, body: object = None) -> httpx.Response:
        with self.owner() as owner:
            return owner.request(method, path, json=body)

    def run(self, do: str, **members: object) -> httpx.Response:
        payload = {"do": do, **{name: members.pop(name) for name in ("value", "for_s") if name in members}}
        return self.ask("POST", "/v1/plugins/worker/execute", {"payload": payload, **members})

    def key(self, user: str, *scopes: str) -> str:
        key: str = self.ask("POST", "/v1/keys", {"user": user, "scopes": list(scopes)}).json()["key"]
        return key

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(WAIT_S)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(WAIT_S)
            self.kill()

    def cells(self) -> list[psutil.Process]:
        """Give every process below the gateway."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def rows(self, **wanted: str) -> list[dict[str, Any]]:
        with self.owner() as owner:
            found: list[dict[str, Any]] = owner.get("/v1/audit", params={"limit": "1000", **wanted}).json()["records"]
        return found[::-1]


def until(holds: Callable[[], object], wait_s: float = WAIT_S) -> None:
    deadline = time.monotonic() + wait_s
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def export(gateway: Gateway, path: Path) -> list[dict[str, Any]]:
    with gateway.owner() as owner:
        path.write_bytes(owner.get("/v1/audit/export").content)
    assert verify_file(path, key=(gateway.folder / "data" / "keys" / "log.pub").read_text(), since=None).ok
    return [json.loads(line) for line in path.read_text().splitlines()]
