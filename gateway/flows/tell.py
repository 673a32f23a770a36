"""To tell of what was taken away: in force at once, and recorded as soon as the log can be written."""

from gateway.domain.record import Record
from gateway.errors import LogUnavailableError
from gateway.flows.parts import Parts


async def tell(parts: Parts, record: Record) -> None:
    """Record something that is in force already; what cannot be recorded now is kept and recorded later.

    Raises:
        LogUnavailableError: it is in force, and not recorded yet.
    """
    try:
        await parts.log.append(record)
    except LogUnavailableError as error:
        parts.untold.append(record)
        raise LogUnavailableError(
            f"it is in force, but could not be recorded yet: {error.message}", retry_after_s=error.retry_after_s
        ) from error


async def tell_untold(parts: Parts) -> None:
    """Record what could not be recorded before, oldest first."""
    while parts.untold:
        try:
            await parts.log.append(parts.untold[0])
        except LogUnavailableError:
            return
        parts.untold.popleft()
