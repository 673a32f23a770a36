"""A real gateway with a real sink process: what was dropped before it is told, and its key is nowhere to be read."""

import asyncio
import json
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from msgspec.structs import replace

from gateway.audit.log import DecisionLog
from gateway.clock import now
from gateway.domain.record import Record, Resolution
from tests.app.served import Gateway, until

if TYPE_CHECKING:
    from tests.conftest import MakeHome

CANARY = "the-canary-key-of-the-hook"
REFUSED = 3


class Hook:
    """Refuses what it gets a few times, then takes it."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.refused = 0
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if hook.refused < REFUSED:
                    hook.refused += 1
                    self.send_response(500, "no: " + self.headers["webhook-signature"])
                else:
                    hook.taken += [json.loads(line)["seq"] for line in body.splitlines()]
                    self.send_response(204)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Be quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/in"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def end(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.end()


def fill_and_drop(data: Path) -> int:
    """Write a log whose first records were dropped; give the first that is kept."""

    def record(event_type: str = "started") -> Record:
        return Record(
            event_id=f"audit-{uuid.uuid4()}", at=now(), event_type=event_type, resolution=Resolution.COMPLETED
        )

    async def story() -> int:
        log = DecisionLog.open(data, now=now, new_id=lambda: str(uuid.uuid4()))
        await log.append(*(record() for _ in range(5)))
        segment = await log.rotate()
        assert segment is not None
        details = {"first": segment.first, "last": segment.last}
        assert await log.drop(segment, replace(record("segment_dropped"), details=details))
        await log.close()
        return segment.last + 1

    return asyncio.run(story())


def test_a_sink_begins_with_what_is_kept_tells_what_is_not_and_shows_its_key_to_nobody(
    make_home: "MakeHome", hook: Hook, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    key = tmp_path / "key"
    key.write_text(CANARY)
    key.chmod(0o600)
    settings = (
        f'[[log.sink]]\nname = "siem"\nkind = "webhook"\nurl = "{hook.url}"\nkey_file = "{key}"\nbegin = "start"\n'
        f'attempts = 2\nbatch = 1\n[log]\nlevel = "debug"\n'
    )
    home = make_home(settings=settings, opened=False)
    first = fill_and_drop(home.folder / "data")
    gateway = Gateway(home.folder)
    request.addfinalizer(gateway.end)

    def state() -> dict[str, Any]:
        (found,) = gateway.ask("GET", "/v1/audit/sinks").json()["sinks"]
        return dict(found)

    until(lambda: hook.refused == REFUSED and hook.taken)
    told = state()
    assert told["missed"] == first - 1
    assert told["put_aside"] > 0
    assert min(hook.taken) > first  # the first was put aside
    assert gateway.ask("POST", "/v1/audit/sinks/siem/retry").status_code == 202
    until(lambda: first in hook.taken)
    below = psutil.Process(gateway.process.pid).children(recursive=True)
    shown = [" ".join(each.cmdline()) for each in (psutil.Process(gateway.process.pid), *below)]
    shown += [json.dumps(state()), gateway.said]
    gateway.end()
    shown.append(gateway.said)
    assert len(below) >= 1
    assert [text for text in shown if CANARY in text] == []
    assert [path for path, held in home.contents().items() if CANARY.encode() in held] == []
    assert CANARY in key.read_text()


def test_no_process_of_the_gateway_takes_code_from_the_folder_that_it_was_started_in(
    make_home: "MakeHome", tmp_path: Path
) -> None:
    copied, ran = tmp_path / "copy.jsonl", tmp_path / "ran"
    settings = f'[[log.sink]]\nname = "copy"\nkind = "file"\npath = "{copied}"\nbegin = "start"\n'
    home = make_home(settings=settings, opened=False)
    folder = tmp_path / "an-authors-folder"
    folder.mkdir()
    for name in ("gateway", "httpx", "json", "logging", "msgspec", "sqlite3", "typing"):
        (folder / f"{name}.py").write_text(f"open({str(ran)!r}, 'a').write({name!r})\n")
    command = [
        sys.executable,
        "-P",
        "-m",
        "gateway.cli",
        "serve",
        "--home",
        str(home.folder),
        "--listen",
        "127.0.0.1:0",
    ]
    with (tmp_path / "said").open("wb") as said, subprocess.Popen(command, cwd=folder, stdout=said, stderr=said) as it:
        until(lambda: ran.exists() or (copied.exists() and copied.stat().st_size))
        it.terminate()
    assert not ran.exists(), ran.read_text()
    assert b"started" in copied.read_bytes()
