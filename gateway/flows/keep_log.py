"""To keep the log in files of a bearable size, and no longer than was set: rotation and retention."""

from dataclasses import dataclass
from datetime import timedelta

from gateway.audit.leaf import microseconds
from gateway.audit.segment import DROPPED, Segment
from gateway.domain.caller import Caller
from gateway.domain.permission import Level
from gateway.domain.record import Record, Resolution
from gateway.domain.request import Json
from gateway.errors import UnavailableError
from gateway.flows.authorize import authorize
from gateway.flows.event import event
from gateway.flows.parts import Parts


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """When a file of the log is closed, and when a closed one is dropped."""

    segment_bytes: int
    segment_days: int
    keep_days: int | None = None  # None: for ever
    keep_segments: int | None = None  # None: however many


async def rotate_log(parts: Parts, caller: Caller) -> Segment:
    """Close the live file of the log now.

    Raises:
        DeniedError: the caller may not.
        UnavailableError: it has no record yet, or somebody reads it just now.
        LogUnavailableError: the log failed.
    """
    await authorize(parts, caller, Level.ADMIN, "audit/rotate", key_scope="admin")
    closed = await parts.log.rotate()
    if closed is None:
        raise UnavailableError("somebody reads the live file just now", way_out="try again")
    await parts.log.append(event(parts, caller, "segment_closed", None, closed.as_json()))
    return closed


async def keep_log(parts: Parts, keeping: Keeping) -> None:
    """Close the live file if it is large or old enough, and drop closed files that were kept long enough.

    Raises:
        LogUnavailableError: the log failed.
    """
    if not parts.log.healthy:
        return
    if _due(parts, keeping) and (closed := await parts.log.rotate()) is not None:
        await parts.log.append(_told(parts, "segment_closed", closed.as_json()))
    for segment, why in _too_old(parts, keeping):
        if not await parts.log.drop(segment, _told(parts, DROPPED, {**segment.as_json(), "why": why})):
            return


def _due(parts: Parts, keeping: Keeping) -> bool:
    _, oldest_us, size = parts.log.live
    if oldest_us is None:
        return False
    return size >= keeping.segment_bytes or oldest_us < _days_ago(parts, keeping.segment_days)


def _too_old(parts: Parts, keeping: Keeping) -> list[tuple[Segment, str]]:
    """Name the closed files to drop, oldest first, each with the setting that says so."""
    kept = [each for each in parts.log.segments if each.kept]
    over = 0 if keeping.keep_segments is None else max(0, len(kept) - keeping.keep_segments)
    found = [(each, f"keep_segments = {keeping.keep_segments}") for each in kept[:over]]
    for each in kept[over:]:
        # INVARIANT: what is kept has no hole: a file behind one that is kept is kept.
        if keeping.keep_days is None or each.last_ts_us >= _days_ago(parts, keeping.keep_days):
            break
        found.append((each, f"keep_days = {keeping.keep_days}"))
    return found


def _days_ago(parts: Parts, days: int) -> int:
    return microseconds(parts.now() - timedelta(days=days))


def _told(parts: Parts, event_type: str, details: dict[str, Json]) -> Record:
    return Record(
        event_id=parts.event_id(),
        at=parts.now(),
        event_type=event_type,
        resolution=Resolution.COMPLETED,
        details=details,
    )
