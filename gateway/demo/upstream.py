"""A weather service on loopback, standing in for one on the internet."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import ClassVar


class _Weather(BaseHTTPRequestHandler):
    """Answers every GET with the same sunny day, and keeps what was asked."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        """Answer."""
        self.asked.append(self.path)
        body = json.dumps({"summary": "clear sky", "temperature_c": 21}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def weather_service() -> Iterator[str]:
    """Serve the weather on a free loopback port; give its `host:port`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Weather)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
