"""The one translation of a manifest's limits into what the sandbox enforces: the least of all wins."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import certifi

from gateway.domain.manifest import Manifest, Runtime
from gateway.errors import HostCannotKeepError
from sandbox.spec import Limits, Mount, Program, Spec, SpecError

_FIRST_UID = 0x6000_0000  # far above every person's and every container range in common use
_UIDS = 0x0FFF_FFFF
_MB = 1 << 20
_DEFAULT_TIMEOUT_S = 30.0
_DEFAULT_MEMORY_MB = 256
_DEFAULT_SCRATCH_MB = 32
SERVERS_OPEN_FILES = 1024
_WAY_OUT = "name other folders in the manifest's `file_access`"
_NO_CODE = "main.py"  # of a server nothing of this name is read


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """What the operator lets any plugin use at most."""

    timeout_s: float
    memory_mb: int
    scratch_mb: int
    processes: int
    output_bytes: int
    connections: int = 16  # through a relay, at once
    egress_bytes: int = 256 << 20  # through a relay, both ways together


@dataclass(frozen=True, slots=True, kw_only=True)
class Showing:
    """A file or folder of the host that a call may see, as it was judged: this very one, or none."""

    source: str  # without symbolic links
    target: str
    identity: tuple[int, int]
    writable: bool


def confine(
    manifest: Manifest,
    snapshot: Path,
    caps: Caps,
    *,
    showings: Sequence[Showing] = (),
    relay: bool = False,
    program: Program | None = None,
) -> Spec:
    """Say how a plugin's calls are confined; with `relay` there is a way out, with `program` that answers them.

    Raises:
        HostCannotKeepError: what it is shown leaves no room for what a cell has of its own.
    """
    try:
        return _spec(manifest, snapshot, caps, showings, relay=relay, program=program)
    except SpecError as error:
        raise HostCannotKeepError(
            f"no cell can be made for `{manifest.plugin_id}`: {error}", way_out=_WAY_OUT
        ) from None


def _spec(
    manifest: Manifest,
    snapshot: Path,
    caps: Caps,
    showings: Sequence[Showing],
    *,
    relay: bool,
    program: Program | None,
) -> Spec:
    asked = manifest.limits
    return Spec(
        plugin_id=manifest.plugin_id,
        code=str(snapshot),
        entry_point=manifest.entry_point if manifest.runtime is Runtime.PYTHON else _NO_CODE,
        program=program,
        # SECURITY: of a manifest's wishes nothing is mounted here but what was judged.
        mounts=tuple(
            Mount(source=each.source, target=each.target, identity=each.identity, writable=each.writable)
            for each in showings
        ),
        relay=relay,
        # WHY: whom the gateway's own requests trust, for a cell sees nothing of the host's certificates.
        certificates=os.path.realpath(certifi.where()) if relay else None,
        uid=host_uid(manifest.plugin_id),
        limits=Limits(
            timeout_s=min(asked.timeout_s or _DEFAULT_TIMEOUT_S, caps.timeout_s),
            memory_bytes=min(asked.memory_mb or _DEFAULT_MEMORY_MB, caps.memory_mb) * _MB,
            scratch_bytes=min(asked.disk_mb or _DEFAULT_SCRATCH_MB, caps.scratch_mb) * _MB,
            processes=caps.processes,
            # WHY: runtimes like Node open all modules of a program at once.
            open_files=64 if manifest.runtime is Runtime.PYTHON else SERVERS_OPEN_FILES,
            output_bytes=caps.output_bytes,
            cpu_percent=asked.cpu_percent,
        ),
    )


def host_uid(plugin_id: str) -> int:
    """Give the host uid of a plugin's cells where the gateway runs as root: the same for every run, its own."""
    return _FIRST_UID + int.from_bytes(hashlib.sha256(plugin_id.encode()).digest()[:4]) % _UIDS
