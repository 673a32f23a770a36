"""Lifecycle events as signed webhooks of a serving gateway: those alone, and none is delayed by one that fails."""

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.app.served import Gateway, until
from tests.conftest import new_home

KEY = "0123456789abcdef-a-key-of-its-own"
FAILING = '[[log.sink]]\nname = "gone"\nkind = "webhook"\nurl = "http://127.0.0.1:9/x"\nkey_file = "{key}"\n\n'
WORKING = (
    '[[log.sink]]\nname = "lifecycle"\nkind = "webhook"\nurl = "http://127.0.0.1:{port}/x"\nkey_file = "{key}"\n'
    'categories = ["lifecycle"]\nbegin = "start"\n'
)


@pytest.fixture
def got() -> Iterator[tuple[int, list[tuple[dict[str, str], bytes]]]]:
    """Give the port of a receiver, and what it got."""
    kept: list[tuple[dict[str, str], bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            kept.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Be quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port, kept
    server.shutdown()
    thread.join()
    server.server_close()


def test_lifecycle_events_arrive_signed_and_alone(
    tmp_path: Path, got: tuple[int, list[tuple[dict[str, str], bytes]]]
) -> None:
    port, kept = got
    key = tmp_path / "webhook.key"
    key.write_text(KEY)
    key.chmod(0o600)
    home = new_home(tmp_path / "home", settings=FAILING.format(key=key) + WORKING.format(key=key, port=port))
    home.end()
    home.write_plugin("told")
    gateway = Gateway(home.folder)
    try:
        assert gateway.ask("POST", "/v1/plugins", {"folder": "told"}).status_code == 201
        for verb in ("approve", "suspend", "revoke"):
            assert gateway.ask("POST", f"/v1/plugins/told/{verb}", {"reason": "test"}).status_code == 200
        wanted = ["registered", "approved", "activated", "suspended", "revoked"]

        def events() -> list[str]:
            return [json.loads(line)["event_type"] for _, body in kept for line in body.splitlines()]

        until(lambda: len(events()) >= len(wanted))
        assert events() == wanted
    finally:
        gateway.end()
    for headers, body in kept:
        signed = b"%b.%b.%b" % (headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body)
        expected = base64.b64encode(hmac.new(KEY.encode(), signed, hashlib.sha256).digest()).decode()
        assert headers["webhook-signature"] == f"v1,{expected}"
