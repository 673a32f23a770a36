"""The latest real calls of each plugin's generation, held in memory."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.bench.figures import Sample

KEPT = 1000  # of one generation: enough to tell an error rate of one in a thousand
EVERY = 10  # calls from one evaluation to the next


@dataclass(slots=True)
class _Generation:
    number: int
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=KEPT))
    since_evaluation: int = 0
    since_benchmark: int = 0


class Runs:
    """Takes each call's sample as it ends; of a plugin the generation in force alone is held."""

    def __init__(self) -> None:
        self._held: dict[str, _Generation] = {}

    def add(self, plugin_id: str, generation: int, sample: Sample) -> bool:
        """Take a sample; tells whether an evaluation is due."""
        held = self._of(plugin_id, generation)
        if held.number != generation:
            return False  # WHY: a call that began on an older generation says nothing of the one in force
        held.samples.append(sample)
        held.since_evaluation += 1
        held.since_benchmark += 1
        return self.is_due(plugin_id)

    def is_due(self, plugin_id: str) -> bool:
        """Tell whether so many calls ended since the last evaluation that another is due."""
        held = self._held.get(plugin_id)
        return held is not None and held.since_evaluation >= EVERY

    def recall(self, plugin_id: str, generation: int, samples: Sequence[Sample]) -> None:
        """Put samples of earlier calls, the oldest first, before those held."""
        held = self._of(plugin_id, generation)
        if held.number == generation:
            held.samples = deque([*samples, *held.samples], maxlen=KEPT)

    def of(self, plugin_id: str, generation: int) -> tuple[Sample, ...]:
        """Give the samples of a generation, the oldest first."""
        held = self._held.get(plugin_id)
        return tuple(held.samples) if held is not None and held.number == generation else ()

    def since_benchmark(self, plugin_id: str) -> int:
        """Give how many calls ended since somebody benchmarked the plugin."""
        held = self._held.get(plugin_id)
        return 0 if held is None else held.since_benchmark

    def benchmarked(self, plugin_id: str) -> None:
        """Begin to count anew what came since somebody benchmarked the plugin."""
        if plugin_id in self._held:
            self._held[plugin_id].since_benchmark = 0

    def evaluated(self, plugin_id: str) -> None:
        """Begin to count anew what came since the last evaluation."""
        if plugin_id in self._held:
            self._held[plugin_id].since_evaluation = 0

    def forget(self, plugin_id: str) -> None:
        """Let go of a plugin."""
        self._held.pop(plugin_id, None)

    def _of(self, plugin_id: str, generation: int) -> _Generation:
        held = self._held.get(plugin_id)
        if held is None or held.number < generation:
            held = self._held[plugin_id] = _Generation(generation)
        return held
