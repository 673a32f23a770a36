"""Proves what this host can promise by doing: a cell tries deeds, and a plain process does the same as control."""

import contextlib
import glob
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sandbox.backends.proof import prove_backend
from sandbox.errors import SandboxError
from sandbox.launcher import Launcher
from sandbox.spec import Limits
from sandbox.trial import DEEDS, MEMORY_BYTES, PATIENCE_S, PROBE_UID, TOO_MUCH_BYTES, Guarantee, Trial

__all__ = ["Guarantee", "probe"]

_PREFIX = "hearthgate-probe-"
_OLD_S = 3600.0  # far longer than a probe takes
_PROCESSES = 8
_CPU_PERCENT = 20
_CPU_SHARE_AT_MOST = 0.4
_SPIN_S = 0.6
_FILTERS = 2  # the list of what is allowed and the one of what never is; one more asks, where the kernel can
_NO_BACKENDS: Mapping[str, bool] = {}
_NO_CAPABILITY = "0000000000000000"
_INSTEAD = {
    "memory": "a cell is one process, bounded by its own limit",
    "pids": "a cell is one process",
    "cpu": "a plugin that names a cpu limit is refused",
}
_DELEGATE = "run the gateway as root, as a systemd unit with `Delegate=yes`, or in a login of systemd's"


def probe(launcher: Launcher | None = None, backends: Mapping[str, bool] = _NO_BACKENDS) -> tuple[Guarantee, ...]:
    """Try every barrier on this host; takes about two seconds.

    `backends`: the ones to be tried besides, and whether no cell is made at all without them.
    """
    with contextlib.ExitStack() as stack:
        try:
            running = launcher or stack.enter_context(Launcher())
            running.start()
            code = stack.enter_context(_probe_code())
            found = list(_proven(Trial(running, code)))
            for name, mandatory in backends.items():
                found += prove_backend(Trial(running, code, name), mandatory=mandatory)
            return tuple(found)
        except (SandboxError, TimeoutError) as error:
            fix = error.fix if isinstance(error, SandboxError) else "try again when the machine is less busy"
            return (Guarantee(name="cell", held=False, mandatory=True, detail=str(error), fix=fix),)


def _proven(probe: Trial) -> Iterator[Guarantee]:
    with socket.create_server(("127.0.0.1", 0)) as server, tempfile.NamedTemporaryFile() as secret:
        os.fchmod(secret.fileno(), 0o644)
        target = {"port": server.getsockname()[1], "secret": secret.name}
        told, _ending = probe.inside("look", **target)
        control = probe.outside("look", **target)
    if told is None or told.get("t") != "result" or control is None:
        why = "the cell answered nothing" if told is None else str(told.get("message", "the control did not run"))
        yield Guarantee(name="cell", held=False, mandatory=True, detail=why)
        return
    yield Guarantee(name="cell", held=True, mandatory=True, detail="a plugin's function runs and answers")
    yield from _judge_look(told["value"], control, probe.launcher)
    yield _told_calls(probe)
    yield _resisting_tree(probe)
    yield _relay(probe)
    yield from _limits(probe)


def _judge_look(inside: Mapping[str, Any], outside: Mapping[str, Any], launcher: Launcher) -> Iterator[Guarantee]:
    for name, place in inside["namespaces"].items():
        held = place != outside["namespaces"][name]
        yield _mandatory(f"ns_{name}", held, f"its own {name} namespace" if held else f"the host's {name} namespace")
    for name, deed in DEEDS:
        yield _deed(name, inside[deed], outside[deed])
    yield _mandatory("no_interfaces", inside["interfaces"] is not None, inside["interfaces"] or "more than a loopback")
    yield _mandatory(
        "no_environment",
        inside["environment"] == 0 and outside["environment"] > 0,
        f"{inside['environment']} bytes and names inside, {outside['environment']} in the control",
    )
    status = inside["status"]
    sets = [status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")]
    yield _mandatory("no_capabilities", all(each == _NO_CAPABILITY for each in sets), " ".join(sets))
    yield _mandatory("no_new_privs", status["NoNewPrivs"] == "1", f"NoNewPrivs {status['NoNewPrivs']}")
    yield _filters(status, outside["status"])
    yield _landlock(inside, launcher)
    own_uid = os.getuid()
    yield Guarantee(
        name="uid_per_plugin",
        held=inside["uid"] == PROBE_UID,
        mandatory=False,
        detail=f"uid {inside['uid']} inside, {own_uid} outside",
        fix="" if own_uid == 0 else "run the gateway as root; an ordinary user has no other to give",
    )


def _filters(inside: Mapping[str, str], outside: Mapping[str, str]) -> Guarantee:
    """Count the filters; a kernel before 5.9 does not, and there the deed that both refuse is all that is known."""
    counts = [int(each["Seccomp_filters"] or 0) for each in (inside, outside)]
    held = counts[0] - counts[1] in {_FILTERS, _FILTERS + 1} or not inside["Seccomp_filters"]
    return _mandatory("seccomp_filters", held, f"{counts[0]} filters inside, {counts[1]} in the control")


def _landlock(inside: Mapping[str, Any], launcher: Launcher) -> Guarantee:
    """Only Landlock refuses to list the cell's own root folder."""
    return Guarantee(
        name="landlock",
        held=launcher.landlock_abi > 0 and inside["root_listed"] is not None,
        mandatory=False,
        detail=f"ABI {launcher.landlock_abi}; {inside['root_listed'] or 'the root folder can be listed'}",
        fix="" if launcher.landlock_abi else "a kernel with Landlock (5.13 or newer, `lsm=` with `landlock`)",
    )


def _told_calls(probe: Trial) -> Guarantee:
    """Tell whether a try that is refused is told by the kernel, and not by the plugin's own process alone."""
    path = "/nowhere/told"
    held = probe.launcher.asks and path in probe.told_of("read", path=path)
    detail = (
        "a refused raw call is told" if held else "refused raw calls are told by nobody; they are refused all the same"
    )
    return Guarantee(
        name="told_calls",
        held=held,
        mandatory=False,
        detail=detail,
        fix="" if held else "a kernel with seccomp user notification (5.5 or newer)",
    )


def _resisting_tree(probe: Trial) -> Guarantee:
    held = probe.is_gone_after_kill()
    return _mandatory("kill_whole_tree", held, "a cell that ignores signals and left a daemon is gone after a kill")


def _relay(probe: Trial) -> Guarantee:
    """Tell whether a cell has its one way out, without which no plugin that asks for network runs."""
    try:
        held, detail = probe.speaks_through_door(), "a cell speaks through its own door"
    except SandboxError as error:
        held, detail = False, str(error)
    fix = "" if held else "run as root with CAP_NET_ADMIN, or as an ordinary user who may make user namespaces"
    return Guarantee(name="relay", held=held, mandatory=False, detail=detail, fix=fix)


def _limits(probe: Trial) -> Iterator[Guarantee]:
    memory = Limits(timeout_s=PATIENCE_S, memory_bytes=MEMORY_BYTES)
    _told, ending = probe.inside("fill", memory, size=TOO_MUCH_BYTES)
    free = probe.outside("fill", size=TOO_MUCH_BYTES)
    yield _controller(
        probe, "memory", lambda: ending.oom and free == TOO_MUCH_BYTES, f"killed for memory: {ending.oom}"
    )
    told, _ending = probe.inside("multiply", Limits(timeout_s=PATIENCE_S, processes=_PROCESSES))
    free = probe.outside("multiply")
    count = told["value"] if told and told.get("t") == "result" else None
    held = count is not None and count < _PROCESSES <= free
    yield _mandatory("process_count", held, f"{count} children inside, {free} in the control")
    yield _controller(probe, "pids", lambda: held, "counted for the whole tree")
    told, _ending = probe.inside("spin", Limits(timeout_s=PATIENCE_S, cpu_percent=_CPU_PERCENT), seconds=_SPIN_S)
    share = told["value"] if told and told.get("t") == "result" else 1.0
    yield _controller(
        probe, "cpu", lambda: share < _CPU_SHARE_AT_MOST, f"{share:.0%} of a core where {_CPU_PERCENT}% is allowed"
    )


def _controller(probe: Trial, name: str, judge: Callable[[], bool], detail: str) -> Guarantee:
    offered = name in probe.launcher.controllers
    return Guarantee(
        name=f"cg_{name}",
        held=offered and judge(),
        mandatory=False,
        detail=detail if offered else f"the host offers no writable controller: {_INSTEAD[name]}",
        fix="" if offered else _DELEGATE,
    )


def _deed(name: str, inside: str | None, outside: str | None) -> Guarantee:
    if outside is not None:
        detail = f"the control could not do it either, so nothing is proven: {outside}"
        return Guarantee(name=name, held=False, mandatory=True, detail=detail)
    return _mandatory(name, inside is not None, inside or "it was done inside")


def _mandatory(name: str, held: object, detail: str) -> Guarantee:
    return Guarantee(name=name, held=bool(held), mandatory=True, detail=detail)


@contextlib.contextmanager
def _probe_code() -> Iterator[str]:
    _remove_old()
    folder = tempfile.mkdtemp(prefix=_PREFIX)
    try:
        os.chmod(folder, 0o755)  # noqa: S103  # read by the probe cell's user
        path = shutil.copyfile(os.path.join(os.path.dirname(__file__), "probed.py"), os.path.join(folder, "main.py"))
        os.chmod(path, 0o644)
        yield folder
    finally:
        shutil.rmtree(folder)


def _remove_old() -> None:
    """Remove what probes left that were killed."""
    for path in glob.glob(os.path.join(tempfile.gettempdir(), f"{_PREFIX}*")):
        with contextlib.suppress(OSError):
            there = os.lstat(path)
            if there.st_uid == os.getuid() and time.time() - there.st_mtime > _OLD_S:
                shutil.rmtree(path)
