"""To adopt code: what lies in a plugin's folder becomes the snapshot that its calls run."""

import asyncio
import functools
from dataclasses import dataclass
from pathlib import Path

from gateway.domain.manifest import Runtime
from gateway.domain.record import Record, Resolution
from gateway.domain.request import Json
from gateway.errors import ConflictError, HostCannotKeepError, MalformedError, NoCodeError, NotFoundError
from gateway.flows.gates import check_new_code
from gateway.flows.inspection import check_functions
from gateway.flows.parts import Parts
from gateway.registry.folder import PluginFolder, read_plugin_folder, snapshot_path, store_snapshot
from gateway.registry.manifest import MANIFEST_FILE
from gateway.registry.packages import build_packages, packages_path
from gateway.registry.plugins import Plugin

_DEFAULT_ENTRY_POINT = "main.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """What a plugin's folder holds; `digest` is None where there is no code."""

    manifest: Json
    digest: str | None


async def read_code(parts: Parts, plugin_id: str, entry_point: str | None = None) -> Code:
    """Read plugins/<id>/ and keep a read-only copy of it; a missing folder is no code.

    Raises:
        MalformedError: the folder cannot be trusted or read.
    """

    def work() -> Code:
        try:
            folder = read_plugin_folder(parts.home / "plugins" / plugin_id)
        except NotFoundError:
            return Code(manifest=None, digest=None)
        if not _has_code(folder, entry_point):
            return Code(manifest=folder.manifest, digest=None)
        keep_code(parts, folder)
        return Code(manifest=folder.manifest, digest=folder.digest)

    return await asyncio.to_thread(work)


def keep_code(parts: Parts, folder: PluginFolder) -> None:
    """Keep a read-only copy of a folder that was read, and unpack the packages that it names.

    Raises:
        MalformedError: the packages cannot be had.
    """
    store_snapshot(folder, parts.snapshots)
    _build_packages(parts, folder)


def check_kept(parts: Parts, digest: str | None) -> None:
    """Refuse code whose copy was removed since it was read.

    Raises:
        ConflictError: it was, for a reload of the same content did not take it.
    """
    if digest is not None and not snapshot_path(parts.snapshots, digest).is_dir():
        raise ConflictError("the code was not taken by a reload meanwhile", way_out="try again")


async def adopt_code(parts: Parts, plugin: Plugin) -> Plugin:
    """Take the code of a plugin that was registered without any.

    Raises:
        NoCodeError: there still is none.
        ConflictError: the folder's manifest is another than the registered one.
    """
    code = await read_code(parts, plugin.id, plugin.manifest.entry_point)
    if code.digest is None:
        raise NoCodeError(f"`{plugin.id}` has no code", way_out=f"put it in plugins/{plugin.id}/")
    if code.manifest is not None and code.manifest != plugin.manifest.raw:
        raise ConflictError(
            f"plugins/{plugin.id}/manifest.json is not the manifest that was registered",
            way_out=f"`hearthgate plugin reload {plugin.id}`",
        )
    await check_functions(parts, plugin.manifest, code.digest)
    await check_new_code(parts, plugin, code.digest)
    record = Record(
        event_id=parts.event_id(),
        at=parts.now(),
        event_type="updated",
        resolution=Resolution.COMPLETED,
        plugin_id=plugin.id,
        details={"digest": code.digest, "why": "code was put into the plugin's folder"},
    )
    await parts.log.append(record)
    # INVARIANT: judged by what is there now; while the record was written the plugin may have become another.
    there = parts.registry.plugins.get(plugin.id)
    if there is None or there.registration != plugin.registration:
        raise ConflictError(f"`{plugin.id}` was registered anew meanwhile", way_out="try again")
    check_kept(parts, code.digest)
    if there.digest is not None:
        return there  # WHY: another call, or a reload, was faster
    return parts.registry.plugins.adopt_code(plugin.id, code.digest, at=parts.now())


def packages_of(parts: Parts, plugin: Plugin) -> str | None:
    """Give where the packages of a plugin lie, None if it names none.

    Raises:
        HostCannotKeepError: they are not there for the Python that runs here.
    """
    name = plugin.manifest.requirements
    if name is None or plugin.digest is None:
        return None
    path = _packages_of(snapshot_path(parts.snapshots, plugin.digest) / name, parts.packages)
    if not path.is_dir():
        raise HostCannotKeepError(
            f"the packages of `{name}` are not built for this Python",
            way_out=f"`hearthgate plugin reload {plugin.id}` builds them",
        )
    return str(path)


async def rebuild_packages(parts: Parts, plugin: Plugin) -> None:
    """Unpack the packages of the code in force for the Python that runs here; what is there already stays.

    Raises:
        MalformedError: they cannot be had.
    """
    name = plugin.manifest.requirements
    if name is not None and plugin.digest is not None:
        lock = await asyncio.to_thread((snapshot_path(parts.snapshots, plugin.digest) / name).read_bytes)
        await asyncio.to_thread(build_packages, name, lock, parts.packages)


@functools.lru_cache(maxsize=256)
def _packages_of(lock: Path, store: Path) -> Path:
    # WHY: a snapshot never changes, so its lock is read once.
    return packages_path(store, lock.read_bytes())


def _build_packages(parts: Parts, folder: PluginFolder) -> None:
    name = folder.manifest.get("requirements") if isinstance(folder.manifest, dict) else None
    if name is None:
        return
    build_packages(str(name), read_lock(str(name), folder), parts.packages)


def read_lock(name: str, folder: PluginFolder) -> bytes:
    """Give the locked file of a folder that was read.

    Raises:
        MalformedError: there is none of that name.
    """
    lock = next((content for path, _, content in folder.files if path == name), None)
    if lock is None:
        raise MalformedError(f"requirements: there is no file `{name[:80]}` in the plugin's folder")
    return lock


def _has_code(folder: PluginFolder, entry_point: str | None) -> bool:
    told = folder.manifest if isinstance(folder.manifest, dict) else {}
    named = MANIFEST_FILE if told.get("runtime") == Runtime.MCP_STDIO else told.get("entry_point")
    wanted = entry_point or (named if isinstance(named, str) else _DEFAULT_ENTRY_POINT)
    return any(path == wanted for path, _, _ in folder.files)
