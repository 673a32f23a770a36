"""Runs cells on behalf of a test, as whatever user this process is: one JSON order a line in, one answer a line out."""
# ruff: noqa: T201  # it speaks by lines, and leaves a descriptor open on purpose

import json
import os
import socket
import sys
import threading
import time

sys.path.insert(0, sys.argv[1])

from sandbox import frames
from sandbox import launcher as launcher_module
from sandbox.errors import SandboxError
from sandbox.launcher import Launcher
from sandbox.probe import probe
from sandbox.spec import Spec

FOLDER = os.path.dirname(os.path.abspath(__file__))
KEPT_BYTES = 64 << 10


def drain(output: socket.socket, kept: bytearray) -> None:
    while data := output.recv(1 << 16):
        kept.extend(data[: KEPT_BYTES - len(kept)])


def call(launcher: Launcher, order: dict) -> dict:
    kept = bytearray()
    try:
        cell = launcher.spawn(Spec.from_json(json.dumps(order["spec"])))
    except SandboxError as error:
        return {"refused": error.as_json()}
    with cell:
        reader = threading.Thread(target=drain, args=(cell.output, kept))
        reader.start()
        started = time.monotonic()
        frames.write_frame(
            cell.channel,
            {
                "t": "call",
                "function": order["function"],
                "kwargs": order["kwargs"],
                "user_id": "alice",
                "session_id": None,
                "deadline_s": 20,
            },
        )
        cell.channel.settimeout(order["patience_s"])
        try:
            told = frames.read_said(cell.channel)
        except TimeoutError:
            told = ({"t": "silence"}, b"")
        except (frames.ProtocolError, ConnectionError) as error:
            told = ({"t": "broken", "message": str(error)}, b"")
        cell.kill() if told and told[0]["t"] in ("silence", "broken") else None
        ending = cell.wait(20)
        reader.join(20)
        return {
            "frame": told and told[0],
            "ending": {name: getattr(ending, name) for name in ending.__slots__},
            "output": kept.decode("utf-8", "replace"),
            "wall_s": time.monotonic() - started,
        }


def call_without(layer: str, order: dict) -> dict:
    """Call in a cell of a zygote that has one barrier less."""
    whole, launcher_module._ZYGOTE = launcher_module._ZYGOTE, f"{FOLDER}/{layer.replace(' ', '_')}.py"
    try:
        with Launcher() as launcher:
            return call(launcher, order)
    except SandboxError as error:
        return {"refused": error.as_json()}
    finally:
        launcher_module._ZYGOTE = whole


def main() -> None:
    secret = os.open(sys.argv[2], os.O_RDONLY)
    os.set_inheritable(secret, True)
    held = os.pread(secret, 100, 0)
    with Launcher() as launcher:
        started = {
            "held": len(held),
            "pid": os.getpid(),
            "zygote": launcher.zygote_pid,
            "uid": os.getuid(),
            "asks": launcher.asks,
        }
        print(json.dumps({**started, "asks": launcher.asks, "controllers": sorted(launcher.controllers)}), flush=True)
        for line in sys.stdin:
            order = json.loads(line)
            if without := order.get("without"):
                answer = call_without(without, order)
            elif order.get("probe"):
                answer = [{name: getattr(each, name) for name in each.__slots__} for each in probe(launcher)]
            else:
                answer = call(launcher, order)
            print(json.dumps(answer), flush=True)


main()
