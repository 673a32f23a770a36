"""A weather service on loopback, standing in for one on the internet."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass(frozen=True, slots=True)
class Service:
    """Where the service is, and the paths that it was asked for."""

    address: str  # host:port
    asked: list[str] = field(default_factory=list)


class _Weather(BaseHTTPRequestHandler):
    """Answers every GET with the same sunny day."""

    def do_GET(self) -> None:
        """Answer, and keep what was asked."""
        self.server.asked.append(self.path)  # type: ignore[attr-defined] # set below
        body = json.dumps({"summary": "clear sky", "temperature_c": 21}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def weather_service() -> Iterator[Service]:
    """Serve the weather on a free loopback port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Weather)
    service = Service(f"127.0.0.1:{server.server_port}")
    server.asked = service.asked  # type: ignore[attr-defined] # for the handler
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
