"""To read what may become a plugin's next generation: its folder, as one snapshot, with its packages."""

import asyncio
from dataclasses import dataclass
from typing import cast

from gateway.domain.manifest import Manifest
from gateway.domain.reloading import reload_wish
from gateway.domain.request import Json
from gateway.errors import MalformedError, NoCodeError, NotFoundError, Place, Problem
from gateway.flows.adopt_code import keep_code, read_lock
from gateway.flows.gates import check_sandbox_wish
from gateway.flows.parts import Parts
from gateway.registry.folder import PluginFolder, read_plugin_folder
from gateway.registry.manifest import MANIFEST_FILE, parse_manifest
from gateway.registry.packages import check_lock
from gateway.registry.plugins import Plugin
from gateway.registry.watched import check_watch_paths


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What lies in a plugin's folder now; nothing of it is kept yet."""

    manifest: Manifest
    folder: PluginFolder

    @property
    def digest(self) -> str:
        """What names its content."""
        return self.folder.digest

    def content(self, path: str) -> bytes | None:
        """Give what is in one of its files, None if there is none of that name."""
        return next((content for name, _, content in self.folder.files if name == path), None)


async def read_generation(parts: Parts, plugin: Plugin) -> Read:
    """Read a plugin's folder once, with every check of a registration.

    Raises:
        MalformedError: with every problem of the manifest, or why the folder cannot be believed.
        NoCodeError: there is no folder, or no code in it.
    """
    return await asyncio.to_thread(_read, parts, plugin)


async def keep_generation(parts: Parts, read: Read) -> None:
    """Keep a read-only copy of what was read, and the packages that it names.

    Raises:
        MalformedError: the packages cannot be had.
    """
    await asyncio.to_thread(keep_code, parts, read.folder)


def _read(parts: Parts, plugin: Plugin) -> Read:
    place = parts.home / "plugins" / plugin.id
    try:
        folder = read_plugin_folder(place)
    except NotFoundError:
        raise NoCodeError(f"there is no folder plugins/{plugin.id}/", way_out="put the code there") from None
    # WHY: a plugin that was registered by its manifest alone may have code and no file of its manifest.
    manifest = parse_manifest(cast("Json", plugin.manifest.raw) if folder.manifest is None else folder.manifest)
    if manifest.plugin_id != plugin.id:
        raise _wrong(f"plugin_id: `{manifest.plugin_id}` is another plugin: `{plugin.id}` is reloaded")
    check_sandbox_wish(parts, manifest)
    if not any(path == manifest.entry_point for path, _, _ in folder.files):
        raise NoCodeError(f"plugins/{plugin.id}/ has no `{manifest.entry_point}`", way_out="put the code there")
    if manifest.requirements is not None:
        lock = read_lock(manifest.requirements, folder)
        check_lock(manifest.requirements, lock)
    check_watch_paths(place, reload_wish(manifest).watch_paths)
    return Read(manifest=manifest, folder=folder)


def _wrong(message: str) -> MalformedError:
    return MalformedError(
        "the manifest is not valid", problems=[Problem(place=Place(file=MANIFEST_FILE), message=message)]
    )
