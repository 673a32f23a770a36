"""To notice that a plugin became riskier, or less risky, by an edit, a grant or what it did; and to record it."""

import asyncio
import logging

from gateway.audit.query import LogReader
from gateway.audit.wanted import Filter
from gateway.domain.lifecycle import State
from gateway.domain.names import PluginId
from gateway.domain.record import Record, Resolution
from gateway.domain.request import Json
from gateway.domain.risk import Risk
from gateway.errors import HearthgateError
from gateway.flows.memberships import active_plugins
from gateway.flows.parts import Parts
from gateway.flows.plugin_risk import assess, assessed
from gateway.policy.plugin_risk import plugin_risks

_TOGETHER_S = 1.0  # what happens within it is looked at once
_BY_RIGHTS = ("policy_activated",)
_BY_DEEDS = ("permission_violation", "execution_timeout", "execution_failed")
_log = logging.getLogger("hearthgate.plugins")


class RiskWatch:
    """Looks at the risk of active plugins when it may have changed, never while somebody waits."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._reader = LogReader(parts.home / "data")
        self._rights: dict[PluginId, Risk] = {}  # of active plugins, as they were when last looked at
        # Score and tier as they were recorded last, of a plugin and when it was registered.
        self._known: dict[tuple[PluginId, str], tuple[int, str]] = {}
        self._changed: set[str] | None = set()  # plugins to look at; None: all of them
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        for event_type in (*_BY_RIGHTS, *_BY_DEEDS):
            parts.log.listeners.setdefault(event_type, []).append(self._hear)

    async def begin(self) -> None:
        """Remember the rights of the plugins that are active when the gateway opens."""
        self._rights = await asyncio.to_thread(self._rights_now)

    def _rights_now(self) -> dict[PluginId, Risk]:
        policy = self._parts.policy.get()
        if policy is None:
            return {}
        risks = plugin_risks(policy)
        return {plugin_id: risks.risk(plugin_id) for plugin_id in active_plugins(self._parts)}

    def _hear(self, record: Record) -> None:
        if record.event_type in _BY_RIGHTS:
            self._changed = None
        elif self._changed is not None and record.plugin_id is not None:
            self._changed.add(record.plugin_id)
        if self._task is None and not self._closed:
            self._task = asyncio.create_task(self._look())

    async def _look(self) -> None:
        try:
            while (self._changed is None or self._changed) and not self._closed:
                await asyncio.sleep(_TOGETHER_S)
                which, self._changed = self._changed, set()
                for plugin_id in sorted(await self._moved() if which is None else which):
                    if not self._closed:
                        await self._look_at(PluginId(plugin_id))
        except Exception:  # noqa: BLE001 (nobody waits for this; the next change looks again)
            _log.exception("the risk of plugins could not be looked at")
        finally:
            self._task = None

    async def _moved(self) -> set[str]:
        """Name the active plugins whose rights weigh otherwise than before; their log is read for these alone."""
        before, self._rights = self._rights, await asyncio.to_thread(self._rights_now)
        return {each for each, risk in self._rights.items() if before.get(each) != risk}

    async def _look_at(self, plugin_id: PluginId) -> None:
        parts = self._parts
        plugin = parts.registry.plugins.get(plugin_id)
        if plugin is None or plugin.state is not State.ACTIVE:
            return
        try:
            risk = (await asyncio.to_thread(assess, parts, self._reader, plugin)).computed
            life = (plugin_id, plugin.registered_at)
            before = self._known.get(life) or await asyncio.to_thread(self._recorded, plugin_id)
            if before is not None and before != (risk.score, risk.tier.value):
                facts: dict[str, Json] = {
                    **assessed(plugin.manifest, risk),
                    "before": {"score": before[0], "tier": before[1]},
                }
                await parts.log.append(
                    Record(
                        event_id=parts.event_id(),
                        at=parts.now(),
                        event_type="risk_assessment",
                        resolution=Resolution.COMPLETED,
                        plugin_id=plugin_id,
                        risk_score=risk.score,
                        details=facts,
                    )
                )
            self._known[life] = (risk.score, risk.tier.value)
        except HearthgateError as error:
            # WHY: the next change looks again, against what was known before.
            _log.warning("plugin %s: its risk could not be looked at: %s", plugin_id, error)

    def _recorded(self, plugin_id: PluginId) -> tuple[int, str] | None:
        """Give what the log says of it: a registration's assessment, or one before a restart."""
        rows = self._reader.find(Filter(plugin=plugin_id, event_type="risk_assessment"), limit=1).rows
        return (int(rows[0]["details"]["score"]), str(rows[0]["details"]["computed"])) if rows else None

    async def close(self) -> None:
        """Stop looking."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
