"""Records of what people do to the gateway."""

from collections.abc import Mapping

from msgspec.structs import replace

from gateway.domain.caller import Caller
from gateway.domain.record import Record, Resolution
from gateway.domain.request import Json
from gateway.flows.parts import Parts

_SAID = frozenset({"reason", "purpose"})  # WHY: what people wrote in their own words may name people.


def event(parts: Parts, caller: Caller, event_type: str, plugin_id: str | None, details: Mapping[str, Json]) -> Record:
    """Make the record of something that a caller does, and completes."""
    told = {**({} if caller.reason is None else {"reason": caller.reason}), **details}
    behalf: dict[str, Json] = {} if caller.on_behalf is None else {"on_behalf": caller.on_behalf}
    return Record(
        event_id=parts.event_id(),
        at=parts.now(),
        event_type=event_type,
        resolution=Resolution.COMPLETED,
        plugin_id=plugin_id,
        user_id=caller.user_id,
        details={name: value for name, value in told.items() if name not in _SAID},
        personal={**behalf, **{name: value for name, value in told.items() if name in _SAID}},
        trace_id=caller.trace_id,
    )


def waiting(record: Record) -> Record:
    """Give the record of something that waits for an answer."""
    return replace(record, resolution=Resolution.PENDING)


def naming(record: Record, **personal: Json) -> Record:
    """Give a record that also says something of a person, erasable."""
    return replace(record, personal={**record.personal, **personal})
