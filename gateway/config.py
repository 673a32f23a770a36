"""The settings of a home: hearthgate.toml, strictly read."""

import ipaddress
import stat
import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from gateway.domain.manifest import OWN_PROGRAM, PROGRAM_NAME
from gateway.domain.names import parse_plugin_id
from gateway.domain.scope import split_host_port
from gateway.errors import ConfigError, MalformedError, Place, Problem

SETTINGS_FILE = "hearthgate.toml"
_MAX_SETTINGS_BYTES = 1 << 20


# A chosen name holds no `__`, so it never is a made one.
ToolName = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+(_[A-Za-z0-9-]+)*$", max_length=64)]
ProgramName = Annotated[str, Field(pattern=f"^{PROGRAM_NAME}$")]
ProgramPath = Annotated[str, Field(pattern=r"^/([^\x00]*[^/\x00])?$")]
MadeToolName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{1,63}__[a-z][a-z0-9_]*$")]


def parse_listen(text: str) -> tuple[str, int]:
    """Take `host:port` apart; port 0 stands for any free one.

    Raises:
        ValueError: it is not that.
    """
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) < 1 << 16):
        raise ValueError(f"listen `{text}`: write HOST:PORT, as 127.0.0.1:8642")
    if host == "localhost":
        host = "127.0.0.1"
    try:
        address = ipaddress.ip_address(split_host_port(host)[0])
    except (ValueError, MalformedError):
        raise ValueError(f"listen `{text}`: name an address, as 127.0.0.1:8642") from None
    return str(address), int(port)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class HttpSettings(_Section):
    """Where the gateway listens."""

    listen: str = "127.0.0.1:8642"
    socket: Literal["owner", "read", "off"] = "owner"
    allowed_hosts: tuple[str, ...] = Field(default=(), strict=False)
    tls_cert: str = ""
    tls_key: str = ""
    behind_proxy: bool = False
    key_rate: Annotated[str, Field(pattern=r"^([1-9][0-9]{0,8}/[1-9][0-9]{0,4}s)?$")] = ""
    public_url: Annotated[str, Field(pattern=r"^(https?://[^\s/?#]+(/[^\s?#]*[^\s?#/])?)?$")] = ""

    @field_validator("listen")
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        parse_listen(value)
        return value

    @model_validator(mode="after")
    def _kept_from_strangers(self) -> Self:
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ValueError("tls_cert and tls_key: one needs the other")
        self.check_reach(parse_listen(self.listen)[0])
        return self

    def check_reach(self, host: str) -> None:
        """Check that keys do not cross a network in the clear.

        Raises:
            ValueError: others can reach the address, and neither TLS nor a proxy is there.
        """
        if not (ipaddress.ip_address(host).is_loopback or self.tls_cert or self.behind_proxy):
            # SECURITY: said, and never assumed: a gateway that is open by mistake gives its keys to whoever listens.
            raise ValueError(
                f"listen `{host}`: only a loopback address without TLS: set tls_cert and tls_key, "
                "or behind_proxy where a proxy that others ask by TLS is the only way here"
            )


class JwtSettings(_Section):
    """An issuer whose tokens are taken beside keys: whose, for whom, by which keys, and for what at most."""

    issuer: str = ""
    audience: str = ""
    jwks: str = ""
    user_claim: Annotated[str, Field(min_length=1)] = "sub"
    scopes: tuple[Literal["evaluate", "execute", "approve", "consent", "admin", "audit"], ...] = Field(
        default=("evaluate", "execute"), strict=False
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if len({bool(each) for each in (self.issuer, self.audience, self.jwks)}) > 1:
            raise ValueError("issuer, audience and jwks: one needs the others")
        return self


class McpSettings(_Section):
    """The Model Context Protocol: the operator's own names for tools, in place of `<plugin>__<capability>`."""

    names: dict[ToolName, MadeToolName] = Field(default_factory=dict)


class SandboxSettings(_Section):
    """Caps above which no manifest can go, and what the operator accepts to be missing on this host."""

    max_timeout_s: Annotated[int, Field(gt=0, le=86_400)] = 300
    max_memory_mb: Annotated[int, Field(ge=32)] = 512
    max_scratch_mb: Annotated[int, Field(ge=1)] = 100
    max_processes: Annotated[int, Field(ge=1, le=4096)] = 32
    max_output_kb: Annotated[int, Field(ge=1, le=1 << 20)] = 1024
    max_cells: Annotated[int, Field(ge=1, le=1024)] = 8
    max_waiting: Annotated[int, Field(ge=0, le=65_536)] = 64
    max_asks: Annotated[int, Field(ge=1, le=10_000_000)] = 1000
    max_connections: Annotated[int, Field(ge=1, le=256)] = 16
    max_egress_mb: Annotated[int, Field(ge=1, le=1 << 20)] = 256
    max_idle_cells: Annotated[int, Field(ge=0, le=1024)] = 100
    idle_cell_s: Annotated[int, Field(ge=1, le=3600)] = 60
    max_idle_cell_mb: Annotated[int, Field(ge=32)] = 64
    max_idle_server_mb: Annotated[int, Field(ge=32)] = 192
    programs: dict[ProgramName, ProgramPath] = Field(default_factory=dict)
    backend: Literal["native", "bwrap"] = "native"
    accept_missing: tuple[Literal["cg_cpu"], ...] = Field(default=(), strict=False)
    unconfined: tuple[str, ...] = Field(default=(), strict=False)

    @field_validator("programs")
    @classmethod
    def _not_its_own(cls, value: dict[str, str]) -> dict[str, str]:
        if OWN_PROGRAM in value:
            raise ValueError(f"`{OWN_PROGRAM}` is the one that runs the gateway: choose another name")
        return value

    @field_validator("unconfined")
    @classmethod
    def _plugin_ids(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            try:
                parse_plugin_id(each)
            except MalformedError as error:
                raise ValueError(str(error)) from None
        return value


class PolicySettings(_Section):
    """How policy files are read."""

    custom_model: bool = False


class _SinkSettings(_Section):
    """What every sink has."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
    format: str = "jsonl"
    categories: tuple[str, ...] = Field(default=(), strict=False)
    min_risk: Annotated[int, Field(ge=0, le=100)] = 0
    redact: tuple[str, ...] = Field(default=(), strict=False)
    begin: Literal["now", "start"] = "now"
    batch: Annotated[int, Field(ge=1, le=2000)] = 200
    attempts: Annotated[int, Field(ge=1, le=1000)] = 8


class WebhookSettings(_SinkSettings):
    """An endpoint that gets signed batches; the key that signs comes from a file or the environment."""

    kind: Literal["webhook"]
    url: str
    key_file: str | None = None
    key_env: str | None = None
    ca_file: str | None = None

    @field_validator("url")
    @classmethod
    def _https(cls, value: str) -> str:
        parse_endpoint(value)
        return value


class SyslogSettings(_SinkSettings):
    """A syslog receiver: `udp://HOST:PORT`, `tcp://`, `tls://` or `unix:///PATH`."""

    kind: Literal["syslog"]
    address: Annotated[str, Field(pattern=r"^((udp|tcp|tls)://[^\s/@]+:\d{1,5}|unix:///\S+)$")]
    format: str = "syslog"
    max_bytes: Annotated[int, Field(ge=480, le=65_507)] = 8192


class FileSettings(_SinkSettings):
    """A file outside the home that grows to a size, and the ones before it."""

    kind: Literal["file"]
    path: Annotated[str, Field(pattern=r"^/.*[^/]$")]
    max_mb: Annotated[int, Field(ge=1, le=1 << 20)] = 100
    keep: Annotated[int, Field(ge=1, le=1000)] = 5


SinkSettings = Annotated[WebhookSettings | SyslogSettings | FileSettings, Field(discriminator="kind")]


class LogSettings(_Section):
    """What the gateway prints about itself; how long the decision log is, is kept, and where its records go on to."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"
    segment_bytes: Annotated[int, Field(ge=1 << 20)] = 5_000_000_000  # a file that is larger is closed
    segment_days: Annotated[int, Field(ge=1, le=36_500)] = 31  # so is one that holds an older record
    keep_days: Annotated[int, Field(ge=1, le=36_500)] | None = None  # closed files wholly older are dropped
    keep_segments: Annotated[int, Field(ge=0)] | None = None  # more closed files than that are, too
    sink: tuple[SinkSettings, ...] = Field(default=(), strict=False)


class OtelSettings(_Section):
    """A collector that gets spans, and how many of the traces that begin here."""

    endpoint: str = ""
    sample: Annotated[float, Field(ge=0, le=1, strict=False)] = 1.0

    @field_validator("endpoint")
    @classmethod
    def _https(cls, value: str) -> str:
        if value:
            parse_endpoint(value)
        return value


class TrafficSettings(_Section):
    """What is kept of what plugins' asks moved."""

    keep_days: Annotated[int, Field(ge=1, le=3650)] = 30
    max_entries: Annotated[int, Field(ge=1, le=100_000_000)] = 1_000_000
    paths: bool = False  # the paths of URLs, which may carry secrets; never their queries


class UpstreamSettings(_Section):
    """A service that plugins reach as `api`, with a credential that the gateway adds."""

    url: str
    secret_file: str
    header: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")] = "authorization"
    prefix: Annotated[str, Field(pattern=r"^[\x20-\x7e]*$", max_length=64)] = ""
    private: bool = False

    @field_validator("url")
    @classmethod
    def _base(cls, value: str) -> str:
        scheme, _, rest = value.partition("://")
        if scheme not in {"http", "https"} or not rest or any(char in value for char in "?#"):
            raise ValueError("write https://host/path, without a query")
        return value


UpstreamName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]


class Settings(_Section):
    """Everything hearthgate.toml may say."""

    http: HttpSettings = HttpSettings()
    sandbox: SandboxSettings = SandboxSettings()
    policy: PolicySettings = PolicySettings()
    log: LogSettings = LogSettings()
    upstream: dict[UpstreamName, UpstreamSettings] = Field(default_factory=dict)
    traffic: TrafficSettings = TrafficSettings()
    mcp: McpSettings = McpSettings()
    jwt: JwtSettings = JwtSettings()
    otel: OtelSettings = OtelSettings()


def parse_endpoint(url: str) -> None:
    """Check where a webhook goes: HTTPS, or HTTP to a loopback address.

    Raises:
        ValueError: it goes elsewhere, or holds a user name or a password.
    """
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None or not parts.hostname or parts.fragment:
        # SECURITY: not quoted, for it may hold a password.
        raise ValueError("url: a host without a user name, a password or a fragment")
    if parts.scheme == "https":
        return
    try:
        loopback = parts.hostname == "localhost" or ipaddress.ip_address(parts.hostname).is_loopback
    except ValueError:
        loopback = False
    if parts.scheme != "http" or not loopback:
        # SECURITY: records would cross a network in the clear.
        raise ValueError(f"url: `{parts.scheme}` to `{parts.hostname}`: https, or http to a loopback address")


def read_settings(home: Path) -> Settings:
    """Read hearthgate.toml of a home; a missing file means every default.

    Raises:
        ConfigError: the file cannot be read, or says something that is not a setting.
    """
    path = home / SETTINGS_FILE
    try:
        raw = path.read_bytes() if path.exists() else b""
        _refuse_open(path)
    except OSError as error:
        raise ConfigError(f"cannot read `{path}`: {error.strerror}") from None
    if len(raw) > _MAX_SETTINGS_BYTES:
        raise ConfigError(f"`{path}` is larger than {_MAX_SETTINGS_BYTES} bytes")
    try:
        return Settings.model_validate(tomllib.loads(raw.decode("utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{SETTINGS_FILE} is not TOML", problems=[_problem(str(error))]) from None
    except ValidationError as error:
        problems = [
            _problem(f"`{'.'.join(str(part) for part in each['loc'])}`: {each['msg'].removeprefix('Value error, ')}")
            for each in error.errors()
        ]
        raise ConfigError(f"{SETTINGS_FILE} has settings that cannot be", problems=problems) from None


def _refuse_open(path: Path) -> None:
    home = path.parent.resolve()
    for each in (*([path] if path.exists() else []), home, *home.parents):
        mode = each.stat().st_mode
        # SECURITY: who may write a folder above can put another file in its place, but in one like /tmp.
        if mode & stat.S_IWOTH and not (each in home.parents and mode & stat.S_ISVTX):
            raise ConfigError(f"`{each}` can be written by everybody", way_out=f"chmod o-w {each}")


def _problem(message: str) -> Problem:
    return Problem(place=Place(file=SETTINGS_FILE), message=message)
