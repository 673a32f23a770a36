"""Asks an MCP server for its tools, in a cell where it sees nothing but its own code and empty folders."""

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gateway.errors import HostCannotKeepError, MalformedError
from gateway.executor.confine import SERVERS_OPEN_FILES, Showing, host_uid
from sandbox import frames
from sandbox.errors import ProtocolError, SandboxError
from sandbox.launcher import Cell, Launcher
from sandbox.spec import MAX_MOUNTS, Limits, Mount, Program, Spec, SpecError
from sandbox.stdio import TOOLS

_ASKING_S = 30.0
_MEMORY_BYTES = 512 << 20
_OUTPUT_BYTES = 4 << 10


def stand_ins(
    nothing: Path, paths: Sequence[str], program: Program, shown: Sequence[Showing] = ()
) -> tuple[Showing, ...]:
    """Show an empty folder wherever a server expects one that it may not see, for most end where one is missing.

    None where it would hide what is `shown` or what the program is made of, and no more than a cell has room for.
    """
    there, source = nothing.stat(), str(nothing.resolve())
    taken = [*program.places, *(each.target for each in shown)]
    found: list[Showing] = []
    for path in sorted(paths):
        if len(shown) + len(found) == MAX_MOUNTS:
            break
        if any(_overlap(path, other) for other in taken):
            continue
        with contextlib.suppress(SpecError):
            Mount(source=source, target=path)
            taken.append(path)
            found.append(Showing(source=source, target=path, identity=(there.st_dev, there.st_ino), writable=False))
    return tuple(found)


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(other.rstrip("/") + "/") or other.startswith(one.rstrip("/") + "/")


def list_tools(
    plugin_id: str, code: Path, program: Program, showings: Sequence[Showing], packages: Path | None = None
) -> list[Mapping[str, Any]]:
    """Give the definitions of a server's tools, as it tells them.

    Raises:
        HostCannotKeepError: no cell can be made here.
        MalformedError: it tells none, and what it printed.
    """
    try:
        spec = Spec(
            plugin_id=plugin_id,
            code=str(code.resolve()),
            uid=host_uid(plugin_id),
            packages=None if packages is None else str(packages.resolve()),
            program=program,
            mounts=tuple(Mount(source=each.source, target=each.target, identity=each.identity) for each in showings),
            limits=Limits(timeout_s=_ASKING_S, memory_bytes=_MEMORY_BYTES, open_files=SERVERS_OPEN_FILES),
            require_cgroup=os.getuid() == 0,
        )
        with Launcher() as launcher, launcher.spawn(spec) as cell:
            answer = _ask(cell)
            printed = _printed(cell)
    except (SandboxError, SpecError) as error:
        raise HostCannotKeepError(f"the server cannot be started: {error}") from None
    tools = answer.get("value", {}).get("tools") if isinstance(answer.get("value"), dict) else None
    if not isinstance(tools, list):
        said = answer.get("message") or "it ended without an answer"
        raise MalformedError(f"the server of `{plugin_id}` tells no tools: {said}", way_out=printed or None)
    return tools


def _ask(cell: Cell) -> Mapping[str, Any]:
    frames.write_frame(cell.channel, {"t": "call", "function": TOOLS, "kwargs": {}})
    deadline = time.monotonic() + _ASKING_S
    try:
        while (left_s := deadline - time.monotonic()) > 0:
            cell.channel.settimeout(left_s)
            frame = frames.read_said(cell.channel)
            if frame is None or frame[0].get("t") in {"result", "error"}:
                return {} if frame is None else frame[0]
    except (OSError, ProtocolError) as error:
        return {"message": str(error)}
    return {"message": f"it did not answer within {_ASKING_S:g} s"}


def _printed(cell: Cell) -> str:
    cell.kill()
    cell.wait(_ASKING_S)
    cell.output.settimeout(0)
    with contextlib.suppress(OSError):
        return cell.output.recv(_OUTPUT_BYTES).decode("utf-8", "replace").strip()
    return ""
