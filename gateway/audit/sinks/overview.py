"""The sinks of a home as the gateway sees them: it tells how far they are, and never delivers itself."""

from collections.abc import Sequence
from pathlib import Path

from gateway.audit.sinks.place import Place
from gateway.audit.sinks.sink import Sink
from gateway.domain.request import Json
from gateway.errors import NotFoundError


class Sinks:
    """Where records go on to."""

    def __init__(self, data: Path, sinks: Sequence[Sink]) -> None:
        self._data = data
        self._sinks = {sink.name: sink for sink in sinks}

    def __bool__(self) -> bool:
        return bool(self._sinks)

    @property
    def names(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self._sinks)

    def states(self, size: int) -> list[dict[str, Json]]:
        """Give each sink with how far it is behind a log of `size` records.

        Raises:
            LogUnavailableError: a position cannot be read.

        """
        return [self._state(sink, size) for sink in self._sinks.values()]

    def send_again(self, name: str, size: int) -> dict[str, Json]:
        """Have what a sink put aside delivered once more, and give the sink.

        Raises:
            NotFoundError: there is no such sink, or it put nothing aside.

        """
        if name not in self._sinks:
            raise NotFoundError(f"no sink `{name[:80]}`")
        Place(self._data, name).send_again()
        return self._state(self._sinks[name], size)

    def _state(self, sink: Sink, size: int) -> dict[str, Json]:
        position = Place(self._data, sink.name).read()
        if position is None:
            return {**sink.as_json(), "position": None, "lag": None}
        return {**sink.as_json(), **position.as_json(), "lag": max(0, size - position.position)}
