"""To serve a home: listen, tell where, and end in order."""

import asyncio
import logging
import sys
from contextlib import AsyncExitStack, suppress
from importlib.metadata import version
from pathlib import Path

import uvloop

from gateway.app.house import House, lifecycle_record, open_house
from gateway.config import parse_listen
from gateway.domain.request import Json
from gateway.errors import ConfigError, LogUnavailableError
from gateway.http.server import Listeners, until_signalled

SOCKET = Path("run", "hearthgate.sock")
_log = logging.getLogger("hearthgate")


def serve(home: Path, listen: str | None = None) -> None:
    """Serve a home until SIGTERM or SIGINT; prints where it listens.

    Raises:
        NoHomeError: the folder is no home.
        HomeInUseError: another process has it open.
        ConfigError: its settings are wrong, or an address is taken.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(home, listen))


async def _serve(home: Path, listen: str | None) -> None:
    ended = until_signalled(asyncio.get_running_loop())
    async with open_house(home) as house, AsyncExitStack() as stack:
        logging.basicConfig(
            level=house.settings.log.level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
        )
        # WHY: it tells of its start and end, which the lines below and the decision log tell better.
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        listeners = Listeners(house.asgi)
        host, port = _address(listen or house.settings.http.listen)
        host, port = listeners.listen_tcp(host, port)
        house.ports.add(port)
        path = house.parts.home / SOCKET
        if house.settings.http.socket != "off":
            listeners.listen_unix(path)
            stack.callback(path.unlink, missing_ok=True)
        await _told(house, "started", {"listen": f"{host}:{port}", "version": version("hearthgate")})
        await listeners.start()
        proving = asyncio.create_task(asyncio.to_thread(house.parts.host.prove))
        proving.add_done_callback(_tell_missing)
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        print(f"hearthgate serves {house.parts.home}", f"  {url}", f"  unix:{path}", sep="\n", flush=True)  # noqa: T201
        try:
            await ended.wait()
        finally:
            await listeners.stop()
            await asyncio.gather(proving, return_exceptions=True)
            with suppress(LogUnavailableError):
                await _told(house, "stopped", {})


def _address(listen: str) -> tuple[str, int]:
    try:
        return parse_listen(listen)
    except ValueError as error:
        raise ConfigError(str(error)) from None


async def _told(house: House, event_type: str, details: dict[str, Json]) -> None:
    await house.parts.log.append(lifecycle_record(house.parts, event_type, details))


def _tell_missing(proving: "asyncio.Task[object]") -> None:
    if not proving.cancelled() and proving.exception() is not None:
        print(f"hearthgate: the sandbox could not be proven: {proving.exception()}", file=sys.stderr)  # noqa: T201
