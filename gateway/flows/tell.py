"""To tell of what was taken away: in force at once, and recorded as soon as the log can be written."""

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from gateway.domain.record import Record
from gateway.errors import HearthgateError, LogUnavailableError
from gateway.flows.parts import Parts

_log = logging.getLogger("hearthgate.plugins")


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


async def settle(parts: Parts, correct: Callable[[], Awaitable[None]], record: Record) -> None:
    """Correct what could not be finished, and record it; what cannot be done now is done as soon as it can be.

    `correct` may be called more than once.
    """
    try:
        await correct()
    except HearthgateError as error:
        _log.error("a correction has to wait: %s", error)
        parts.unfinished.append(correct)
    with suppress(LogUnavailableError):
        await tell(parts, record)


async def settle_later(parts: Parts) -> None:
    """Finish what had to wait, oldest first: corrections, then records."""
    while parts.unfinished:
        async with parts.editing:
            try:
                await parts.unfinished[0]()
            except HearthgateError:
                return
            parts.unfinished.popleft()
    await tell_untold(parts)
