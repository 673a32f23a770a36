"""A sink as its operator describes it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from gateway.audit.formats.known import Format
from gateway.domain.request import Json

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """An HTTPS endpoint, or an HTTP one of this machine; `key` gives the secret that signs."""

    url: str
    key: Callable[[], bytes]
    ca_file: Path | None = None

    @property
    def shown(self) -> str:
        """The endpoint without its path, which may hold a secret."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Syslog:
    """A syslog receiver: `host` and `port`, or the path of a unix socket."""

    transport: Literal["udp", "tcp", "tls", "unix"]
    host: str = ""
    port: int = 0
    path: str = ""
    max_bytes: int = 8192  # of a datagram

    @property
    def shown(self) -> str:
        """The receiver's address."""
        return f"unix://{self.path}" if self.transport == "unix" else f"{self.transport}://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFile:
    """A file that grows to `max_bytes`, and the `keep` ones before it."""

    path: Path
    max_bytes: int
    keep: int

    @property
    def shown(self) -> str:
        """The file's path."""
        return str(self.path)


_KINDS: dict[type, str] = {Webhook: "webhook", Syslog: "syslog", LogFile: "file"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sink:
    """Where records go, which, and how."""

    name: str
    target: Webhook | Syslog | LogFile
    form: Format
    redacted: frozenset[str] = frozenset()
    categories: frozenset[str] = frozenset()  # empty: all
    min_risk: int = 0
    from_start: bool = False  # a new sink begins with the whole log, not with what comes from now on
    batch_rows: int = 200
    attempts: int = 8  # of one batch, before it is put aside

    @property
    def kind(self) -> str:
        """What kind of target it has."""
        return _KINDS[type(self.target)]

    def wants(self, row: Row) -> bool:
        """Tell whether a record goes there."""
        return (not self.categories or row["category"] in self.categories) and row["risk_score"] >= self.min_risk

    def as_json(self) -> dict[str, Json]:
        """Give what may be shown of it."""
        return {"name": self.name, "kind": self.kind, "target": self.target.shown, "format": self.form.name}
