"""What a program of the host is made of: itself, its linker and the libraries that the linker maps for it."""

import os
import re
import struct
import subprocess
from collections.abc import Sequence

from sandbox import libraries
from sandbox.errors import SandboxError
from sandbox.spec import Program, SpecError, is_reserved

_MAGIC, _SIXTY_FOUR_BITS, _INTERPRETER = b"\x7fELF", 2, 3
_HEADER, _SEGMENT = struct.Struct("<32xQ14xHH4x"), struct.Struct("<I4xQ16xQ")
_MAX_SEGMENTS, _MAX_PATH = 128, 4096
_MAPPED = re.compile(r"^\s*(?:\S+ => )?(/\S.*?) \(0x[0-9a-f]+\)$", re.MULTILINE)
_LINKER_S = 10.0
_BARRIER = "program"
_ELSEWHERE = "/program"


def find_program(path: str, arguments: Sequence[str] = (), *, modules: str | None = None) -> Program:
    """Give the program at a path of the host, whoever trusts it names it, with all that it is linked against.

    `modules`: a folder of extension modules of Python, where it is an interpreter that loads them while it runs.

    Raises:
        SandboxError: there is none, or it is not one that this host's linker starts.
    """
    real = os.path.realpath(path)
    try:
        linker = _linker(real)
    except (OSError, ValueError, struct.error) as error:
        told = getattr(error, "strerror", None) or str(error)
        fix = "name a program that is there, and no script: its interpreter is the program"
        raise SandboxError(_BARRIER, f"`{path}`: {told}", fix=fix) from None
    # WHY: at its own place, for programs look beside themselves for what is theirs; but not where a cell has its own.
    place = f"{_ELSEWHERE}/{os.path.basename(real)}" if is_reserved(real) else real
    files = {place: real}
    if linker is not None:
        files |= {each: os.path.realpath(each) for each in (linker, *_mapped(linker, real, modules))}
    executables = (place,) if linker is None else (place, linker)
    try:
        return Program(argv=(place, *arguments), executables=executables, files=tuple(files.items()))
    except SpecError as error:
        raise SandboxError(_BARRIER, f"`{path}`: {error}", fix="install it, with its libraries, elsewhere") from None


def _linker(path: str) -> str | None:
    """Read which linker an ELF file names; None where it is linked already."""
    with open(path, "rb") as file:
        head = file.read(64)
        if not os.access(path, os.X_OK) or head[:4] != _MAGIC or head[4] != _SIXTY_FOUR_BITS:
            raise ValueError("is no program of this machine")
        at, size, count = _HEADER.unpack_from(head)
        for number in range(min(count, _MAX_SEGMENTS)):
            file.seek(at + number * size)
            kind, begin, length = _SEGMENT.unpack(file.read(_SEGMENT.size))
            if kind == _INTERPRETER:
                file.seek(begin)
                return os.fsdecode(file.read(min(length, _MAX_PATH)).rstrip(b"\0"))
    return None


def _mapped(linker: str, path: str, modules: str | None) -> list[str]:
    listed = _listed(linker, path)
    if listed.returncode != 0 or "not found" in listed.stdout:
        missing = "; ".join(line.strip() for line in listed.stdout.splitlines() if "not found" in line)
        raise SandboxError(_BARRIER, f"`{path}` cannot be started: {missing or listed.stderr.strip()[:300]}")
    found = _MAPPED.findall(listed.stdout)
    if modules is not None:
        # WHY: by names alone, for the linker takes a blank in a path for its end. What is missing it passes over: then
        # the module that needs it says so itself, by name.
        names = (f"./{each}" for each in libraries.modules_in(modules))
        later = " ".join((*names, *libraries.FOR_THREADS, *libraries.FOR_PACKAGES))
        found += _MAPPED.findall(_listed(linker, path, "--preload", later, within=modules).stdout)
    return [place for place in dict.fromkeys(found) if os.path.exists(place)]


def _listed(linker: str, path: str, *options: str, within: str = "/") -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(  # noqa: S603  # the host's own linker, and a program that the operator named
            [linker, *options, "--list", path], env={}, cwd=within, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=_LINKER_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SandboxError(_BARRIER, f"`{path}`: its linker `{linker}` does not say what it needs: {error}") from None
