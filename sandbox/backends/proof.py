"""Proves what another maker of cells promises, by doing."""

import os
import socket
import tempfile
from collections.abc import Iterator

from sandbox.errors import SandboxError
from sandbox.spec import RUNSC, Limits
from sandbox.trial import DEEDS, MEMORY_BYTES, PATIENCE_S, TOO_MUCH_BYTES, Guarantee, Trial

_OTHER_BACKEND = "choose another backend"


def prove_backend(probe: Trial, *, mandatory: bool) -> Iterator[Guarantee]:
    """Try what another maker of cells promises; the first thing that is missing is the last that is told."""
    name = probe.backend

    def told(what: str, held: object, detail: str) -> Guarantee:
        return Guarantee(name=f"{name}_{what}", held=bool(held), mandatory=mandatory, detail=detail)

    with socket.create_server(("127.0.0.1", 0)) as server, tempfile.NamedTemporaryFile() as secret:
        os.fchmod(secret.fileno(), 0o644)
        target = {"port": server.getsockname()[1], "secret": secret.name}
        try:
            look, _ending = probe.inside("look", **target)
        except SandboxError as error:
            yield Guarantee(
                name=name, held=False, mandatory=mandatory, detail=str(error), fix=error.fix or _OTHER_BACKEND
            )
            return
        control = probe.outside("look", **target)
    if look is None or look.get("t") != "result" or control is None:
        detail = "the cell answered nothing"
        yield Guarantee(name=name, held=False, mandatory=mandatory, detail=detail, fix=_OTHER_BACKEND)
        return
    inside = look["value"]
    yield Guarantee(name=name, held=True, mandatory=mandatory, detail="a plugin's function runs there and answers")
    if name == RUNSC:
        yield told("kernel", inside["kernel"] != control["kernel"], f"its kernel is {inside['kernel']}")
    else:
        same = [each for each, place in inside["namespaces"].items() if place in {"", control["namespaces"][each]}]
        yield told("namespaces", not same, f"the host's: {', '.join(same)}" if same else "all are its own")
    for what, deed in DEEDS:
        yield told(what, inside[deed] is not None and control[deed] is None, inside[deed] or "it was done inside")
    yield told("no_environment", inside["environment"] == 0, f"{inside['environment']} bytes and names inside")
    yield told("kill_whole_tree", probe.is_gone_after_kill(), "a cell that ignores signals is gone after a kill")
    bounded = Limits(timeout_s=PATIENCE_S, memory_bytes=MEMORY_BYTES)
    filled, ending = probe.inside("fill", bounded, size=2 * TOO_MUCH_BYTES)
    detail = f"killed for memory: {ending.oom}" if filled is None else str(filled.get("type", "it was given all"))
    yield told("memory", ending.oom or detail == "MemoryError", detail)
