"""The programs of the host that plugins may be servers in: what the operator names, and the gateway's own Python."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from gateway.domain.manifest import OWN_PROGRAM
from gateway.errors import HostCannotKeepError
from sandbox.errors import SandboxError
from sandbox.libraries import module_folders
from sandbox.linked import find_program
from sandbox.spec import Program

_Found = tuple[tuple[int, int, int, int], Program]


class Programs:
    """Finds what a command starts; what a program is made of is looked up again when its files change."""

    def __init__(self, named: Mapping[str, str]) -> None:
        self._named = {**named, OWN_PROGRAM: os.path.realpath(sys.executable)}
        self._found: dict[tuple[str, ...], _Found] = {}

    def find(self, command: Sequence[str]) -> Program:
        """Give the program that a manifest's command names, with its arguments.

        Raises:
            HostCannotKeepError: the operator named none so, or it cannot be started on this host.
        """
        path = self._named.get(command[0])
        if path is None:
            raise HostCannotKeepError(
                f"no program is named `{command[0]}` here",
                way_out=f'the operator writes `{command[0]} = "/path/of/it"` below `[sandbox.programs]`',
            )
        try:
            there = Path(path).stat()
            version = (there.st_dev, there.st_ino, there.st_size, there.st_mtime_ns)
            known = self._found.get(tuple(command))
            if known is None or known[0] != version or not all(Path(file).exists() for _, file in known[1].files):
                modules = next(iter(module_folders()), None) if command[0] == OWN_PROGRAM else None
                known = (version, find_program(path, command[1:], modules=modules))
                self._found[tuple(command)] = known
        except SandboxError as error:
            raise HostCannotKeepError(error.detail, way_out=error.fix or None) from None
        except OSError as error:
            raise HostCannotKeepError(f"`{path}`: {error.strerror}", way_out="see `[sandbox.programs]`") from None
        return known[1]
