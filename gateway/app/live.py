"""Live reload: plugins whose manifest wishes it are reloaded by themselves when what they want watched changes."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gateway.domain.caller import Caller
from gateway.domain.lifecycle import State
from gateway.domain.names import PluginId, UserId, plugin_subject
from gateway.domain.reloading import Trigger, reload_wish
from gateway.errors import HearthgateError, LogUnavailableError
from gateway.flows.parts import Parts
from gateway.flows.reload_plugin import reload_changed
from gateway.registry.folder import snapshot_path
from gateway.registry.plugins import Plugin
from gateway.registry.watched import content_of, stamps, watched_files, watched_folders
from gateway.watch import FolderWatch

_log = logging.getLogger("hearthgate.plugins")
_LOOK_S = 0.5  # how often it is looked which plugins are to be watched
_AGAIN_S = 1.0
_WHY = "its files changed"


@dataclass(slots=True)
class _Live:
    """A plugin that is watched: the generation in force, and what was seen in its folder last."""

    plugin: Plugin
    seen: tuple[object, ...] = ()
    tried: str = ""  # the content that a reload was tried with


@dataclass(slots=True)
class LiveReload:
    """Watches the folders of all plugins that want it, and reloads what changed, each plugin for itself."""

    parts: Parts
    _live: dict[PluginId, _Live] = field(default_factory=dict)
    _tasks: dict[PluginId, asyncio.Task[None]] = field(default_factory=dict)
    _again: set[PluginId] = field(default_factory=set)

    async def run(self) -> None:
        """Watch until it is cancelled."""
        loop = asyncio.get_running_loop()
        watch = FolderWatch(self._folders, lambda: _soon(loop, self._look_at_all))
        watch.start()
        try:
            while True:
                self._follow()
                await asyncio.sleep(_LOOK_S)
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
            await asyncio.to_thread(watch.stop)

    def _follow(self) -> None:
        """Bring what is watched up to what the registry says; what begins to be watched is looked at at once."""
        wanted = _wanted(self.parts)
        for plugin_id in [each for each in self._live if each not in wanted]:
            del self._live[plugin_id]
        for plugin_id, plugin in wanted.items():
            known = self._live.get(plugin_id)
            if known is None:
                self._live[plugin_id] = _Live(plugin)
                self._look_at(plugin_id)
            elif known.plugin is not plugin:
                known.plugin = plugin

    def _folders(self) -> tuple[Path, ...]:
        found: set[Path] = set()
        for each in list(self._live.values()):
            found.update(watched_folders(self._place(each.plugin), reload_wish(each.plugin.manifest).watch_paths))
        return tuple(sorted(found))

    def _place(self, plugin: Plugin) -> Path:
        return self.parts.home / "plugins" / plugin.id

    def _look_at_all(self) -> None:
        for plugin_id in self._live:
            self._look_at(plugin_id)

    def _look_at(self, plugin_id: PluginId) -> None:
        if plugin_id in self._tasks:
            # WHY: what changes while it is looked at is looked at once more.
            self._again.add(plugin_id)
            return
        task = asyncio.get_running_loop().create_task(self._reload_if_changed(plugin_id))
        self._tasks[plugin_id] = task
        task.add_done_callback(lambda _done: self._looked_at(plugin_id))

    def _looked_at(self, plugin_id: PluginId) -> None:
        self._tasks.pop(plugin_id, None)
        if plugin_id in self._again and plugin_id in self._live:
            self._again.discard(plugin_id)
            self._look_at(plugin_id)

    async def _reload_if_changed(self, plugin_id: PluginId) -> None:
        live = self._live.get(plugin_id)
        if live is None:
            return
        content = await asyncio.to_thread(self._changed, live)
        if content is None:
            return
        owner = Caller(user_id=UserId(self.parts.owner), owner=True)
        try:
            done = await reload_changed(self.parts, owner, plugin_id, _WHY, Trigger.WATCH)
            _log.info("plugin %s: %s: %s", plugin_id, _WHY, done.outcome.value)
        except LogUnavailableError as error:
            _log.error("a reload of %s waits for the decision log: %s", plugin_id, error)
            await asyncio.sleep(_AGAIN_S)
            live.seen = ()
            self._again.add(plugin_id)
        except HearthgateError as error:
            _log.warning("plugin %s was not reloaded: %s", plugin_id, error)
        else:
            live.tried = content

    def _changed(self, live: _Live) -> str | None:
        """Give the content of what is watched if it is neither in force nor was tried already."""
        plugin, place = live.plugin, self._place(live.plugin)
        wish = reload_wish(plugin.manifest)
        files = watched_files(place, wish.watch_paths, plugin.manifest.entry_point)
        seen = stamps(files)
        if seen == live.seen:
            return None
        live.seen = seen
        content = content_of(place, files)
        if content == live.tried or plugin.digest is None:
            return None
        kept = snapshot_path(self.parts.snapshots, plugin.digest)
        in_force = content_of(kept, watched_files(kept, wish.watch_paths, plugin.manifest.entry_point))
        if content == in_force:
            live.tried = ""
            return None
        return content


def _wanted(parts: Parts) -> Mapping[PluginId, Plugin]:
    holds = parts.registry.holds
    return {
        plugin.id: plugin
        for plugin in parts.registry.plugins.all()
        if plugin.state is State.ACTIVE
        and plugin.digest is not None
        and reload_wish(plugin.manifest).live
        and holds.locked(subject=plugin_subject(plugin.id), user=None, kind="") is None
    }


def _soon(loop: asyncio.AbstractEventLoop, look: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # WHY: the loop closed between the edit and this call
        loop.call_soon_threadsafe(look)
