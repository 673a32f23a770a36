"""The sinks of a home: what its settings say of them, and the process that delivers.

WHY a process of its own: nothing that a receiver does can then take time from a decision, not even the interpreter's
lock. It reads the log with a read-only connection, and ends when the gateway's end of a pipe is closed.
"""

import asyncio
import logging
import os
import stat
import sys
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from gateway.audit.formats.known import parse_format
from gateway.audit.formats.redaction import parse_redaction
from gateway.audit.sinks.running import run_sinks
from gateway.audit.sinks.sink import LogFile, Sink, Syslog, Webhook
from gateway.clock import now
from gateway.config import FileSettings, Settings, SyslogSettings, WebhookSettings, read_settings
from gateway.domain.record import Category
from gateway.errors import ConfigError, HearthgateError, MalformedError

MIN_KEY_BYTES = 16
_RESTART_S = (1.0, 60.0)
_STEADY_S = 60.0
_END_S = 5.0
_NICE = 10
_NOT_LINES = frozenset({"csv", "parquet"})
_log = logging.getLogger("hearthgate")


def sinks_of(settings: Settings, home: Path) -> tuple[Sink, ...]:
    """Give the sinks that the settings name.

    Raises:
        ConfigError: one of them cannot be.

    """
    names = [each.name for each in settings.log.sink]
    if len(set(names)) != len(names):
        raise ConfigError("two sinks have the same name", way_out="each `[[log.sink]]` needs a `name` of its own")
    return tuple(_sink(each, home) for each in settings.log.sink)


def _sink(told: WebhookSettings | SyslogSettings | FileSettings, home: Path) -> Sink:
    try:
        form, redacted = parse_format(told.format), parse_redaction(",".join(told.redact))
    except MalformedError as error:
        raise ConfigError(f"sink `{told.name}`: {error}") from None
    unknown = set(told.categories) - {each.value for each in Category}
    if unknown or form.name in _NOT_LINES:
        wrong = f"categories: `{min(unknown)}`" if unknown else f"format: `{form.name}` is no format of messages"
        raise ConfigError(f"sink `{told.name}`: {wrong}")
    return Sink(
        name=told.name,
        target=_target(told, home),
        form=form,
        redacted=redacted,
        categories=frozenset(told.categories),
        min_risk=told.min_risk,
        from_start=told.begin == "start",
        batch_rows=told.batch,
        attempts=told.attempts,
    )


def _target(told: WebhookSettings | SyslogSettings | FileSettings, home: Path) -> Webhook | Syslog | LogFile:
    if isinstance(told, WebhookSettings):
        if (told.key_file is None) == (told.key_env is None):
            raise ConfigError(f"sink `{told.name}`: the key that signs comes from `key_file` or from `key_env`")
        read = partial(_file_key, Path(told.key_file)) if told.key_file else partial(_env_key, told.key_env or "")
        return Webhook(url=told.url, key=read, ca_file=None if told.ca_file is None else Path(told.ca_file))
    if isinstance(told, SyslogSettings):
        parts = urlsplit(told.address)
        if parts.scheme == "unix":
            return Syslog(transport="unix", path=parts.path, max_bytes=told.max_bytes)
        transport = {"udp": "udp", "tcp": "tcp", "tls": "tls"}[parts.scheme]
        return Syslog(
            transport=transport,  # type: ignore[arg-type] # one of the literal's words, by the line above
            host=parts.hostname or "",
            port=parts.port or 0,
            max_bytes=told.max_bytes,
        )
    path = Path(told.path)
    if path.resolve().is_relative_to(home.resolve()):
        # SECURITY: what is erased from the home must be gone from every file of it.
        raise ConfigError(f"sink `{told.name}`: `{path}` lies in the home", way_out="name a file elsewhere")
    return LogFile(path=path, max_bytes=told.max_mb << 20, keep=told.keep)


def _file_key(path: Path) -> bytes:
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ValueError(f"`{path}` can be read by others: chmod 600 it")
    return _checked(path.read_bytes().strip())


def _env_key(name: str) -> bytes:
    return _checked(os.environ.get(name, "").strip().encode())


def _checked(key: bytes) -> bytes:
    if len(key) < MIN_KEY_BYTES:
        raise ValueError(f"it has fewer than {MIN_KEY_BYTES} bytes")
    return key


async def keep_delivering(home: Path) -> None:
    """Keep a process that delivers alive until cancelled."""
    wait_s, longest_s = _RESTART_S
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        # SECURITY: `-P`, for a folder that the gateway was started in is no place to take code from.
        command = (sys.executable, "-P", "-m", "gateway.app.sinks", str(home))
        process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE)
        try:
            status = await process.wait()
        except asyncio.CancelledError:
            await _end(process)
            raise
        wait_s = _RESTART_S[0] if loop.time() - began > _STEADY_S else min(wait_s * 2, longest_s)
        _log.error("the process that delivers to the sinks ended with %s: it is started again", status)
        await asyncio.sleep(wait_s)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), _END_S)
    except TimeoutError:
        process.kill()
        await process.wait()


async def end_delivering(keeping: "asyncio.Task[None]") -> None:
    """Have the process that delivers end."""
    keeping.cancel()
    with suppress(asyncio.CancelledError):
        await keeping


def deliver(home: Path) -> None:
    """Deliver to the sinks of a home until standard input is closed."""
    os.nice(_NICE)
    stop = threading.Event()

    def until_closed() -> None:
        while sys.stdin.buffer.read(1):
            pass
        stop.set()

    threading.Thread(target=until_closed, daemon=True).start()
    run_sinks(home / "data", sinks_of(read_settings(home), home), now, stop)


if __name__ == "__main__":
    import signal

    # WHY: an interrupt at a terminal reaches this process too; the gateway says when to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        deliver(Path(sys.argv[1]))
    except HearthgateError as error:
        sys.exit(f"hearthgate: {error}")
