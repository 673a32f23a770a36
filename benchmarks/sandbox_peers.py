"""Other sandboxes around an interpreter that does nothing: `python -I -S -c pass`, by the same interpreter."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

Once = Callable[[], float]
_PYTHON = os.path.realpath(sys.executable)
_NOTHING = (_PYTHON, "-I", "-S", "-c", "pass")
_BWRAP = (
    "bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv",
    "--ro-bind", sys.base_prefix, sys.base_prefix, "--ro-bind", "/usr/lib", "/usr/lib",
    "--ro-bind", "/lib", "/lib", "--ro-bind-try", "/lib64", "/lib64",
    "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp",  # noqa: S108 (the sandbox's own)
)  # fmt: skip
_FIREJAIL = ("firejail", "--quiet", "--noprofile", "--net=none", "--seccomp")
_RUNSC = ("runsc", "--network=none", "--ignore-cgroups", "do")
_SRT = ("srt", "--")
_COMMANDS: Mapping[str, tuple[str, ...]] = {
    "python -I -S -c pass, no sandbox": (),
    "bwrap, python -I -S -c pass": _BWRAP,
    "firejail, python -I -S -c pass": _FIREJAIL,
    "runsc do, python -I -S -c pass": _RUNSC,
    "srt, python -I -S -c pass": _SRT,
}
BARE, BWRAP = tuple(_COMMANDS)[:2]


def peers() -> tuple[dict[str, Once], list[str]]:
    """Give what can be timed here, by name, and what cannot, with why."""
    found: dict[str, Once] = {}
    missing: list[str] = []
    for name, command in _COMMANDS.items():
        if command and shutil.which(command[0]) is None:
            missing.append(f"{command[0]}: not installed, so not compared")
            continue
        once = _timer((*command, *_NOTHING))
        try:
            once()
        except subprocess.CalledProcessError as error:
            said = error.stderr.decode(errors="replace").strip().splitlines()[-1:]
            missing.append(f"{command[0]}: does not run here, so not compared: {' '.join(said)[:160]}")
        else:
            found[name] = once
    return found, missing


def _timer(command: tuple[str, ...]) -> Once:
    def once() -> float:
        begun = time.perf_counter()
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        return time.perf_counter() - begun

    return once
