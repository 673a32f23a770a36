"""Where calls of plugins are counted up between their end and their evaluation."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gateway.bench.figures import Sample
from gateway.bench.runs import Runs

Recall = Callable[[str, int, int], Sequence[Sample]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """What is known of plugins' calls; `recall(plugin, generation, known)` reads older ones from the log.

    `known` is how many of the newest the caller has already; it may be called from any thread.
    """

    recall: Recall
    runs: Runs = field(default_factory=Runs)
    evaluating: dict[str, "asyncio.Task[None]"] = field(default_factory=dict)
    recalled: set[str] = field(default_factory=set)
    active: set[str] = field(default_factory=set)  # plugins that an active benchmark runs on

    def forget(self, plugin_id: str) -> None:
        """Let go of a plugin."""
        self.runs.forget(plugin_id)
        self.recalled.discard(plugin_id)

    async def close(self) -> None:
        """End what is under way."""
        tasks = list(self.evaluating.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
