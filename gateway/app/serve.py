"""To serve a home: listen, tell where, and end in order."""

import asyncio
import gc
import logging
from contextlib import AsyncExitStack, suppress
from importlib.metadata import version
from pathlib import Path

import uvloop

from gateway.app.home import check_home
from gateway.app.house import House, lifecycle_record, open_house
from gateway.app.sinks import end_delivering, keep_delivering
from gateway.config import HttpSettings, parse_listen, read_settings
from gateway.descriptors import raise_limit
from gateway.domain.request import Json
from gateway.errors import ConfigError, LogUnavailableError
from gateway.http.server import Listeners, until_signalled
from gateway.http.tls import Certificate
from gateway.own_log import described, set_up_own_log, tell_loop

_YOUNG, _MIDDLE, _OLD = 50_000, 20, 50
SOCKET = Path("run", "hearthgate.sock")
_log = logging.getLogger("hearthgate")


def serve(home: Path, listen: str | None = None, *, debug: bool = False) -> None:
    """Serve a home until SIGTERM or SIGINT; prints where it listens, and tells of itself on stderr.

    Raises:
        NoHomeError: the folder is no home.
        HomeInUseError: another process has it open.
        ConfigError: its settings are wrong, or an address is taken.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(home, listen, debug=debug))


async def _serve(home: Path, listen: str | None, *, debug: bool) -> None:
    loop = asyncio.get_running_loop()
    ended = until_signalled(loop)
    settings = read_settings(check_home(home))
    # INVARIANT: before the home is opened, for what goes wrong there is told too.
    set_up_own_log("debug" if debug else settings.log.level, settings.log.format)
    loop.set_exception_handler(tell_loop)
    raise_limit()
    async with open_house(home) as house, AsyncExitStack() as stack:
        listeners = Listeners(house.asgi)
        http = house.settings.http
        host, port = _address(listen or http.listen, http)
        certificate = _certificate(house.parts.home, http)
        host, port = listeners.listen_tcp(host, port, certificate)
        house.ports.add(port)
        path = house.parts.home / SOCKET
        if http.socket != "off":
            listeners.listen_unix(path)
            stack.callback(path.unlink, missing_ok=True)
        accepted: list[Json] = [*house.settings.sandbox.accept_missing]
        details: dict[str, Json] = {"backend": house.settings.sandbox.backend}
        if accepted:
            details["accept_missing"] = accepted
        await _told(house, "started", {"listen": f"{host}:{port}", "version": version("hearthgate"), **details})
        await listeners.start()
        calm_collector()
        if house.parts.sinks:
            keeping = asyncio.create_task(keep_delivering(house.parts.home))
            stack.push_async_callback(end_delivering, keeping)
        proving = asyncio.create_task(asyncio.to_thread(house.parts.host.prove))
        proving.add_done_callback(lambda done: _tell_missing(house, done))
        scheme = "http" if certificate is None else "https"
        url = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
        _log.info("version %s serves %s at %s and %s", version("hearthgate"), house.parts.home, url, path)
        print(f"hearthgate serves {house.parts.home}", f"  {url}", f"  unix:{path}", sep="\n", flush=True)  # noqa: T201
        try:
            await ended.wait()
        finally:
            _log.info("stopping: calls under way are ended")
            house.parts.ending.set()
            await listeners.stop()
            await asyncio.gather(proving, return_exceptions=True)
            with suppress(LogUnavailableError):
                await _told(house, "stopped", {})
    _log.info("stopped")


def calm_collector() -> None:
    """Have the garbage collector look at what is new, seldom, and never again at what a gateway keeps until it ends.

    WHY: a policy is many objects, and looking through all of them takes as long as hundreds of decisions.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)


def _address(listen: str, http: HttpSettings) -> tuple[str, int]:
    try:
        host, port = parse_listen(listen)
        http.check_reach(host)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return host, port


def _certificate(home: Path, http: HttpSettings) -> Certificate | None:
    if not http.tls_cert:
        return None
    # WHY: as written or beside hearthgate.toml; who may edit that file may name any.
    certificate = Certificate(chain=home / http.tls_cert, key=home / http.tls_key)
    certificate.context()
    return certificate


async def _told(house: House, event_type: str, details: dict[str, Json]) -> None:
    await house.parts.log.append(lifecycle_record(house.parts, event_type, details))


def _tell_missing(house: House, proving: "asyncio.Task[object]") -> None:
    if proving.cancelled():
        return
    if (error := proving.exception()) is not None:
        _log.error("the sandbox could not be proven, so no call will run: %s", described(error))
    for each in house.parts.host.guarantees:
        if not each.held:
            level = logging.ERROR if each.mandatory else logging.WARNING
            _log.log(level, "the host cannot keep `%s`: %s: %s", each.name, each.detail, each.fix)
