"""Records of what people do to the gateway."""

from collections.abc import Mapping
from dataclasses import replace

from gateway.domain.caller import Caller
from gateway.domain.record import Record, Resolution
from gateway.domain.request import Json
from gateway.flows.parts import Parts


def event(parts: Parts, caller: Caller, event_type: str, plugin_id: str | None, details: Mapping[str, Json]) -> Record:
    """Make the record of something that a caller does, and completes."""
    why: dict[str, Json] = {} if caller.reason is None else {"reason": caller.reason}
    return Record(
        event_id=parts.event_id(),
        at=parts.now(),
        event_type=event_type,
        resolution=Resolution.COMPLETED,
        plugin_id=plugin_id,
        user_id=caller.user_id,
        details={**why, **details},
        personal={} if caller.on_behalf is None else {"on_behalf": caller.on_behalf},
        trace_id=caller.trace_id,
    )


def waiting(record: Record) -> Record:
    """Give the record of something that waits for an answer."""
    return replace(record, resolution=Resolution.PENDING)


def naming(record: Record, **personal: Json) -> Record:
    """Give a record that also says something of a person, erasable."""
    return replace(record, personal={**record.personal, **personal})
