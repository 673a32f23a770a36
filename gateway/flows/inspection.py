"""To read a plugin's code without running it: in a cell of its own, for nobody has looked at it yet."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.domain.manifest import Manifest, Runtime
from gateway.domain.request import Json
from gateway.errors import MalformedError, Place, Problem
from gateway.executor.broker import Answer, Job
from gateway.executor.confine import host_uid
from gateway.flows.parts import Parts
from gateway.registry import inspection
from gateway.registry.folder import snapshot_path
from gateway.registry.inspection.source import INSPECTED
from sandbox.spec import Limits, Mount, Spec

_CODE = Path(inspection.__file__).parent
_MB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What reads a snapshot: a function of a file beside `gateway.registry.inspection`, and what it may use up."""

    file: str
    function: str
    packages: str | None = None
    timeout_s: float = 10.0
    memory_mb: int = 256
    processes: int = 4


async def read_snapshot(parts: Parts, plugin_id: str, digest: str, reading: Reading, **given: Json) -> Any:  # noqa: ANN401 (JSON)
    """Give what `reading` makes of a snapshot; it sees that and nothing else, and may ask for nothing.

    Raises:
        MalformedError: the code makes its reader fail, run too long or use too much.
        HostCannotKeepError: no cell can be made here.
    """
    snapshot = snapshot_path(parts.snapshots, digest)
    there = snapshot.stat()
    spec = Spec(
        plugin_id=plugin_id,
        code=str(_CODE),
        entry_point=reading.file,
        # SECURITY: none of the plugin's own cells may reach into what judges it.
        uid=host_uid(f"reading {plugin_id}"),
        packages=reading.packages,
        mounts=(Mount(source=str(snapshot.resolve()), target=INSPECTED, identity=(there.st_dev, there.st_ino)),),
        limits=Limits(
            timeout_s=reading.timeout_s,
            memory_bytes=reading.memory_mb * _MB,
            processes=reading.processes,
            output_bytes=0,
        ),
        backend=parts.backend,
    )
    job = Job(
        execution_id=parts.new_id(),
        plugin_id=plugin_id,
        user_id=parts.owner,
        function=reading.function,
        arguments=given,
        session_id=None,
        timeout_s=reading.timeout_s,
    )
    result = await parts.pool.run(job, spec, _ask_nothing)
    if not result.success:
        first = (result.error or result.outcome.value).splitlines()[0]
        raise MalformedError(f"the code of `{plugin_id}` cannot be read: {first[:300]}")
    return result.output


async def check_functions(parts: Parts, manifest: Manifest, digest: str | None) -> None:
    """Refuse code in which the function of a capability without `async_support` is an `async def`.

    Raises:
        MalformedError: with the place of each.
        HostCannotKeepError: no cell can be made here.
    """
    plain = [each.name for each in manifest.capabilities if not each.asynchronous]
    if digest is None or not plain or manifest.runtime is not Runtime.PYTHON:
        return
    reading = Reading(file="source.py", function="inspect")
    found = await read_snapshot(parts, manifest.plugin_id, digest, reading, entry_point=manifest.entry_point)
    problems = async_mismatches(manifest.entry_point, plain, found["functions"])
    if problems:
        raise MalformedError("the code is not what the manifest says", problems=problems)


def async_mismatches(entry_point: str, plain: list[str], functions: Mapping[str, Any]) -> list[Problem]:
    """Name the functions that are `async def` and may not be."""
    return [
        Problem(
            place=Place(file=entry_point, line=functions[name]["line"]),
            message=f'`{name}` is an `async def`: write `def`, or `"async_support": true` in its capability',
        )
        for name in plain
        if name in functions and functions[name]["async"] is True
    ]


async def _ask_nothing(_op: str, _args: Mapping[str, Json], _blob: bytes) -> Answer:
    return Answer(body={"ok": False, "error": "failed", "message": "nothing can be asked for here"})
