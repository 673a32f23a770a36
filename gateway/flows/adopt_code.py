"""To adopt code: what lies in a plugin's folder becomes the snapshot that its calls run."""

import asyncio
from dataclasses import dataclass

from gateway.domain.record import Record, Resolution
from gateway.domain.request import Json
from gateway.errors import ConflictError, NoCodeError, NotFoundError
from gateway.flows.parts import Parts
from gateway.registry.folder import PluginFolder, read_plugin_folder, store_snapshot
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
        store_snapshot(folder, parts.snapshots)
        return Code(manifest=folder.manifest, digest=folder.digest)

    return await asyncio.to_thread(work)


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
            way_out="uninstall the plugin and register the folder",
        )
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
    if there is None or there.generation != plugin.generation:
        raise ConflictError(f"`{plugin.id}` was registered anew meanwhile", way_out="try again")
    if there.digest is not None:
        return there
    return parts.registry.plugins.adopt_code(plugin.id, code.digest, at=parts.now())


def _has_code(folder: PluginFolder, entry_point: str | None) -> bool:
    named = folder.manifest.get("entry_point") if isinstance(folder.manifest, dict) else None
    wanted = entry_point or (named if isinstance(named, str) else _DEFAULT_ENTRY_POINT)
    return any(path == wanted for path, _, _ in folder.files)
