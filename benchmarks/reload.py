"""How long a reload of a small plugin takes, alone and while it is called; every record durable, every trial real."""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from gateway.app import init_home, open_house
from gateway.domain.caller import Caller
from gateway.domain.names import UserId
from gateway.domain.request import Json
from gateway.flows.approval import approve
from gateway.flows.call import Call
from gateway.flows.execute import execute
from gateway.flows.parts import Parts
from gateway.flows.registration import register
from gateway.flows.reload_plugin import ReloadOutcome, reload_plugin

CODE = "def execute(ctx, payload):\n    return {word}\n\n\ndef proves(ctx):\n    assert execute(ctx, {{}}) == {word}\n"
PLUGIN = "small"


def write(folder: Path, word: int, *, self_test: bool) -> None:
    """Write the plugin's folder; each word is other code."""
    manifest: dict[str, Json] = {"plugin_id": PLUGIN, "name": "Small", "version": "1.0.0"}
    if self_test:
        manifest["self_test"] = "proves"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "main.py").write_text(CODE.format(word=word))


async def measure(parts: Parts, owner: Caller, rounds: int, *, self_test: bool) -> tuple[list[float], float]:
    """Reload so often; gives the seconds of each by the clock, and the seconds of processor time of one."""
    took = []
    spent = time.process_time()
    for word in range(rounds):
        write(parts.home / "plugins" / PLUGIN, word + 1_000_000 * self_test, self_test=self_test)
        began = time.perf_counter()
        done = await reload_plugin(parts, owner, PLUGIN, "bench")
        took.append(time.perf_counter() - began)
        assert done.outcome is ReloadOutcome.RELOADED, done  # noqa: S101 (a benchmark of what did not happen says nothing)
    return took, (time.process_time() - spent) / rounds


async def call_on(parts: Parts, owner: Caller, stopped: asyncio.Event) -> int:
    """Call the plugin until it is enough; gives how often."""
    calls = 0
    while not stopped.is_set():
        ended = await execute(parts, owner, Call(plugin_id=PLUGIN, payload={}, user=owner.user_id))
        assert ended.result.success, ended  # noqa: S101 (same)
        calls += 1
        await asyncio.sleep(0.02)
    return calls


def told(name: str, took: Sequence[float], cpu_s: float) -> None:
    """Print a line of the table."""
    ordered = sorted(took)
    p50, p99 = ordered[len(ordered) // 2], ordered[max(0, -(-99 * len(ordered) // 100) - 1)]
    print(f"{name:44} p50 {p50 * 1e3:6.1f} ms   p99 {p99 * 1e3:6.1f} ms   processor {cpu_s * 1e3:5.1f} ms")


async def main(rounds: int) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder, "home")
        init_home(home)
        place = home / "plugins" / PLUGIN
        place.mkdir(mode=0o755)
        write(place, -1, self_test=False)
        async with open_house(home) as house:
            parts = house.parts
            owner = Caller(user_id=UserId(parts.owner), owner=True)
            await register(parts, owner, {"folder": PLUGIN})
            await approve(parts, owner, PLUGIN, "bench")
            await measure(parts, owner, 5, self_test=False)
            told("its code loaded", *await measure(parts, owner, rounds, self_test=False))
            told("its code loaded, and a self test", *await measure(parts, owner, rounds, self_test=True))
            stopped = asyncio.Event()
            callers = [asyncio.create_task(call_on(parts, owner, stopped)) for _ in range(2)]
            found = await measure(parts, owner, rounds, self_test=False)
            stopped.set()
            calls = sum(await asyncio.gather(*callers))
            told(f"its code loaded, between {calls} calls", *found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    asyncio.run(main(parser.parse_args().rounds))
