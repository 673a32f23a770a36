"""`ctx`: all that a plugin has. Each call is a question to the gateway, which decides, records and does it."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from sandbox.channel import Channel

_ENCODING = "utf-8"


class Response:
    """What a web server answered."""

    def __init__(self, told: Mapping[str, Any], body: bytes) -> None:
        self.status: int = told["status"]
        self.headers: dict[str, str] = _headers(told.get("headers") or {})
        self.body = body

    @property
    def text(self) -> str:
        """The body as text."""
        charset = self.headers.get("content-type", "").partition("charset=")[2].split(";")[0].strip(' "')
        try:
            return self.body.decode(charset or _ENCODING, "replace")
        except LookupError:
            return self.body.decode(_ENCODING, "replace")

    def json(self) -> Any:  # noqa: ANN401  # JSON may be anything
        """Read the body as JSON."""
        return json.loads(self.body)


class Context:
    """One call's door to the world."""

    def __init__(self, channel: Channel, call: Mapping[str, Any]) -> None:
        self._channel = channel
        self.user_id: str | None = call.get("user_id")
        self.session_id: str | None = call.get("session_id")
        self.deadline: float = time.time() + float(call.get("deadline_s") or 0)
        self.scratch = "/scratch"
        self.vault = Vault(channel)
        self.files = Files(channel)
        self.http = Http(channel)
        self.system = System(channel)
        self.api = Api(channel)
        self.plugins = Plugins(channel)
        self.user = User(channel)
        self.core = Core(channel)

    def log(self, *words: object, level: str = "info") -> None:
        """Leave a line in the outcome's record."""
        self._channel.send({"t": "log", "level": str(level), "message": " ".join(str(word) for word in words)})

    def progress(self, fraction: float | None = None, message: str = "") -> None:
        """Tell how far the call is, from 0 to 1."""
        self._channel.send({"t": "progress", "fraction": fraction, "message": str(message)})


class _Family:
    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def _ask(self, op: str, **arguments: object) -> Any:  # noqa: ANN401  # JSON may be anything
        return self._channel.ask(op, arguments)[0]


class Vault(_Family):
    """What is kept for the call's user."""

    def read(self, scope: str) -> Any:  # noqa: ANN401  # JSON may be anything
        """Read a value."""
        return self._ask("vault.read", scope=scope)

    def list(self, scope: str) -> list[str]:
        """Name what could be read at and below a scope."""
        return list(self._ask("vault.list", scope=scope))

    def write(self, scope: str, value: object) -> None:
        """Keep a JSON value."""
        self._ask("vault.write", scope=scope, value=value)

    def delete(self, scope: str) -> None:
        """Forget a value."""
        self._ask("vault.delete", scope=scope)


class Files(_Family):
    """Files of the host."""

    def read(self, path: str) -> bytes:
        """Read a whole file."""
        return self._channel.ask("files.read", {"path": str(path)})[1]

    def list(self, path: str) -> list[str]:
        """Name what could be read in a folder."""
        return [*self._ask("files.list", path=str(path))]

    def write(self, path: str, data: bytes | str) -> None:
        """Write a whole file."""
        blob = data.encode() if isinstance(data, str) else bytes(data)
        self._channel.ask("files.write", {"path": str(path)}, blob)


class Http(_Family):
    """The web, asked by the gateway on the plugin's behalf."""

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | str = b"",
        json: object = None,
    ) -> Response:
        """Send a request; `json` is written as the body."""
        told = {"method": method.upper(), "url": url}
        return _send(self._channel, "http.request", told, headers, _body(body, json))

    def get(self, url: str, **more: Any) -> Response:  # noqa: ANN401  # handed on to `request`
        """Read."""
        return self.request("GET", url, **more)

    def head(self, url: str, **more: Any) -> Response:  # noqa: ANN401  # handed on to `request`
        """Read the headers."""
        return self.request("HEAD", url, **more)

    def post(self, url: str, **more: Any) -> Response:  # noqa: ANN401  # handed on to `request`
        """Send."""
        return self.request("POST", url, **more)

    def put(self, url: str, **more: Any) -> Response:  # noqa: ANN401  # handed on to `request`
        """Replace."""
        return self.request("PUT", url, **more)

    def patch(self, url: str, **more: Any) -> Response:  # noqa: ANN401  # handed on to `request`
        """Change."""
        return self.request("PATCH", url, **more)

    def delete(self, url: str, **more: Any) -> Response:  # noqa: ANN401  # handed on to `request`
        """Remove."""
        return self.request("DELETE", url, **more)


class Api(_Family):
    """Named services, to which the gateway adds the credentials."""

    def call(
        self,
        upstream: str,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | str = b"",
        json: object = None,
    ) -> Response:
        """Send a request to a service."""
        told = {"upstream": upstream, "method": method.upper(), "path": path}
        return _send(self._channel, "api.call", told, headers, _body(body, json))


class System(_Family):
    """The machine."""

    def info(self, topic: str) -> Any:  # noqa: ANN401  # JSON may be anything
        """Read about a topic."""
        return self._ask("system.info", topic=topic)

    def run(self, argv: Sequence[str]) -> Any:  # noqa: ANN401  # JSON may be anything
        """Run a program; no shell reads the words."""
        return self._ask("system.run", argv=[str(word) for word in argv])


class Plugins(_Family):
    """Other plugins."""

    def list(self) -> list[str]:
        """Name those that may be seen."""
        return [*self._ask("plugins.list")]

    def call(self, plugin_id: str, payload: Mapping[str, object]) -> Any:  # noqa: ANN401  # JSON may be anything
        """Call one; it acts with what both may do."""
        return self._ask("plugins.call", id=plugin_id, payload=payload)


class User(_Family):
    """What is known of the call's user."""

    def get(self, name: str) -> Any:  # noqa: ANN401  # JSON may be anything
        """Read a value."""
        return self._ask("user.get", name=name)

    def set(self, name: str, value: object) -> None:
        """Keep a value."""
        self._ask("user.set", name=name, value=value)


class Core(_Family):
    """What the companion's core tells."""

    def get(self, topic: str) -> Any:  # noqa: ANN401  # JSON may be anything
        """Read about a topic."""
        return self._ask("core.get", topic=topic)


def _send(
    channel: Channel, op: str, told: dict[str, Any], headers: Mapping[str, str] | None, body: tuple[bytes, str]
) -> Response:
    data, kind = body
    given = {str(name): str(value) for name, value in (headers or {}).items()}
    if kind and "content-type" not in {name.lower() for name in given}:
        given["Content-Type"] = kind
    value, answer = channel.ask(op, {**told, "headers": given}, data)
    return Response(value, answer)


def _body(body: bytes | str, value: object) -> tuple[bytes, str]:
    if value is not None:
        return json.dumps(value, allow_nan=False).encode(), "application/json"
    return (body.encode() if isinstance(body, str) else bytes(body)), ""


def _headers(told: Mapping[str, str] | Sequence[Sequence[str]]) -> dict[str, str]:
    pairs = told.items() if isinstance(told, Mapping) else told
    joined: dict[str, str] = {}
    for name, value in pairs:
        key = str(name).lower()
        joined[key] = f"{joined[key]}, {value}" if key in joined else str(value)
    return joined
