"""Which plugins are being reloaded: of each at most one reload at a time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary


class ReloadTurns:
    """Lets one reload of a plugin in after the other."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._under_way: set[str] = set()

    @asynccontextmanager
    async def turn(self, plugin_id: str) -> AsyncIterator[None]:
        """Wait for the reload of this plugin that is under way, and be the next."""
        async with self._locks.setdefault(plugin_id, asyncio.Lock()):
            self._under_way.add(plugin_id)
            try:
                yield
            finally:
                self._under_way.discard(plugin_id)

    def is_under_way(self, plugin_id: str) -> bool:
        """Tell whether a plugin is being reloaded."""
        return plugin_id in self._under_way
